"""Browsers' WebSocket connections in tornado, with what it costs per message taken out.

tornado awaits each part of each frame, and makes two tasks for each message that it sends. Here,
what has arrived is read at once, updates that came together are handled as one, and a message for
many clients is one frame that is handed to each connection, which is waited for only if it does
not take it.

A client that sends without a pause takes turns with the others, and one that sends more than it
may is read from more slowly, and then disconnected (`guard`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13

from ..core.messages import Received, received
from ..core.update_walk import RAW
from ..sync.threads import LARGE_BYTES
from .frames import binary_frame, frame_head, take_messages
from .guard import NAP_S, ClientGuard

_READ_BYTES = 256 * 1024
_READ_MESSAGES = 256
_CHUNK_BYTES = 16 * 1024
FAREWELL_S = 0.05
_FRAME_S = 50e-6
"""About what it takes to read a frame that is no plain message."""
_BINARY = 0x2
"""The kind of frame that carries a binary message."""
_RAW_PREFIX = bytes((RAW,))


def in_bulk(connection: Any, guard: ClientGuard) -> Any:
    """Return what reads in bulk in the place of `connection`, a handler's WebSocket that has not
    begun to; `connection` itself, if that is none of tornado's."""
    if type(connection) is not WebSocketProtocol13:
        return connection
    return BulkWebSocketProtocol(
        connection.handler, connection.mask_outgoing, connection.params, guard
    )


class BulkWebSocketProtocol(WebSocketProtocol13):
    """Reads whatever has arrived at once, and leaves to tornado what is no plain message.

    The handler's `on_message` has to be a coroutine, and is given a `Received`.
    """

    def __init__(self, handler: Any, mask_outgoing: bool, params: Any, guard: ClientGuard) -> None:
        super().__init__(handler, mask_outgoing, params)
        most = guard.limits.client_message_max_bytes
        params.max_message_size = min(params.max_message_size, most)
        self._guard = guard
        self._allowance = guard.allowance(handler)

    async def _receive_frame_loop(self) -> None:
        buffer = bytearray()
        guard, allowance = self._guard, self._allowance
        # tornado clears so much memory for each read.
        self.stream.read_chunk_size = _CHUNK_BYTES
        try:
            while not self.client_terminated:
                if self._decompressor is None:
                    await self._read_some(buffer)
                else:
                    await self._read_frame()
                if not allowance.free and not await guard.pace(
                    self.handler, allowance, self.is_closing
                ):
                    # What it still sends stays unread until tornado ends the connection, which it
                    # does where the client does not.
                    while not self.stream.closed():  # noqa: ASYNC110 (it has no event for that)
                        await asyncio.sleep(NAP_S)
                if self.server_terminated and not self.client_terminated:
                    # What comes before the client's farewell is not wanted.
                    await asyncio.sleep(FAREWELL_S)
        except StreamClosedError:
            self._abort()
        finally:
            guard.left(self.handler, allowance)
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _read_some(self, buffer: bytearray) -> None:
        """Read what has arrived behind `buffer`, and handle all messages that are whole."""
        arriving: Any = self.stream.read_bytes(_READ_BYTES, partial=True)
        if arriving.done():
            # Whoever sends without a pause must not keep the others waiting.
            await asyncio.sleep(0)
        data = await arriving
        size = len(data)
        self._wire_bytes_in += size
        buffer += data
        while not self.client_terminated:
            in_fragments = self._fragmented_message_buffer is not None
            max_bytes = -1 if in_fragments else self.params.max_message_size
            taken = take_messages(buffer, _websocket_mask, max_bytes, _READ_MESSAGES)
            del buffer[: taken.size]
            self._allowance.spend(time.monotonic(), messages=len(taken.messages), size=size)
            await self._handle_all(taken.messages)
            if taken.other and not self.client_terminated:
                self._wire_bytes_in -= len(buffer)
                self._allowance.spend(time.monotonic(), size=-len(buffer))
                _give_back(self.stream, buffer)
                await self._read_frame()
            if not taken.more:
                return
            size = 0
            await asyncio.sleep(0)

    async def _read_frame(self) -> None:
        """Read one frame as tornado does, in a turn of the event loop."""
        await self._guard.turns.enter(self.handler)
        before = self._wire_bytes_in
        # How long it takes until all of it is there is the client's affair.
        self._guard.turns.spend(self.handler, _FRAME_S)
        await self._receive_frame()
        size = self._wire_bytes_in - before
        self._allowance.spend(time.monotonic(), messages=1, size=size)

    def _handle_message(self, opcode: int, data: bytes) -> Any:
        if opcode == _BINARY and self._decompressor is None:
            return self._handle_all([data])
        began = time.perf_counter()
        handled = super()._handle_message(opcode, data)
        self._guard.turns.spend(self.handler, time.perf_counter() - began)
        return handled

    async def _handle_all(self, messages: list[bytes]) -> None:
        """Handle messages one after the other, in as many turns of the event loop as it takes."""
        turns, client = self._guard.turns, self.handler
        if not messages:
            return
        await turns.enter(client)
        began = time.perf_counter()
        for one in received(messages):
            if self.is_closing():
                break
            if one.message[:1] == _RAW_PREFIX:
                # Whoever asks for a save waits for it, and takes nobody's time.
                turns.spend(client, time.perf_counter() - began)
                await self._handle(one)
                began = time.perf_counter()
                continue
            await self._handle(one)
            used = time.perf_counter() - began
            if used >= turns.budget_s:
                turns.spend(client, used)
                await asyncio.sleep(0)
                await turns.enter(client)
                began = time.perf_counter()
        turns.spend(client, time.perf_counter() - began)

    async def _handle(self, one: Received) -> None:
        self._message_bytes_in += len(one.message)
        handler: Any = self.handler
        try:
            # tornado would make a task of it.
            await handler.on_message(one)
        except Exception:  # noqa: BLE001 (as tornado does: logged, and the connection is closed)
            handler.log_exception(*sys.exc_info())
            self._abort()


