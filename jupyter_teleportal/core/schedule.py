"""When a document is saved, and when something is tried again; clock injected, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_SAVE_S = 0.001
LONGEST_SAVE_S = 0.1
SMOOTHING = 0.1


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

    def latest(self) -> float | None:
        """The time, in seconds, after which nothing may put the next save off."""
        return None if self._first is None else self._first + self.ceiling

    def taken(self) -> None:
        """Note that a save takes up everything that changed so far."""
        self._first = None


@dataclass
class SavePace:
    """How far apart the saves of many documents begin, so that what people type comes between.

    They take `share` of the time, or as much more as it takes to save all that wait `within` so
    many seconds.
    """

    within: float
    share: float = 0.25
    _usual: float = 0.005

    def interval(self, waiting: int) -> float:
        """The seconds until the next save may begin, if `waiting` more are to follow."""
        return min(self._usual / self.share, self.within / max(1, waiting))

    def took(self, seconds: float) -> None:
        """Note how long a save took; what hangs does not count for all of its time."""
        bounded = min(max(seconds, SHORTEST_SAVE_S), LONGEST_SAVE_S)
        self._usual += SMOOTHING * (bounded - self._usual)


@dataclass
class RetryPace:
    """How long to wait before something is done again that should not be necessary again and again.

    The first few times it is done at once. From then on it takes no more than a `share` of the
    time, but is put off for no more than `most_s` seconds; until it was not necessary for `calm_s`
    seconds.
    """

    free: int = 3
    share: float = 0.2
    most_s: float = 30.0
    calm_s: float = 30.0
    _count: int = 0
    _next: float = 0.0

    def pause(self, now: float) -> float:
        """The seconds to wait before it is done at the time `now`, in seconds."""
        if now > self._next + self.calm_s:
            self._count = 0
        return max(0.0, self._next - now) if self._count >= self.free else 0.0

    def took(self, began: float, ended: float) -> None:
        """Note that it was done from `began` to `ended`."""
        self._count += 1
        self._next = ended + min((ended - began) * (1 / self.share - 1), self.most_s)
