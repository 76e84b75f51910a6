"""A connection to Redis: replies are handed over as they come, and its end is told."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
from support.waiting import until

from jupyter_teleportal.transports.redis.wire import ErrorReply, Wire


class Peer:
    """The other end."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.wire = wire
        self.reader = reader
        self.writer = writer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda *streams: accepted.set_result(streams), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    wire = Wire(SimpleNamespace(_reader=reader, _writer=writer))
    there = Peer(wire, *await accepted)
    yield there
    there.writer.close()
    writer.close()
    # As redis-py does when it closes its connection.
    await asyncio.wait_for(writer.wait_closed(), 5)
    server.close()


def arrived(peer: Peer) -> bytes:
    """What has come at the other end and was not read yet, without a turn of the event loop."""
    number = os.dup(peer.writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=number) as there:
        try:
            return there.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


async def test_a_command_is_sent_at_once_and_what_follows_on_it_together(peer: Peer) -> None:
    packed = [hiredis.pack_command(("SET", name, name * 10)) for name in "abcde"]
    for name in "abc":
        peer.wire.send(("SET", name, name * 10))
    assert arrived(peer) == packed[0]
    await asyncio.sleep(0)
    for name in "de":
        peer.wire.send(("SET", name, name * 10))
    assert arrived(peer) == packed[0]
    sent = b"".join(packed)
    assert await peer.reader.readexactly(len(sent)) == sent
    # Not all of them are answered yet, then they are.
    peer.writer.write(b"+OK\r\n" * 4)
    assert await peer.wire.read() == [b"OK"] * 4
    peer.wire.send(("PING",))
    assert arrived(peer) == b""
    ping = hiredis.pack_command(("PING",))
    assert await peer.reader.readexactly(len(ping)) == ping
    peer.writer.write(b"+OK\r\n" * 2)
    assert await peer.wire.read() == [b"OK"] * 2
    peer.wire.send(("PING",))
    assert arrived(peer) == ping


async def test_what_is_pushed_brings_no_command_before_another(peer: Peer) -> None:
    packed = [hiredis.pack_command((name, "channel")) for name in ("SUBSCRIBE", "UNSUBSCRIBE")]
    peer.wire.send(("PING",))
    await asyncio.sleep(0)
    peer.wire.send(("SUBSCRIBE", "channel"))
    peer.wire.data_received(b"+PONG\r\n" * 3)
    peer.wire.send(("UNSUBSCRIBE", "channel"))
    sent = hiredis.pack_command(("PING",)) + b"".join(packed)
    assert await peer.reader.readexactly(len(sent)) == sent


async def test_replies_are_read_and_then_listened_to(peer: Peer) -> None:
    peer.writer.write(b"+one\r\n")
    assert await peer.wire.read() == [b"one"]
    peer.writer.write(b"-ERR two\r\n+th")
    await asyncio.sleep(0.05)  # so that it is there when listening begins
    taken: list[Any] = []
    listening = asyncio.ensure_future(peer.wire.listen(taken.extend))
    peer.writer.write(b"ree\r\n:4\r\n")
    await until(lambda: len(taken) == 3, what="all replies")
    assert isinstance(taken[0], ErrorReply)
    assert str(taken[0]) == "ERR two"
    assert taken[1:] == [b"three", 4]
    listening.cancel()


@pytest.mark.parametrize("listens", [True, False])
async def test_the_end_of_the_connection_is_told(peer: Peer, listens: bool) -> None:
    waiting = asyncio.ensure_future(peer.wire.listen(print) if listens else peer.wire.read())
    await asyncio.sleep(0)
    peer.writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(ConnectionError):
        await peer.wire.read()
    peer.wire.send(("PING",))  # goes nowhere, and raises nothing


async def test_what_is_no_reply_ends_the_connection(peer: Peer) -> None:
    taken: list[Any] = []
    listening = asyncio.ensure_future(peer.wire.listen(taken.extend))
    peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(hiredis.ProtocolError):
        await asyncio.wait_for(listening, 5)


async def test_an_error_of_whoever_listens_is_told_to_whoever_waits(peer: Peer) -> None:
    taken: list[Any] = []

    def take(replies: list[Any]) -> None:
        taken.extend(replies)
        raise ValueError("no")

    listening = asyncio.ensure_future(peer.wire.listen(take))
    peer.writer.write(b"+one\r\n")
    with pytest.raises(ValueError, match="no"):
        await asyncio.wait_for(listening, 5)
    peer.writer.write(b"+two\r\n")
    await asyncio.sleep(0.05)  # what comes after that is for nobody
    assert taken == [b"one"]


async def test_nothing_is_handed_over_when_whoever_listened_has_ended(peer: Peer) -> None:
    taken: list[Any] = []
    listening = asyncio.ensure_future(peer.wire.listen(taken.extend))
    peer.writer.write(b"+one\r\n")
    await until(lambda: taken == [b"one"], what="the first reply")
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    # The connection is not closed yet, and there may be another one.
    peer.writer.write(b"+two\r\n")
    await asyncio.sleep(0.05)
    assert taken == [b"one"]
    # Nor does it pile up for anybody.
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(peer.wire.read(), 5)


async def test_whether_more_has_come_can_be_told(peer: Peer) -> None:
    taken: list[Any] = []
    behind: list[bool] = []

    def take(replies: list[Any]) -> None:
        taken.extend(replies)
        behind.append(peer.wire.behind)

    listening = asyncio.ensure_future(peer.wire.listen(take))
    peer.writer.write(b"+one\r\n")
    await until(lambda: taken == [b"one"], what="the first reply")
    assert behind == [False]
    count = 400_000
    peer.writer.write(b"+more\r\n" * count)
    await until(lambda: len(taken) == 1 + count, 30, what="all replies")
    assert True in behind
    peer.writer.write(b"+last\r\n")
    await until(lambda: len(taken) == 2 + count, what="the last reply")
    assert not peer.wire.behind
    listening.cancel()