def _give_back(stream: Any, data: bytearray) -> None:
    """Let the next read from `stream` begin with `data`, which is emptied."""
    stream._read_buffer[:0] = data
    stream._read_buffer_size += len(data)
    data.clear()


class FrameWriter:
    """Sends messages to clients, each as one frame for all of them."""

    def __init__(self) -> None:
        self._message = b""
        self._frame = binary_frame(b"")

    def send(self, channel: Any, message: bytes) -> Awaitable[None] | None:
        """Send `message` to the client of `channel`. Return what to wait for if its connection has
        not taken all of it.

        Raises:
            WebSocketClosedError: if the connection is closed.
        """
        connection = channel.ws_connection
        if connection is None or connection.is_closing():
            raise WebSocketClosedError
        if connection._compressor:
            waiting: Awaitable[None] = channel.write_message(message, binary=True)
            return waiting
        stream = connection.stream
        connection._message_bytes_out += len(message)
        try:
            if len(message) >= LARGE_BYTES:
                head = frame_head(len(message))
                connection._wire_bytes_out += len(head) + len(message)
                stream.write(head)
                return _written(stream, message)
            if message is not self._message:
                self._message, self._frame = message, binary_frame(message)
            connection._wire_bytes_out += len(self._frame)
            return _written(stream, self._frame)
        except StreamClosedError as error:
            raise WebSocketClosedError from error


def _written(stream: Any, data: bytes) -> Awaitable[None] | None:
    """Write `data` behind what was written before; return what to wait for if it is not all on its
    way. tornado would make a future of each write, also where the system takes it at once."""
    taken = 0
    if not stream.writing():
        try:
            taken = stream.write_to_fd(memoryview(data))
        except OSError:
            taken = 0  # it comes back in `write`, which closes the stream
        if taken == len(data):
            return None
    rest: Awaitable[None] = stream.write(memoryview(data)[taken:] if taken else data)
    return rest if stream.writing() else None
