"""When a document is saved: a debounce with a ceiling, clock injected, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SaveSchedule:
    """Decides when the next save is due.

    A save waits until nothing has changed for `delay` seconds, but never longer than `ceiling`
    seconds after the first change, so that a typist who never pauses is saved too.
    """

    delay: float
    ceiling: float
    _first: float | None = None
    _last: float = 0.0

    def changed(self, now: float) -> None:
        """Note a change at the time `now`, in seconds."""
        if self._first is None:
            self._first = now
        self._last = now

    def due(self) -> float | None:
        """The time, in seconds, at which the next save is due; None if nothing has changed."""
        if self._first is None:
            return None
        return min(self._last + self.delay, self._first + self.ceiling)

    def taken(self) -> None:
        """Note that a save takes up everything that changed so far."""
        self._first = None
