"""A connection to Redis, spoken to directly.

redis-py makes and closes it: address, TLS, authentication, database, name. What is sent and read
in between goes past its layers, which cost more for a keystroke than Redis itself does. Replies
are parsed by hiredis.
"""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

_READ_BYTES = 256 * 1024
_BEHIND_BYTES = 128 * 1024
"""From so many bytes on that are read at once, asyncio had stopped to read more."""


class ErrorReply(Exception):
    """Redis' answer is an error; the text is Redis' own."""


class Wire:
    """Sends commands as they come, all of one turn of the event loop together.

    Attributes:
        behind: whether the last `read` has left something, as far as can be told.
    """

    def __init__(self, connection: Any) -> None:
        """
        Args:
            connection: a connection of redis-py's asyncio client that is connected, and on which
                no reply is outstanding.
        """
        # A connection that nobody refers to any more closes itself.
        self._connection = connection
        self._reader: asyncio.StreamReader = connection._reader
        self._writer: asyncio.StreamWriter = connection._writer
        # Without an encoding, replies stay bytes; errors are replies too, also within others.
        self._parser = hiredis.Reader(replyError=ErrorReply)
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self.behind = False

    def send(self, arguments: tuple[Any, ...]) -> None:
        """Send a command of bytes, text and numbers, none of which is large. The reply comes with
        `read`, in the order of the commands."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(arguments))

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        # Where the connection is lost, whoever reads finds out.
        if not self._writer.is_closing():
            self._writer.write(data)

    async def read(self) -> list[Any]:
        """Return the replies that have come since the last time, at least one.

        Raises:
            ConnectionError: if the connection was closed.
            OSError: if it is lost otherwise.
            hiredis.ProtocolError: if what comes is not what Redis sends.
        """
        replies: list[Any] = []
        while not replies:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ConnectionError("Connection closed by server.")
            self.behind = len(data) >= _BEHIND_BYTES
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                replies.append(reply)
        return replies
