"""Rooms of an ASGI application: clients that come and go at awkward moments."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from pycrdt import Channel, Doc, Provider, Text
from support.waiting import until
from transports.backends import Backend, RedisBackend

from jupyter_teleportal import WebsocketServer


class Pipe(Channel):
    """One end of a channel within the process."""

    def __init__(self, path: str, inbox: asyncio.Queue[bytes | None]) -> None:
        self._path = path
        self.inbox = inbox
        self.other: Pipe | None = None

    @property
    def path(self) -> str:
        return self._path

    async def send(self, message: bytes) -> None:
        assert self.other is not None
        self.other.inbox.put_nowait(message)

    async def recv(self) -> bytes:
        message = await self.inbox.get()
        if message is None:
            raise EOFError
        return message

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except EOFError:
            raise StopAsyncIteration from None


def pipe(path: str) -> list[Pipe]:
    """Both ends of a channel."""
    ends = [Pipe(path, asyncio.Queue()) for _ in range(2)]
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends


class Client:
    def __init__(self) -> None:
        self.doc: Doc[Any] = Doc()
        self.text = self.doc.get("text", type=Text)

    def __str__(self) -> str:
        return str(self.text)

    @contextlib.asynccontextmanager
    async def at(self, server: WebsocketServer, path: str = "room") -> AsyncIterator[None]:
        """Connect; at the end the server is told and not waited for."""
        ends = pipe(path)
        serving = asyncio.ensure_future(server.serve(ends[0]))
        server_tasks.append(serving)
        async with Provider(self.doc, ends[1]):
            yield
        ends[0].inbox.put_nowait(None)


server_tasks: list[asyncio.Future[None]] = []


@contextlib.asynccontextmanager
async def two_servers(backend: Backend) -> AsyncIterator[list[WebsocketServer]]:
    """Not a fixture: a server has to be closed by the task that opened it."""
    server_tasks.clear()
    async with (
        WebsocketServer(sync_transport=await backend.make()) as one,
        WebsocketServer(sync_transport=await backend.make()) as two,
    ):
        yield [one, two]
        with anyio.fail_after(5):
            results = await asyncio.gather(*server_tasks, return_exceptions=True)
        assert [result for result in results if result is not None] == []


async def test_two_servers_share_a_room(backend: Backend) -> None:
    async with two_servers(backend) as servers:
        alice, bob = Client(), Client()
        async with alice.at(servers[0]), bob.at(servers[1]):
            alice.text += "Hello "
            await until(lambda: str(bob) == "Hello ")
            bob.text += "world"
            await until(lambda: str(alice) == str(bob) == "Hello world")


async def test_many_clients_open_a_new_room_at_once(backend: Backend) -> None:
    async with two_servers(backend) as servers:
        clients = [Client() for _ in range(10)]
        async with contextlib.AsyncExitStack() as stack:
            for number, client in enumerate(clients):
                await stack.enter_async_context(client.at(servers[number % 2]))
                client.text += f"{number} "
            await until(lambda: all(len(str(client).split()) == 10 for client in clients))
            assert len({str(client) for client in clients}) == 1


async def test_who_comes_while_the_room_is_closed_gets_a_living_one(
    backend: Backend,
) -> None:
    async with two_servers(backend) as servers:
        alice, bob = Client(), Client()
        async with bob.at(servers[1]):
            for number in range(10):
                async with alice.at(servers[0]):
                    alice.text += f"{number} "
                    await until(lambda number=number: str(bob).endswith(f"{number} "))
            assert str(bob).split() == [str(number) for number in range(10)]


async def test_a_room_without_clients_is_closed_and_its_log_kept_for_a_while(
    backend: Backend,
) -> None:
    async with two_servers(backend) as servers:
        alice = Client()
        async with alice.at(servers[0]):
            alice.text += "kept"
            room = await until(lambda: servers[0].rooms.get("room"))
            (link,) = servers[0].replica.links.values()
            await until(lambda: room.clients and str(room.ydoc.get("text", type=Text)) == "kept")
            await until(lambda: link.replicator.settled)
        await until(lambda: not servers[0].rooms and not servers[0].replica.links)
        if isinstance(backend, RedisBackend):

            def lasting() -> set[bytes]:
                with backend.server.cli() as client:
                    return {key for key in client.scan_iter() if client.ttl(key) == -1}

            await until(lambda: not lasting(), what="an expiry for every key")
        bob = Client()
        async with bob.at(servers[1]):
            await until(lambda: str(bob) == "kept")


async def test_a_client_that_is_gone_before_it_is_served_leaves_no_room_behind(
    backend: Backend,
) -> None:
    class Gone(Pipe):
        async def send(self, message: bytes) -> None:
            raise OSError("gone")

    async with two_servers(backend) as servers:
        (outcome,) = await asyncio.gather(
            servers[0].serve(Gone("room", asyncio.Queue())), return_exceptions=True
        )
        assert isinstance(outcome, Exception)
        assert not servers[0].rooms
        assert not servers[0].replica.links


async def test_deleting_a_room_that_is_not_there(backend: Backend) -> None:
    async with two_servers(backend) as servers:
        with pytest.raises(KeyError):
            await servers[0].delete_room(name="never")
