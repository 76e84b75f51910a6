"""How many bytes Redis keeps of all documents of a share.

Whoever holds a document's lease says again and again how large its log is: with each heartbeat
where a share takes much of what it may, and more rarely elsewhere. What was said is a sorted set of
the share, which outlives the servers. It may be wrong: a server has died before it said anything, a
log has expired, or a member of the share has written something there. So each server also looks
whether what is said of a few rooms is so: of the largest, and of some others.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ..base import loop_time

INTERVAL_S = 1.0
CALM_S = 10.0
"""The same, for a share that takes less than `CALM_SHARE` of what it may."""
CALM_SHARE = 0.25
ROOMS_PER_S = 1000
"""Redis adds up no more than that in a second: where there are more, it does so more rarely."""
ROOMS_MAX = 10_000
"""The largest count."""
NAME_MAX_BYTES = 1000

Room = str | bytes | None
Say = Callable[..., Awaitable[list[Any]]]
Look = Callable[[str, Sequence[str]], Awaitable[list[int]]]


class ShareUsage:
    """Says how large documents are, and knows how many bytes all of a share's take together."""

    def __init__(self, say: Say, look: Look, max_bytes: float) -> None:
        """
        Args:
            say: runs the script `USAGE` for a share and returns its reply.
            look: returns how many bytes Redis keeps of each of some rooms of a share.
            max_bytes: what all of a share's documents may take.
        """
        self._say = say
        self._look = look
        self._max_bytes = max_bytes
        self._totals: dict[str, int] = {}
        self._rooms: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}

    def total(self, share: str) -> int:
        """The bytes of all documents of `share`, as far as known here."""
        return self._totals.get(share, 0)

    async def note(self, share: str, sizes: Mapping[Room, int], keep_s: float) -> None:
        """Say that rooms have so many bytes, and learn how many the whole share has; no more than
        once in `INTERVAL_S`, or in `CALM_S`.

        Raises:
            TransportError: if Redis cannot be asked.
        """
        now = loop_time()
        if now < self._asked_at.get(share, float("-inf")) + self._pause_s(share, keep_s):
            return
        self._asked_at[share] = now
        looked_at = await self._exchange(share, sizes, keep_s)
        found: dict[Room, int] = {}
        names = []
        for room in dict.fromkeys(looked_at):
            if (name := _name(room)) is None:
                found[room] = 0
            elif name not in sizes:
                names.append(name)
        if names:
            found.update(zip(names, await self._look(share, names), strict=True))
        if found:
            await self._exchange(share, found, keep_s)

    def add(self, share: str, count: int) -> None:
        """Note that `count` bytes are on their way, which nobody has said yet."""
        self._totals[share] = self.total(share) + count

    def _pause_s(self, share: str, keep_s: float) -> float:
        calm = self.total(share) < CALM_SHARE * self._max_bytes
        # What was said is kept for `keep_s`.
        pause_s = max(INTERVAL_S, min(CALM_S, keep_s / 2)) if calm else INTERVAL_S
        return max(pause_s, self._rooms.get(share, 0) / ROOMS_PER_S)

    async def _exchange(self, share: str, sizes: Mapping[Room, int], keep_s: float) -> list[bytes]:
        """Say how large rooms are, and return some of which the same was said."""
        said = [part for pair in sizes.items() for part in pair]
        rank = secrets.randbelow(self._rooms.get(share, 0) + 1)
        reply = await self._say(share, round(keep_s * 1000), ROOMS_MAX, rank, *said)
        self._totals[share], self._rooms[share], *rooms = reply
        return [room for room in rooms if room is not None]


def _name(room: bytes) -> str | None:
    """A room's name; None if it is none, but something that was written there."""
    try:
        return room.decode() if len(room) <= NAME_MAX_BYTES else None
    except UnicodeDecodeError:
        return None


def megabytes(count: float) -> str:
    """`count` bytes, for people."""
    digits = 0 if count >= 1e7 else 1 if count >= 1e6 else 2
    return f"{count / 1e6:,.{digits}f} MB"
