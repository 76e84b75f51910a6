"""The turns in which clients' messages are handled, on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from ..core.client_limits import Usage
from ..core.loop_turns import LoopTurns


class ClientTurns:
    """Keeps what clients cause from holding up everybody else: all of them together get a part of
    each turn of the event loop, and those who have used little of it lately come first."""

    def __init__(self, budget_s: float) -> None:
        """
        Args:
            budget_s: seconds of each turn of the event loop.
        """
        self._turns: LoopTurns[asyncio.Future[None]] = LoopTurns(
            budget_s, _wake, asyncio.get_running_loop
        )
        self._queue = self._turns.queue
        self._usage: WeakKeyDictionary[object, Usage] = WeakKeyDictionary()

    async def enter(self, client: object) -> None:
        """Wait until it is the client's turn, if it has to wait."""
        if self._queue.free:
            return
        used = self._used_by(client).lately(time.monotonic())
        while not self._queue.may_go_on(used):
            waiting = asyncio.get_running_loop().create_future()
            self._queue.enter(waiting, used)
            self._turns.schedule()
            await waiting
            if not self.over:
                return

    def spend(self, client: object, seconds: float) -> None:
        """The client has used so much of this turn."""
        self._used_by(client).add(seconds, time.monotonic())
        self._queue.spend(seconds)
        if self._queue.counts:
            self._turns.schedule()

    @property
    def budget_s(self) -> float:
        """Seconds that all clients together have in each turn."""
        return self._queue.budget_s

    @property
    def over(self) -> bool:
        """Whether this turn is used up."""
        return self._queue.spent >= self._queue.budget_s

    @asynccontextmanager
    async def turn(self, client: object) -> AsyncIterator[None]:
        """Wait for the client's turn, and count the time that what is done in it takes. What is
        done must not wait for anything."""
        await self.enter(client)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spend(client, time.perf_counter() - began)

    def _used_by(self, client: object) -> Usage:
        usage = self._usage.get(client)
        if usage is None:
            usage = self._usage[client] = Usage(time.monotonic())
        return usage


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
