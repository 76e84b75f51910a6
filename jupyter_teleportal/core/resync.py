"""When a client is asked for all that a room lacks of what it holds, with no I/O.

What a client sends may build on what the room has not: it types before it has answered the first
question, or on what the room refuses. An honest one that is asked sends all that it holds.
"""

from __future__ import annotations

QUESTIONS_MAX = 3
"""So many answers in turn that lack something are enough."""
FIRST_PAUSE_S = 1.0
ANSWER_S = 60.0


class Resync:
    """What one client is asked.

    It is asked when it comes in, and what it sends until it has answered need not be complete.
    """

    def __init__(self, now: float) -> None:
        self._asked_at: float | None = now
        self._last = now
        self._vain = 0

    def lacking(self, now: float) -> float | None:
        """An update has come that lacks something. Return after how many seconds to ask for all of
        it; None if that has been asked, or was in vain."""
        if self._asked_at is not None and now - self._asked_at > ANSWER_S:
            self._asked_at = None
            self._vain += 1
        if self._asked_at is not None or self.in_vain:
            return None
        at: float = max(now, self._last + FIRST_PAUSE_S * 4**self._vain)
        self._asked_at = self._last = at
        return at - now

    def answered(self, *, lacking: bool) -> None:
        """The client has sent all that it holds, which may still lack something."""
        self._asked_at = None
        self._vain = self._vain + 1 if lacking else 0

    @property
    def in_vain(self) -> bool:
        """Whether it is not asked any more."""
        return self._vain >= QUESTIONS_MAX
