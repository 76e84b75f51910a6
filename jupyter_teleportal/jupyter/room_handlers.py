"""Upstream's handlers for rooms and sessions, taught to ask the seam first.

They are classes that all servers of a process share: on a server that has a seam, the seam lies in
its settings; a server without one is served as ever.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from typing import Any, Protocol
from weakref import WeakSet

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server_ydoc.utils import room_id_from_encoded_path
from tornado import web

from ..clients.guard import ClientGuard
from ..clients.serving import TAKE
from ..clients.tornado_sockets import in_bulk
from ..core.authorization import READ, allows
from ..core.errors import ForeignBytes
from ..core.messages import Received
from ..core.update_walk import AWARENESS, SYNC, read_message, read_save_request
from .admission import Admissions, admission_of
from .occupancy import Occupancy
from .plain_rooms import PlainRooms

# A module of names that are replaced here, so no type checker can vouch for it.
upstream_handlers: Any = importlib.import_module("jupyter_server_ydoc.handlers")

SETTINGS_KEY = "jupyter_teleportal"

TAKEN_S = 0.001

REASON_BYTES = 123
"""The longest reason that a close frame holds."""


class Seam(Protocol):
    """What the handlers ask of the seam; `rooms.Seam` is one."""

    admissions: Admissions
    guard: ClientGuard
    occupancy: Occupancy
    plain_rooms: PlainRooms

    def knows_session(self, session: str) -> bool: ...

    async def before_session(self, api_path: str) -> None: ...

    async def before_room(self, room_id: str) -> bool: ...

    def refused(self, client: Any, room_id: str, error: Exception) -> None: ...

    def complain_of_client(self, room_id: str, error: Exception) -> None: ...


seams_in_use: WeakSet[Seam] = WeakSet()


def seam_of(handler: Any) -> Seam | None:
    """The seam of the handler's server."""
    found: Seam | None = handler.settings.get(SETTINGS_KEY)
    return found


def may_send(handler: Any, message: bytes) -> bool:
    """Whether the handler's client has the right that its message needs."""
    admission = admission_of(handler)
    if admission is None:
        return False
    if admission.rights.write or allows(admission.rights, message):
        return True
    admission.refused = True
    return False


async def refuse_save(handler: Any, message: bytes) -> None:
    """Tell a client that waits for its document to be saved that it was not."""
    request = read_save_request(message)
    if request is not None:
        reply = {"type": "save", "responseTo": request, "status": "failed"}
        await handler.send(handler._encode_json_message(reply))


def fitting(reason: str | None) -> str | None:
    """Return a reason to close a connection that fits into a close frame: JupyterLab shows what
    stands in its field ``errorReason``. With a longer one the connection would just break."""
    if reason is None or len(reason.encode()) <= REASON_BYTES:
        return reason
    try:
        fields = json.loads(reason)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("errorReason"), str):
        return reason.encode()[:REASON_BYTES].decode(errors="ignore")
    if fields.get("reloadable") is False:
        del fields["reloadable"]
    told = fields["errorReason"]
    while told:
        made = json.dumps({**fields, "errorReason": told}, separators=(",", ":"))
        if len(made.encode()) <= REASON_BYTES:
            return made
        told = told[:-1]
    return None


