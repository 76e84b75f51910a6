"""A WebSocket client (RFC 6455) that is cheap enough to be many.

It offers no extensions, masks with a key of zeros, which is allowed and costs nothing, takes all
messages that one read has brought in one go, and sends many with one write.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import cast

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_FINAL_BINARY = _FINAL | _BINARY
_MASKED = 0x80
_ZERO_KEY = bytes(4)
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADERS_MAX_BYTES = 64 * 1024


class HandshakeFailed(ConnectionError):
    """The server did not take the connection; the text holds its answer."""


def frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    """Return `payload` as one final frame of a client."""
    length = len(payload)
    first = bytes((_FINAL | opcode,))
    if length < 126:
        return first + bytes((_MASKED | length,)) + _ZERO_KEY + payload
    if length < 1 << 16:
        return first + bytes((_MASKED | 126,)) + length.to_bytes(2, "big") + _ZERO_KEY + payload
    return first + bytes((_MASKED | 127,)) + length.to_bytes(8, "big") + _ZERO_KEY + payload


class WebSocket(asyncio.Protocol):
    """One connection. Subclasses override `message_received`, `batch_received` and `closed`."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_reason = ""
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._needed = 0
        self._fragments: list[bytes] = []
        self._request = b""
        self._accept = b""

    async def connect(
        self, host: str, port: int, path: str, headers: Mapping[str, str], timeout: float
    ) -> None:
        """Open the connection.

        Args:
            path: path and query of the room.
            timeout: seconds for all of it.

        Raises:
            HandshakeFailed: if the server does not take it.
            OSError: if there is no server.
            asyncio.TimeoutError: after `timeout` seconds.
        """
        key = base64.b64encode(os.urandom(16))
        digest = hashlib.sha1(key + _ACCEPT_SUFFIX, usedforsecurity=False).digest()
        self._accept = base64.b64encode(digest)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode()}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        loop = asyncio.get_running_loop()

        async def establish() -> None:
            await loop.create_connection(lambda: self, host, port)
            await self.opened

        await asyncio.wait_for(establish(), timeout)

    # --- for subclasses

    def message_received(self, payload: bytes) -> None:
        """A whole message."""

    def batch_received(self) -> None:
        """All messages of one read have been handed over."""

    def closed(self, reason: str) -> None:
        """The connection is gone; not called for one that was never open."""

    # --- out

    def send(self, payload: bytes) -> None:
        self.write(frame(payload))

    def write(self, frames: bytes) -> None:
        """Write whole frames; a connection that is gone swallows them."""
        if self._transport is not None:
            self._transport.write(frames)

    def write_all(self, frames: Iterable[bytes]) -> None:
        self.write(b"".join(frames))

    def close(self) -> None:
        """Say goodbye and end the connection without waiting for an answer."""
        if self._transport is not None:
            self._transport.write(frame((1000).to_bytes(2, "big"), _CLOSE))
            self._transport.close()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.opened.done():
            self.closed(self.close_reason or repr(error))
        else:
            self.opened.set_exception(HandshakeFailed(f"connection lost: {error!r}"))

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._receive_answer(data)
            return
        if not self._buffer:
            taken = self._parse(data)
            if taken < len(data):
                self._buffer += data[taken:]
        else:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return  # the rest of a large message; looked at once, when all of it is there
            taken = self._parse(self._buffer)
            del self._buffer[:taken]
        self.batch_received()

    def _receive_answer(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not separator:
            if len(head) > _HEADERS_MAX_BYTES:
                self._refuse("the answer has no end")
            return
        status, *lines = head.split(b"\r\n")
        if b" 101 " not in status + b" ":
            self._refuse(status.decode(errors="replace"))
            return
        fields = dict(line.lower().split(b":", 1) for line in lines if b":" in line)
        if fields.get(b"sec-websocket-accept", b"").strip() != self._accept.lower():
            self._refuse("the answer is for another question")
            return
        self._buffer.clear()
        self.opened.set_result(None)
        if rest:
            self.data_received(rest)

    def _refuse(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(HandshakeFailed(reason))
        if self._transport is not None:
            self._transport.abort()

    def _parse(self, data: bytes | bytearray) -> int:
        """Hand over the whole frames in `data`; return how many bytes they are."""
        position, end = 0, len(data)
        while True:
            start = position + 2
            if start > end:
                self._needed = 2
                return position
            length = data[position + 1]
            if length == 126:
                length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if start > end:
                self._needed = start - position
                return position
            stop = start + length
            if stop > end:
                self._needed = stop - position
                return position
            payload = bytes(data[start:stop])
            first = data[position]
            position = stop
            if first == _FINAL_BINARY:
                self.message_received(payload)
            else:
                self._unusual(first, payload)

    def _unusual(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode in (_BINARY, _TEXT, _CONTINUATION):
            self._fragments.append(payload)
            if first & _FINAL:
                whole = b"".join(self._fragments)
                self._fragments.clear()
                self.message_received(whole)
        elif opcode == _PING:
            self.write(frame(payload, _PONG))
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.close_reason = f"closed with {code} {payload[2:].decode(errors='replace')}".strip()
            if self._transport is not None:
                self._transport.write(frame(payload[:2], _CLOSE))
                self._transport.close()
