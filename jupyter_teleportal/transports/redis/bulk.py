"""What is very large goes to Redis and comes from it in pieces, so that nobody waits for all of it.

All large transfers share one connection. Each takes a turn there for one piece and then waits
until all others have had one; whatever is small goes over the connection for commands and waits
for none of them. In Redis the whole is put together, or taken apart, in a key that expires by
itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from ...core.errors import TransportUnavailable

PIECE_BYTES = 512 * 1024
WHOLE_BYTES = 12 * 1024 * 1024
"""What is no larger takes one turn: to take it apart costs a Redis that writes everything to its
disk more than the others' waiting is worth."""
KEEP_MS = 10 * 60 * 1000
"""For so long a key stays in which a whole is put together, should nobody remove it."""

Ask = Callable[..., Awaitable[object]]


def staging_key(room_key: str) -> str:
    """A key for one transfer, in the same slot as `room_key`."""
    return f"{room_key}:bulk:{secrets.token_hex(8)}"


async def put(ask: Ask, key: str, value: bytes) -> None:
    """Write `value` into `key`, a piece with each turn.

    Args:
        ask: sends a command when it is its turn, and returns the answer.
        key: a key that nobody else uses; it expires `KEEP_MS` from now.

    Raises:
        TransportError: if a piece did not arrive. What did expires.
    """
    await ask("SET", key, value[:PIECE_BYTES], "PX", KEEP_MS)
    view = memoryview(value)
    for start in range(PIECE_BYTES, len(value), PIECE_BYTES):
        piece = bytes(view[start : start + PIECE_BYTES])
        there = await ask("APPEND", key, piece)
        if there != start + len(piece):
            raise TransportUnavailable(f"a transfer of {len(value)} bytes took too long")


async def get(ask: Ask, key: str, size: int) -> bytes:
    """Return the `size` bytes in `key`, read a piece with each turn.

    Raises:
        TransportError: if they are not there any more.
    """
    pieces = []
    for start in range(0, size, PIECE_BYTES):
        piece = await ask("GETRANGE", key, start, min(start + PIECE_BYTES, size) - 1)
        assert isinstance(piece, bytes)
        pieces.append(piece)
    value = b"".join(pieces)
    if len(value) != size:
        raise TransportUnavailable(f"a transfer of {size} bytes took too long")
    return value
