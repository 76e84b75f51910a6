"""Turns of an event loop, and who goes on in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic

from .client_limits import Queue, Waiter


class LoopTurns(Generic[Waiter]):
    """A queue whose turns are those of the event loop.

    Attributes:
        queue: who waits, and what of this turn is used.
    """

    def __init__(self, budget_s: float, go_on: Callable[[Waiter], None]) -> None:
        """
        Args:
            budget_s: seconds of each turn that all of them have together.
            go_on: lets one go on that has waited, whose turn it is now.
        """
        self.queue: Queue[Waiter] = Queue(budget_s)
        self._go_on = go_on
        self._next: asyncio.Handle | None = None

    def schedule(self) -> None:
        """Let this turn end when the event loop has done what is due now."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        rest = self.queue.rest()
        if rest:
            self._next = asyncio.get_running_loop().call_later(rest, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._next = None
        for waiter in self.queue.next_turn():
            self._go_on(waiter)
        if self.queue.waiting:
            self.schedule()
