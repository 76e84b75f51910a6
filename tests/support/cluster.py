"""Questions about several servers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.server_logs import errors_in
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.jupyter_process import JupyterProcess

OUT_OF_BAND = r"(?i)out.of.band"


async def saver_of(
    servers: Sequence[JupyterProcess], room_id: str, timeout: float = 10.0
) -> tuple[JupyterProcess, list[JupyterProcess]]:
    """Wait until all servers with this room name the same living saver: (saver, the others)."""
    by_replica = {await server.replica_id(): server for server in servers}

    async def agreed() -> str | None:
        named = {
            entry["saver"]
            for server in servers
            if (entry := await server.room_status(room_id)) is not None
        }
        saver = named.pop() if len(named) == 1 else None
        return saver if saver in by_replica else None

    replica = await until(agreed, timeout, what=f"one saver of {room_id}", poll=0.1)
    saver = by_replica[replica]
    return saver, [server for server in servers if server is not saver]


async def transport_state(server: JupyterProcess) -> str:
    """`connected`, `degraded` or `local`."""
    return str((await server.status())["transport"]["state"])


async def wait_connected(*servers: JupyterProcess, timeout: float = 15.0) -> None:
    for server in servers:

        async def connected(server: JupyterProcess = server) -> bool:
            return await transport_state(server) == "connected"

        await until(connected, timeout, what=f"{server.name} connected to Redis", poll=0.1)


async def acknowledged(server: JupyterProcess, room_id: str, timeout: float = 5.0) -> None:
    """Wait until Redis has acknowledged all that this server's room holds."""

    async def nothing_open() -> bool:
        entry = await server.room_status(room_id)
        return entry is not None and entry["unacknowledged"] == 0

    await until(nothing_open, timeout, what=f"acknowledgement of {room_id} on {server.name}")


def assert_no_out_of_band(*servers: JupyterProcess) -> None:
    """No server took another's save for a change from outside."""
    for server in servers:
        lines = server.grep(OUT_OF_BAND)
        assert not lines, f"{server.name} logs an out-of-band change: {lines}"


def assert_no_errors(*servers: JupyterProcess, allowed: Sequence[str] = ()) -> None:
    """No server logged an error or a traceback, but for those with one of the `allowed` texts."""
    for server in servers:
        errors = errors_in(server.log_text(), allowed)
        assert not errors, f"{server.name} logs errors: {errors}\n{server.log_tail()}"
