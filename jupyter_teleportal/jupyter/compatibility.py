"""What is relied on of other packages that they promise to nobody, and whether it is there.

None of them is imported before it is looked at: where one has changed, that is said, and nothing
on the server has been touched.
"""

from __future__ import annotations

import dis
import importlib
import importlib.metadata
import inspect
from collections.abc import Collection, Iterator
from types import CodeType
from typing import Any

from ..core.errors import SeamError

SUPPORTED = {
    "jupyter-server": ((2, 19), (3,)),
    "jupyter-server-ydoc": ((3, 0, 4), (3, 1)),
    "jupyter-ydoc": ((4, 1, 1), (5,)),
    "pycrdt-websocket": ((0, 16, 5), (0, 17)),
    "tornado": ((6, 5), (7,)),
    "redis": ((8, 1), (9,)),
}
"""The lowest version of each package, and the first one that is not supported any more."""

RELIED_ON: dict[str, tuple[str, ...]] = {
    "jupyter_server.base.handlers:JupyterHandler": ("_jupyter_current_user",),
    "jupyter_server.services.contents.fileio:AsyncFileManagerMixin": ("_copy", "_get_hash"),
    "jupyter_server.services.contents.fileio:FileManagerMixin": ("_copy", "_get_os_path"),
    "jupyter_server_ydoc.handlers": (
        "SERVER_SESSION",
        "check_session_compatibility",
        "DocSessionHandler",
    ),
    "jupyter_server_ydoc.handlers:DocSessionHandler": ("put", "auth_resource"),
    "jupyter_server_ydoc.handlers:YDocWebSocketHandler": (
        "prepare",
        "open",
        "check_origin",
        "get_websocket_protocol",
        "on_message",
        "on_close",
        "on_finish",
        "write_message",
        "close",
        "room",
        "_room_id",
        "_clean_room",
        "_cleanup_delay",
        "_encode_json_message",
        "_message_queue",
        "_on_global_awareness_event",
        "_room_locks",
    ),
    "jupyter_server_ydoc.loaders:FileLoader": (
        "observe",
        "load_content",
        "maybe_save_content",
        "maybe_notify",
        "path",
        "last_modified",
        "_contents_manager",
        "_watcher",
    ),
    "jupyter_server_ydoc.rooms:DocumentRoom": (
        "initialize",
        "stop",
        "ready",
        "_document",
        "_document_load_progressively",
        "_emit",
        "_file",
        "_on_document_change",
        "_save_delay",
        "_save_to_disc",
    ),
    "jupyter_server_ydoc.websocketserver:JupyterWebsocketServer": (
        "start",
        "started",
        "start_room",
        "delete_room",
        "get_room",
        "add_room",
    ),
    "jupyter_ydoc:YNotebook": ("_subscriptions", "_undo_manager", "_ymeta"),
    "jupyter_ydoc:YUnicode": ("_subscriptions", "_undo_manager"),
    "pycrdt.websocket:YRoom": (
        "serve",
        "send_server_awareness",
        "_broadcast_updates",
        "_handle_exception",
        "_start",
        "_subscription",
        "_update_receive_stream",
        "_update_send_stream",
        "_watch_ready",
    ),
    "tornado.iostream:BaseIOStream": (
        "read_bytes",
        "write",
        "write_to_fd",
        "writing",
        "_read_buffer",
        "_read_buffer_size",
    ),
    "tornado.web:RequestHandler": ("_headers", "_write_buffer"),
    "tornado.websocket:WebSocketHandler": ("get_websocket_protocol", "on_ws_connection_close"),
    "tornado.websocket:WebSocketProtocol13": (
        "is_closing",
        "_abort",
        "_compressor",
        "_decompressor",
        "_fragmented_message_buffer",
        "_handle_message",
        "_message_bytes_in",
        "_message_bytes_out",
        "_receive_frame",
        "_receive_frame_loop",
        "_wire_bytes_in",
        "_wire_bytes_out",
    ),
    "redis.asyncio.connection:AbstractConnection": ("connect", "disconnect", "_writer"),
}
"""Names of a module, or of a class: its own, its methods' and its instances'."""


def check_installed(*, redis: bool = True) -> None:
    """Make sure that the installed packages have what this one relies on.

    Args:
        redis: whether Redis is used, so that its client has to be loaded.

    Raises:
        SeamError: naming the package, its version and the versions that are supported; or what is
            missing.
    """
    for package, (lowest, below) in SUPPORTED.items():
        if package == "redis" and not redis:
            continue
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise SeamError(f"{package} is not installed") from None
        numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
        if not lowest <= numbers < below:
            raise SeamError(
                f"{package} {version} is installed; this version of jupyter_teleportal works with "
                f"{_dotted(lowest)} up to, but not including, {_dotted(below)}"
            )
    for place, names in RELIED_ON.items():
        if place.startswith("redis.") and not redis:
            continue
        owner = _find(place)
        of_instances = [name for name in names if not hasattr(owner, name)]
        given = _given(owner, of_instances)
        if missing := [name for name in of_instances if name not in given]:
            raise SeamError(f"{place} has no {', '.join(missing)}: its insides have changed")


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if name else found
    except (ImportError, AttributeError) as error:
        raise SeamError(f"{place} is not there: {error}") from error


def _given(owner: Any, names: Collection[str]) -> set[str]:
    """Those of the names that a class's methods give to anything: what its instances have is only
    known there."""
    found: set[str] = set()
    for kind in inspect.getmro(owner) if inspect.isclass(owner) else ():
        for method in vars(kind).values():
            code = getattr(inspect.unwrap(getattr(method, "__func__", method)), "__code__", None)
            for part in () if code is None else _parts(code):
                if not found.issuperset(wanted := set(names).intersection(part.co_names)):
                    steps = dis.get_instructions(part)
                    given = {step.argval for step in steps if step.opname == "STORE_ATTR"}
                    found |= wanted & given
    return found


def _parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _parts(inner)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
