"""One tab: a WebSocket that speaks y-websocket and keeps no document."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from pycrdt import merge_updates

from .door import Entrance
from .edits import Counter, Pen, read_varint, varint
from .websocket import WebSocket, frame

_SYNC, _AWARENESS, _RAW, _QUERY_AWARENESS = range(4)
_AUTHENTICATE = 2
_SYNC_REPLY = 4
_STEP1, _STEP2, _UPDATE = range(3)
_EMPTY_STATE = b"\x00"
_EMPTY_UPDATE = b"\x00\x00"


@dataclass(frozen=True)
class Opening:
    """How long it took a client to get in, in seconds from when it was asked to."""

    known: float
    """Until it knew the room's address."""
    connected: float
    """Until the WebSocket was open."""
    synced: float
    """Until it had the document."""
    size: int
    """Bytes of the document's update."""


class Client(WebSocket):
    """A tab with one document open.

    Args:
        entrance: the server.
        document: the document's name.

    Attributes:
        content: what the room held when this client was synced, until `forget` is called.
        counter: counts an author's edits, if it was asked to with `watch`.
        asked_again: how often the server wanted to know what this client has after it was synced,
            which a client without a document cannot say.
    """

    def __init__(self, entrance: Entrance, document: str) -> None:
        super().__init__()
        self.entrance = entrance
        self.document = document
        self.content = _EMPTY_UPDATE
        self.pen: Pen | None = None
        self.counter: Counter | None = None
        self.asked_again = 0
        name = document.encode()
        self._prefix = varint(len(name)) + name if entrance.named else b""
        self._synced: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []
        self._received_bytes = 0
        self._needs: tuple[int, asyncio.Future[None]] | None = None
        self._lost: str | None = None
        self._on_arrival: Callable[[], None] = lambda: None
        self._replies: dict[int, asyncio.Future[bytes]] = {}

    async def open(self, timeout: float, at_least: int = 0) -> Opening:
        """Connect and wait for the document.

        Args:
            timeout: seconds for all of it.
            at_least: bytes that the document has; a server that answers before it has all of it
                itself sends the rest afterwards.

        Raises:
            ConnectionError: if the server does not let it in.
            asyncio.TimeoutError: after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        path = await asyncio.wait_for(self.entrance.path_of(self.document), timeout)
        known = time.perf_counter() - began
        host, port = self.entrance.host, self.entrance.port
        try:
            await self.connect(host, port, path, self.entrance.headers, timeout - known)
            connected = time.perf_counter() - began
            if self.entrance.greets:
                self.send(self._prefix + bytes((_AUTHENTICATE, 0)) + varint(5) + b"token")
            if self.entrance.speaks_sync:
                self.send(self._sync(_STEP1, _EMPTY_STATE))
            left = timeout - connected
            content = await asyncio.wait_for(self._synced, max(left, 0.001))
            if self._received_bytes < at_least:
                self._needs = (at_least, loop.create_future())
                await asyncio.wait_for(self._needs[1], max(left, 0.001))
        except BaseException:
            self.abort()
            raise
        synced = time.perf_counter() - began
        self.content = merge_updates(*self._early, content) if self._early else content
        self._early.clear()
        return Opening(known, connected, synced, len(self.content))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def forget(self) -> None:
        """Let go of the document."""
        self.content = _EMPTY_UPDATE

    # --- writing

    def take_pen(self, author: int, cell: int | None = 0) -> Pen:
        """Get ready to append to a text of the document that was received."""
        self.pen = Pen(author, self.content, cell)
        return self.pen

    def type(self, count: int = 1) -> None:
        """Send the next `count` edits, each a message of its own, with one write."""
        assert self.pen is not None
        self.write_all([frame(self._sync(_UPDATE, edit)) for edit in self.pen.write(count)])

    def send_update(self, update: bytes) -> None:
        self.send(self._sync(_UPDATE, update))

    async def save(self, number: int, timeout: float) -> bytes:
        """Ask for a save as Ctrl-S does; return the answer, which is JSON."""
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self.send(bytes((_RAW, 4)) + b"save" + varint(number))
        return await asyncio.wait_for(reply, timeout)

    # --- reading

    def watch(self, author: int) -> None:
        """Count the author's edits; to be called before `open`, so that none is missed."""
        self.counter = Counter(author)

    def watch_arrivals(self, on_arrival: Callable[[], None]) -> None:
        """Call `on_arrival` after each read of the connection."""
        self._on_arrival = on_arrival

    @property
    def seen(self) -> int:
        """So many of the author's edits have arrived."""
        assert self.counter is not None
        return self.counter.seen

    @property
    def lost(self) -> str | None:
        """Why the connection is gone; None while it is there."""
        return self._lost

    # --- the protocol

    def _sync(self, kind: int, payload: bytes) -> bytes:
        return b"".join((self._prefix, bytes((_SYNC, kind)), varint(len(payload)), payload))

    def message_received(self, payload: bytes) -> None:
        if self._prefix:
            if not payload.startswith(self._prefix):
                return
            payload = payload[len(self._prefix) :]
        if not payload:
            self._receive_welcome()
            return
        kind = payload[0]
        if kind == _SYNC or (kind == _SYNC_REPLY and self._prefix):
            self._receive_sync(payload)
        elif kind == _RAW and not self._prefix:
            self._receive_reply(payload)

    def _receive_welcome(self) -> None:
        """A server without documents says with an empty message that it is ready."""
        if not self._synced.done():
            self._synced.set_result(_EMPTY_UPDATE)

    def _receive_sync(self, message: bytes) -> None:
        step = message[1]
        length, position = read_varint(message, 2)
        payload = message[position : position + length]
        if step == _STEP1:
            if self._synced.done() and self.pen is not None and self.pen.written:
                self.asked_again += 1
            self.send(self._sync(_STEP2, _EMPTY_UPDATE))
            return
        self._received_bytes += length
        if not self._synced.done():
            if step == _STEP2:
                self._synced.set_result(payload)
            else:
                self._early.append(payload)
        if self._needs is not None and self._received_bytes >= self._needs[0]:
            self._needs[1].set_result(None)
            self._needs = None
        if self.counter is not None:
            self.counter.take(payload)

    def _receive_reply(self, message: bytes) -> None:
        length, position = read_varint(message, 1)
        text = message[position : position + length]
        reply = self._replies.pop(json.loads(text).get("responseTo"), None)
        if reply is not None and not reply.done():
            reply.set_result(text)

    def batch_received(self) -> None:
        self._on_arrival()

    def closed(self, reason: str) -> None:
        self._lost = reason
        if not self._synced.done():
            self._synced.set_exception(ConnectionError(reason))
            # Somebody who no longer waits for it has been told otherwise.
            self._synced.exception()
