"""The ASGI example: two real processes, one Redis, two people on one document."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from pycrdt import Channel, Doc, Provider, Text
from support.processes import ChildProcess, free_port
from support.redis_server import RedisServer
from support.waiting import until

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "asgi"


class Process:
    """One `uvicorn server:app`."""

    def __init__(self, redis_url: str, folder: Path, name: str) -> None:
        self.port = free_port()
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "uvicorn", "server:app", "--port", str(self.port)]
        self.child = ChildProcess(
            command, log_path=self.log, cwd=EXAMPLE, env={**os.environ, "REDIS_URL": redis_url}
        )

    async def wait_until_up(self) -> None:
        async def answers() -> bool:
            assert self.child.running, self.log.read_text()
            async with httpx.AsyncClient() as client:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get(f"http://127.0.0.1:{self.port}")).is_success
            return False

        await until(answers, 30, "uvicorn to answer", poll=0.1)


class Socket(Channel):
    """A WebSocket as pycrdt's provider takes it; what is sent after its end is lost."""

    def __init__(self, connection: Any, path: str) -> None:
        self._connection = connection
        self._path = path

    @property
    def path(self) -> str:
        return self._path

    async def send(self, message: bytes) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await self._connection.send(message)

    async def recv(self) -> bytes:
        return await self._connection.recv()

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except websockets.ConnectionClosed:
            raise StopAsyncIteration from None


class Person:
    """Somebody with a document, who may connect to one process after another."""

    def __init__(self) -> None:
        self.doc: Doc[Any] = Doc()
        self.text = self.doc.get("text", type=Text)

    def __str__(self) -> str:
        return str(self.text)

    @contextlib.asynccontextmanager
    async def at(self, process: Process, room: str = "my-room") -> AsyncIterator[Any]:
        url = f"ws://127.0.0.1:{process.port}/{room}"
        async with (
            websockets.connect(url) as connection,
            Provider(self.doc, Socket(connection, room)),
        ):
            yield connection


@pytest.fixture
def processes(redis_server: RedisServer, tmp_path: Path) -> Iterator[list[Process]]:
    made = [Process(redis_server.url, tmp_path, name) for name in ("first", "second")]
    yield made
    for process in made:
        process.child.kill()


async def test_two_processes_share_a_room_and_one_of_them_dies(
    processes: list[Process], redis_server: RedisServer
) -> None:
    first, second = processes
    for process in processes:
        await process.wait_until_up()
    alice, bob = Person(), Person()
    async with bob.at(second):
        async with alice.at(first) as connection:
            alice.text += "Hello "
            await until(lambda: str(bob) == "Hello ", what="bob to see what alice writes")
            bob.text += "world "
            await until(lambda: str(alice) == "Hello world ", what="alice to see bob's edit")

            first.child.kill()
            await connection.wait_closed()
            alice.text += "(written offline) "
        bob.text += "(written meanwhile) "
        async with alice.at(second):
            alice.text += "and on"
            await until(
                lambda: str(alice) == str(bob) and "and on" in str(bob), what="one document"
            )
    for part in ("Hello world ", "(written offline) ", "(written meanwhile) ", "and on"):
        assert str(bob).count(part) == 1

    # A process that starts later has it all, and so has who comes when everybody has gone.
    carol = Person()
    async with carol.at(second):
        await until(lambda: str(carol) == str(bob), what="carol to see it all")
    dave, erin = Person(), Person()
    async with dave.at(second, "another-room"), erin.at(second, "another-room"):
        dave.text += "something else"
        await until(lambda: str(erin) == "something else", what="rooms of their own")
        assert str(carol) == str(bob)

    # Left in good order: everything that stays in Redis stays for a while only.
    assert second.child.terminate(10), second.log.read_text()
    assert "Traceback" not in second.log.read_text()
    with redis_server.cli() as client:
        for_ever = [key for key in client.scan_iter() if client.ttl(key) == -1]
        assert client.keys("*my-room*log")
        assert for_ever == []


async def test_a_wrong_url_is_said_at_once(tmp_path: Path) -> None:
    process = Process("http://nowhere", tmp_path, "wrong")
    try:
        await until(lambda: not process.child.running, 30, "uvicorn to give up")
        log = process.log.read_text()
        assert "redis_url" in log
        assert "Traceback" not in log
    finally:
        process.child.kill()
