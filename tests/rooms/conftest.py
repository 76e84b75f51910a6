"""Fixtures of rooms: the backends of the transports' contract, and documents with files."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from transports.conftest import backend

from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import Disk, Server, Start

__all__ = ["backend"]


@pytest.fixture
def disk() -> Disk:
    return Disk("text")


@pytest.fixture
async def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
async def start(hub: MemoryHub, disk: Disk) -> AsyncIterator[Start]:
    """Starts a server that opens the document, unless it is to be `opened` later; `away`: while
    the hub cannot be reached."""
    running: list[Server] = []

    async def start_server(
        name: str,
        *,
        away: bool = False,
        opened: bool = True,
        file_type: str = "file",
        **timing: float,
    ) -> Server:
        server = Server(hub, disk, name, file_type, **timing)
        running.append(server)
        await server.replica.start()
        if away:
            server.transport.disconnect()
        if opened:
            await server.link.open()
        return server

    yield start_server
    for server in running:
        await server.die()
