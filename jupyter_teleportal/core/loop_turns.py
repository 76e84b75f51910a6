"""Turns of an event loop, and who goes on in the next one. No I/O: the loop is handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol

from .client_limits import Queue, Waiter

PUT_OFF_MAX = 8


class Loop(Protocol):
    """What of an event loop is used here."""

    def call_soon(self, callback: Callable[[], object], /) -> object: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object: ...


class LoopTurns(Generic[Waiter]):
    """A queue whose turns are those of the event loop.

    Attributes:
        queue: who waits, and what of this turn is used.
        behind: whether more has come than was taken in yet. Those whose turn it would be then wait
            for up to `PUT_OFF_MAX` turns of the event loop, in which more of it can be taken in:
            among it may be what need not wait.
    """

    def __init__(
        self, budget_s: float, go_on: Callable[[Waiter], None], loop: Callable[[], Loop]
    ) -> None:
        """
        Args:
            budget_s: seconds of each turn that all of them have together.
            go_on: lets one go on that has waited, whose turn it is now.
            loop: returns the event loop that runs.
        """
        self.queue: Queue[Waiter] = Queue(budget_s)
        self._go_on = go_on
        self._loop = loop
        self.behind = False
        self._put_off = 0
        self._scheduled = False

    def schedule(self) -> None:
        """Let this turn end when the event loop has done what is due now."""
        if not self._scheduled:
            self._loop().call_soon(self._end)
            self._scheduled = True

    def _end(self) -> None:
        if self.behind and self._put_off < PUT_OFF_MAX:
            self._put_off += 1
            self._loop().call_soon(self._end)
            return
        self._put_off = 0
        rest = self.queue.rest()
        if rest:
            self._loop().call_later(rest, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._scheduled = False
        for waiter in self.queue.next_turn():
            self._go_on(waiter)
        if self.queue.waiting:
            self.schedule()
