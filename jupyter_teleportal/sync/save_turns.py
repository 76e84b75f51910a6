"""Turns: documents that are to be saved by themselves follow one after the other."""

from __future__ import annotations

import asyncio
from collections import deque

from ..core.schedule import SavePace
from ..transports.base import loop_time


class SaveTurns:
    """The turns in which one server's documents are saved."""

    def __init__(self, pace: SavePace) -> None:
        self._pace = pace
        self._next = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for the next turn, in the order of asking."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            if self._waiting[0] is not turn:
                await turn
            await asyncio.sleep(max(0.0, self._next - loop_time()))
            self._next = loop_time() + self._pace.interval(len(self._waiting))
        finally:
            first = self._waiting[0] is turn
            self._waiting.remove(turn)
            if first and self._waiting and not self._waiting[0].done():
                self._waiting[0].set_result(None)

    def took(self, seconds: float) -> None:
        """Note how long a save took."""
        self._pace.took(seconds)
