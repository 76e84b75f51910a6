"""A connection to Redis, spoken to directly.

redis-py makes and closes it: address, TLS, authentication, database, name. What is sent and read
in between goes past its layers and asyncio's streams, which cost more for a keystroke than Redis
itself does. Replies are parsed by hiredis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis

_BEHIND_BYTES = 128 * 1024
"""Where so many bytes come at once, more have come than are handed over at once."""


class ErrorReply(Exception):
    """Redis' answer is an error; the text is Redis' own."""


class Wire(asyncio.Protocol):
    """Sends a command at once if all before it were answered: it need not wait for what else is
    done in this turn of the event loop. Otherwise it waits for those that come in this turn and the
    next one, and goes with them: to write takes longer than to make most commands.

    Replies are read with `read` one after the other, until somebody begins to `listen`.

    Attributes:
        behind: whether more has come than was handed over yet, as far as can be told.
    """

    def __init__(self, connection: Any) -> None:
        """
        Args:
            connection: a connection of redis-py's asyncio client that is connected, and on which
                no reply is outstanding.
        """
        # A connection that nobody refers to any more closes itself.
        self._connection = connection
        self._transport: asyncio.Transport = connection._writer.transport
        # It is told of what it has to know: redis-py waits for it when it closes the connection.
        self._stream = cast(asyncio.Protocol, self._transport.get_protocol())
        # Without an encoding, replies stay bytes; errors are replies too, also within others.
        self._parser = hiredis.Reader(replyError=ErrorReply)
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._unanswered = 0
        self._replies: list[Any] = []
        self._take: Callable[[list[Any]], None] | None = None
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.behind = False
        self._transport.set_protocol(self)

    def send(self, arguments: tuple[Any, ...]) -> None:
        """Send a command of bytes, text and numbers, none of which is large. The replies come in
        the order of the commands."""
        command = hiredis.pack_command(arguments)
        self._unanswered += 1
        if self._unanswered == 1 and not self._out:
            self._write(command)
            return
        if not self._out:
            self._loop.call_soon(self._loop.call_soon, self._flush)
        self._out.append(command)

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        self._write(data)

    def _write(self, data: bytes) -> None:
        # Where the connection is lost, whoever reads finds out.
        if not self._transport.is_closing():
            self._transport.write(data)

    async def read(self) -> list[Any]:
        """Return the replies that have come since the last time, at least one.

        Raises:
            ConnectionError: if the connection was closed.
            OSError: if it is lost otherwise.
            hiredis.ProtocolError: if what comes is not what Redis sends.
        """
        while not self._replies:
            await self._something()
        replies, self._replies = self._replies, []
        return replies

    async def listen(self, take: Callable[[list[Any]], None]) -> None:
        """Hand all replies to `take` from now on, in the very turn of the event loop in which they
        come, until the connection ends, or whoever listens is cancelled; then what still comes is
        for nobody.

        Raises:
            Exception: what `read` raises, or `take`.
        """
        self._take = take
        try:
            if self._replies:
                self._hand_over(b"")
            while True:
                await self._something()
        finally:
            self._take = None
            self._end(ConnectionError("Nobody listens to this connection any more."))

    def close(self) -> None:
        """Close the connection without waiting for the other side: one that has stopped would not
        answer, which TLS waits for."""
        self._transport.abort()

    async def _something(self) -> None:
        """Wait until something is to be read, or the connection has ended."""
        if self._error is not None:
            raise self._error
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _hand_over(self, data: bytes) -> None:
        self.behind = len(data) >= _BEHIND_BYTES
        try:
            self._parser.feed(data)
            replies = self._replies
            while (reply := self._parser.gets()) is not False:
                replies.append(reply)
            # What is pushed answers nothing.
            self._unanswered = max(0, self._unanswered - len(replies))
            if self._take is not None and replies:
                self._replies = []
                self._take(replies)
                return
        except Exception as error:  # noqa: BLE001 (it is raised where somebody waits)
            self._end(error)
            return
        self._wake()

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            if self._error is not None:
                self._waiting.set_exception(self._error)
            else:
                self._waiting.set_result(None)

    # -- what asyncio tells ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._error is None:
            self._hand_over(data)

    def eof_received(self) -> bool | None:
        self._end(ConnectionError("Connection closed by server."))
        return self._stream.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("Connection closed by server."))
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()
