"""Browsers' WebSocket connections in tornado, with what it costs per message taken out.

tornado awaits each part of each frame, and makes two tasks for each message that it sends. Here,
what has arrived is read at once, updates that came together are handled as one, and a message for
many clients is one frame that is handed to each connection, which is waited for only if it does
not take it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

from tornado.iostream import BaseIOStream, StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from .client_messages import together
from .frames import binary_frame, frame_head, take_messages
from .workers import LARGE_BYTES

_READ_BYTES = 256 * 1024

RELIED_ON: dict[Any, tuple[str, ...]] = {
    WebSocketHandler: ("get_websocket_protocol", "on_ws_connection_close"),
    WebSocketProtocol13: (
        "_receive_frame_loop",
        "_receive_frame",
        "_abort",
        "is_closing",
    ),
    BaseIOStream: ("read_bytes", "write", "writing", "_consume"),
}
"""The names in tornado that this module needs."""


def in_bulk(connection: Any) -> Any:
    """Return what reads in bulk in the place of `connection`, a handler's WebSocket that has not
    begun to; `connection` itself, if that is none of tornado's."""
    if type(connection) is not WebSocketProtocol13:
        return connection
    return BulkWebSocketProtocol(connection.handler, connection.mask_outgoing, connection.params)


class BulkWebSocketProtocol(WebSocketProtocol13):
    """Reads whatever has arrived at once, and leaves to tornado what is no plain message.

    The handler's `on_message` has to be a coroutine.
    """

    async def _receive_frame_loop(self) -> None:
        if self._decompressor is not None:
            await super()._receive_frame_loop()
            return
        buffer = bytearray()
        try:
            while not self.client_terminated:
                await self._read_some(buffer)
        except StreamClosedError:
            self._abort()
        finally:
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _read_some(self, buffer: bytearray) -> None:
        data = await self.stream.read_bytes(_READ_BYTES, partial=True)
        self._wire_bytes_in += len(data)
        buffer += data
        in_fragments = self._fragmented_message_buffer is not None
        max_bytes = -1 if in_fragments else self.params.max_message_size
        taken = take_messages(buffer, _websocket_mask, max_bytes)
        del buffer[: taken.size]
        for message in together(taken.messages):
            if self.client_terminated:
                return
            await self._handle(message)
        if taken.other and not self.client_terminated:
            self._wire_bytes_in -= len(buffer)
            _give_back(self.stream, buffer)
            await self._receive_frame()
        # Whoever sends without a pause must not keep the others waiting.
        await asyncio.sleep(0)

    async def _handle(self, message: bytes) -> None:
        self._message_bytes_in += len(message)
        handler: Any = self.handler
        try:
            # tornado would make a task of it.
            await handler.on_message(message)
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
            written: Awaitable[None]
            if len(message) >= LARGE_BYTES:
                head = frame_head(len(message))
                stream.write(head)
                written = stream.write(message)
                connection._wire_bytes_out += len(head) + len(message)
            else:
                if message is not self._message:
                    self._message, self._frame = message, binary_frame(message)
                written = stream.write(self._frame)
                connection._wire_bytes_out += len(self._frame)
        except StreamClosedError as error:
            raise WebSocketClosedError from error
        return written if stream.writing() else None
