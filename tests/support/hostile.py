"""A client that means harm: raw frames over a socket of its own, from a thread, so that what it
does costs the event loop of the test nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

import pycrdt
from pycrdt import Doc, Map, Text

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from support.jupyter_process import JupyterProcess, Session

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
QUESTION = b"\x00\x00\x01\x00"
"""Sync step 1 of somebody who has nothing: four bytes, answered with the whole document."""
SOCKET_TIMEOUT = 10.0


def varint(number: int) -> bytes:
    return pycrdt.write_var_uint(number)


def frame(message: bytes, opcode: int = BINARY, *, final: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(message)
    head = bytes((opcode | (0x80 if final else 0),))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size <= 0xFFFF:
        head += b"\xfe" + struct.pack(">H", size)
    else:
        head += b"\xff" + struct.pack(">Q", size)
    return head + b"\0\0\0\0" + message


def sync(step: int, payload: bytes) -> bytes:
    return bytes((0, step)) + varint(len(payload)) + payload


def awareness(clients: Sequence[int], clock: int, state: str = '{"user":{"name":"eve"}}') -> bytes:
    text = state.encode()
    update = varint(len(clients)) + b"".join(
        varint(client) + varint(clock) + varint(len(text)) + text for client in clients
    )
    return b"\x01" + varint(len(update)) + update


def updates(count: int, client: int = 4_000_000_001, text: str = "x") -> list[bytes]:
    """So many valid edits of a text file, which somebody has typed."""
    doc: Doc = Doc(client_id=client)
    source = doc.get("source", type=Text)
    made: list[bytes] = []
    subscription = doc.observe(lambda event: made.append(event.update))
    for _ in range(count):
        source += text
    doc.unobserve(subscription)
    return made


def fields(count: int, client: int, root: str = "state") -> bytes:
    """A valid update that sets so many fields of one of a document's maps."""
    doc: Doc = Doc(client_id=client)
    state = doc.get(root, type=Map)
    with doc.transaction():
        for number in range(count):
            state[f"{client}-{number}"] = 1
    return doc.get_update()


def authors(count: int, first: int) -> bytes:
    """A valid update in which so many browsers have typed a character into a text file each."""
    blocks = (b"\x01" + varint(first + n) + b"\x00\x04\x01\x06source\x01x" for n in range(count))
    return varint(count) + b"".join(blocks) + b"\x00"


def state_vector(clients: int, first: int = 1) -> bytes:
    return varint(clients) + b"".join(varint(first + n) + b"\x01" for n in range(clients))


def deadly(rng: random.Random) -> tuple[str, bytes]:
    """An update that has killed servers."""
    client = rng.randrange(1, 2**32)
    return rng.choice(
        (
            ("a client without blocks", b"\x01\x00" + varint(client) + b"\x00\x00"),
            (
                "a block at the end of all clocks",
                b"\x01\x01" + varint(client) + varint(2**32 - 1) + b"\x04\x01\x01x\x01y\x00",
            ),
            ("a run of ff as a number", b"\xff" * rng.choice((11, 1000, 160_000))),
            (
                "arrays within arrays",
                b"\x01"
                + varint(20_000)
                + varint(client)
                + b"\x00\x07\x01\x01a\x00"
                + b"".join(
                    b"\x07\x00" + varint(client) + varint(n) + b"\x00" for n in range(19_999)
                )
                + b"\x00",
            ),
        )
    )


class Address(NamedTuple):
    """Where a server is, for whoever has no `JupyterProcess`."""

    port: int
    token: str


class Hostile:
    """One connection to a room.

    Attributes:
        sent: bytes that were sent.
        closed_with: code and reason of the server's close frame, once there was one.
        ended: whether the connection has ended.
    """

    def __init__(
        self,
        server: JupyterProcess | Address,
        room_id: str,
        session_id: str = "",
        *,
        reads: bool = True,
    ) -> None:
        """
        Args:
            server: where to connect.
            room_id: the room.
            session_id: the session, as the server has handed it out.
            reads: whether it reads what the server sends.
        """
        self.server = server
        self.room_id = room_id
        self.session_id = session_id
        self.reads = reads
        self.sent = 0
        self.received = 0
        self.status = 0
        self.closed_with: tuple[int, str] | None = None
        self.ended = False
        self._stop = threading.Event()
        self._socket: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @classmethod
    def of(cls, server: JupyterProcess, session: Session, *, reads: bool = True) -> Hostile:
        return cls(server, session.room_id, session.session_id, reads=reads)

    def connect(self) -> Hostile:
        """Open the WebSocket; `status` says what the server has answered."""
        query = urlencode({"token": self.server.token, "sessionId": self.session_id})
        room = quote(self.room_id, safe=":")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket = socket.create_connection(("127.0.0.1", self.server.port), SOCKET_TIMEOUT)
        self._socket.sendall(
            f"GET /api/collaboration/room/{room}?{query} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self.server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = self._socket.recv(1)
            if not data:
                break
            head += data
        self.status = int(head.split(b" ")[1]) if head else 0
        if self.reads and self.status == 101:
            self._in_thread(self._read)
        return self

    def flood(self, block: bytes, seconds: float) -> Hostile:
        """Send `block` again and again, from a thread."""

        def run() -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not self._stop.is_set():
                if not self.send_raw(block):
                    return

        self._in_thread(run)
        return self

    def send_raw(self, data: bytes) -> bool:
        """Send bytes as they are; return whether the connection has taken them."""
        assert self._socket is not None
        view = memoryview(data)
        while view and not self._stop.is_set():
            try:
                count = self._socket.send(view[:65536])
            except TimeoutError:
                continue
            except OSError:
                self.ended = True
                return False
            self.sent += count
            view = view[count:]
        return True

    def send(self, message: bytes) -> bool:
        return self.send_raw(frame(message))

    def _read(self) -> None:
        assert self._socket is not None
        look = self._look_for_close()
        next(look)
        while not self._stop.is_set():
            try:
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError:
                break
            if not data:
                break
            self.received += len(data)
            look.send(data)
        self.ended = True

    def _look_for_close(self) -> Generator[None, bytes, None]:
        """Takes what the server sends, and passes over all frames but the one that closes."""
        buffer = b""

        def take(size: int) -> Generator[None, bytes, bytes]:
            nonlocal buffer
            while len(buffer) < size:
                buffer += yield
            taken, buffer = buffer[:size], buffer[size:]
            return taken

        while True:
            opcode, size = yield from take(2)
            if size == 126:
                size = int.from_bytes((yield from take(2)), "big")
            elif size == 127:
                size = int.from_bytes((yield from take(8)), "big")
            if opcode & 0x0F == CLOSE and size >= 2:
                code, reason = (yield from take(2)), (yield from take(size - 2))
                self.closed_with = (int.from_bytes(code, "big"), reason.decode())
                continue
            while size > len(buffer):
                size -= len(buffer)
                buffer = yield
            buffer = buffer[size:]

    def _in_thread(self, work: object) -> None:
        thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def wait(self, timeout: float) -> None:
        """Wait until it has sent everything."""
        for thread in self._threads:
            thread.join(timeout)

    def close(self) -> None:
        """Drop the connection without a word."""
        self._stop.set()
        if self._socket is not None:
            # Whoever waits for it in a thread wakes up.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        for thread in self._threads:
            thread.join(2 * SOCKET_TIMEOUT)
