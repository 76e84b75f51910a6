"""What is sent to a browser arrives whole and in order, however much of it the system takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.iostream import IOStream
from tornado.websocket import WebSocketClosedError

from jupyter_teleportal.clients.frames import binary_frame
from jupyter_teleportal.clients.tornado_sockets import FrameWriter

MESSAGES = [bytes([number]) * size for number, size in enumerate([5, 90_000, 7, 1_500_000, 0, 3])]


@pytest.fixture
async def ends() -> Iterator[tuple[Any, socket.socket]]:
    """A client's channel, and the socket at its other end, whose buffers are small."""
    here, there = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    there.setblocking(False)
    stream = IOStream(here)
    connection = SimpleNamespace(
        stream=stream,
        is_closing=stream.closed,
        _compressor=None,
        _message_bytes_out=0,
        _wire_bytes_out=0,
    )
    yield SimpleNamespace(ws_connection=connection), there
    stream.close()
    there.close()


async def test_what_the_system_takes_at_once_need_not_be_waited_for(ends: Any) -> None:
    channel, there = ends
    writer = FrameWriter()
    for message in (b"one", b"two"):
        assert writer.send(channel, message) is None
    assert there.recv(100) == binary_frame(b"one") + binary_frame(b"two")
    assert channel.ws_connection._wire_bytes_out == 10


async def test_what_it_does_not_take_follows_in_order(ends: Any) -> None:
    channel, there = ends
    writer = FrameWriter()
    waiting = [writer.send(channel, message) for message in MESSAGES]
    assert waiting[0] is None
    assert waiting[1] is not None
    # There is room again, but not yet for what comes last.
    received = bytearray(there.recv(65536))
    waiting.append(writer.send(channel, b"late"))
    expected = b"".join(map(binary_frame, [*MESSAGES, b"late"]))
    assert channel.ws_connection._wire_bytes_out == len(expected)
    while len(received) < len(expected):
        received += await asyncio.get_running_loop().sock_recv(there, 65536)
    assert received == expected
    for sent in waiting:
        if sent is not None:
            await asyncio.wait_for(sent, 5)
    assert writer.send(channel, b"and on") is None


async def test_who_is_gone_is_not_written_to(ends: Any) -> None:
    channel, there = ends
    there.close()
    writer = FrameWriter()
    writer.send(channel, b"is anybody there?")
    with pytest.raises(WebSocketClosedError):
        writer.send(channel, b"nobody")