def install_handlers() -> None:
    """Let upstream's handlers ask the seam first, on servers that have one. Done once for the
    process; a server without a seam is served as ever."""
    session_handler = upstream_handlers.DocSessionHandler
    room_handler = upstream_handlers.YDocWebSocketHandler
    if getattr(session_handler.put, "asks_seam", False):
        return
    close, on_users = room_handler.close, room_handler._on_global_awareness_event
    put, prepare, open_room, check_origin, on_message, on_close, on_finish, protocol, check = (
        session_handler.put,
        room_handler.prepare,
        room_handler.open,
        room_handler.check_origin,
        room_handler.on_message,
        room_handler.on_close,
        room_handler.on_finish,
        room_handler.get_websocket_protocol,
        upstream_handlers.check_session_compatibility,
    )

    async def put_registered(self: Any, path: str) -> Any:
        seam = seam_of(self)
        assert seam is not None
        await seam.before_session(path)
        return await inspect.unwrap(put)(self, path)

    # A PUT is a question for "write" by default, but whoever may read may open a document.
    put_by_readers: Any = web.authenticated(authorized(READ)(put_registered))

    async def put_asking(self: Any, path: str) -> Any:
        return await (put if seam_of(self) is None else put_by_readers)(self, path)

    async def prepare_admitted(self: Any) -> None:
        seam = seam_of(self)
        if seam is None:
            await prepare(self)
            return
        self._room_id = room_id_from_encoded_path(self.request.path)
        await seam.admissions.admit(self)
        if not await seam.before_room(self._room_id):
            self.set_status(404)
            self.finish()
            return
        await seam.occupancy.enter(self, self._room_id, prepare)

    async def open_admitted(self: Any, room_id: str) -> None:
        seam = seam_of(self)
        if seam is not None:
            seam.admissions.opened(self)
        await open_room(self, room_id)

    def check_same_origin(self: Any, origin: str) -> bool:
        checks = check_origin if seam_of(self) is None else JupyterHandler.check_origin
        return bool(checks(self, origin))

    async def on_readable_message(self: Any, message: Any) -> None:
        seam = seam_of(self)
        if seam is not None:
            read = blocks = None
            if isinstance(message, Received):
                message, read, blocks = message
            try:
                read = read or read_message(message)
            except ForeignBytes as error:
                seam.refused(self, self.path, error)
                return
            if not may_send(self, message):
                await refuse_save(self, message)
                return
            try:
                await seam.plain_rooms.check(self.room, read)
            except ForeignBytes as error:
                seam.refused(self, self.path, error)
                return
            take = getattr(self, TAKE, None)
            if take is not None and read.kind in (SYNC, AWARENESS):
                await take(message, read, blocks)
                return
        try:
            await on_message(self, message)
        except (IndexError, ValueError) as error:
            if seam is None:
                raise
            seam.complain_of_client(self.path, error)
            return
        # What comes faster than it is taken must not gather.
        while not self._message_queue.empty() and self.ws_connection is not None:  # noqa: ASYNC110
            await asyncio.sleep(TAKEN_S)

    def bulk_protocol(self: Any) -> Any:
        seam = seam_of(self)
        connection = protocol(self)
        return in_bulk(connection, seam.guard) if seam is not None else connection

    def closed(self: Any) -> None:
        seam = seam_of(self)
        if seam is not None:
            seam.occupancy.leaving(self)
        if seam is None or hasattr(self, "room"):  # which is gone where it could not be opened
            on_close(self)
        if seam is not None:
            seam.occupancy.left(self)

    def finished(self: Any) -> None:
        on_finish(self)
        seam = seam_of(self)
        if seam is not None and admission_of(self) is not None:
            seam.occupancy.finished(self)

    def close_with_reason(self: Any, code: int | None = None, reason: str | None = None) -> None:
        close(self, code, reason if seam_of(self) is None else fitting(reason))

    def users_changed(self: Any, topic: str, changes: Any) -> None:
        try:
            on_users(self, topic, changes)
        except (AttributeError, KeyError, TypeError) as error:
            # Upstream takes it for granted that each user has a name. It notes them for its log.
            self.log.debug("A user who is there has no name: %r", error)

    def check_known(root_dir: str, session: str, *args: Any, **keywords: Any) -> tuple[bool, str]:
        if any(seam.knows_session(session) for seam in seams_in_use):
            return False, ""
        if seams_in_use:
            # Upstream notes one document version for a session, that of whichever type was opened
            # last. A seed shows by its client id what it was made with, so the room finds out.
            keywords["current_document_version"] = None
        result: tuple[bool, str] = check(root_dir, session, *args, **keywords)
        return result

    setattr(put_asking, "asks_seam", True)  # noqa: B010 (a function has no such attribute)
    session_handler.put = put_asking
    room_handler.prepare = prepare_admitted
    room_handler.open = open_admitted
    room_handler.check_origin = check_same_origin
    room_handler.close = close_with_reason
    room_handler._on_global_awareness_event = users_changed
    room_handler.on_close = closed
    room_handler.on_finish = finished
    room_handler.on_message = on_readable_message
    room_handler.get_websocket_protocol = bulk_protocol
    upstream_handlers.check_session_compatibility = check_known
