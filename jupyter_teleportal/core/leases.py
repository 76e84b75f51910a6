"""Who is alive and who holds a lease, with the clock injected and no I/O. Times in seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .values import LeaseView


@dataclass
class Membership:
    """The replicas alive, as seen by the replica `own`.

    A replica is dead when its last heartbeat is older than `dead_after_s`.
    """

    own: str
    dead_after_s: float
    ages_s: dict[str, float] = field(default_factory=dict)

    def observed(self, ages_s: Mapping[str, float]) -> tuple[set[str], set[str]]:
        """Take the ages of all heartbeats; return who joined and who left since the last time.

        This replica itself is always alive.
        """
        before = set(self.ages_s)
        self.ages_s = {
            replica: age
            for replica, age in ages_s.items()
            if age <= self.dead_after_s or replica == self.own
        }
        now = set(self.ages_s)
        return now - before - {self.own}, before - now - {self.own}

    @property
    def alive(self) -> set[str]:
        return set(self.ages_s) | {self.own}


@dataclass
class Lease:
    """What a replica knows of one room's lease.

    It counts from before the moment when it was asked for, and ends `margin_s` early, so that of
    two replicas at most one ever takes itself for the holder as long as their clocks run equally
    fast.
    """

    own: str
    ttl_s: float
    margin_s: float
    holder: str | None = None
    fence: int = 0
    last_holder: str | None = None
    """Who held it last, as far as is known here; None if nobody did, or has given it back."""
    _asked_at: float = float("-inf")
    _until: float = 0.0
    _absent_since: float | None = None

    def observed(self, view: LeaseView, asked_at: float) -> bool:
        """Take a look at the lease that was asked for at `asked_at`; return whether it changed
        hands. A look that was asked for before the last one that came is overtaken by it."""
        if asked_at < self._asked_at:
            return False
        self._asked_at = asked_at
        before = self.holder, self.fence
        self.holder, self.fence = view.holder, view.fence
        # A transport that was emptied knows of no holder, and yet there is one.
        self.last_holder = view.holder or self.last_holder
        if view.holder == self.own and not view.refused:
            self._until = asked_at + self.ttl_s
        changed = before != (self.holder, self.fence)
        if changed:
            self._absent_since = None
        return changed

    def abandoned(self, alive: Collection[str], now: float) -> bool:
        """Whether somebody who is not alive has been said to hold it, for longer than a lease
        lasts that nobody renews."""
        if self.holder is None or self.holder == self.own or self.holder in alive:
            self._absent_since = None
            return False
        if self._absent_since is None:
            self._absent_since = now
        return now - self._absent_since > 2 * self.ttl_s

    def released(self) -> None:
        """Its holder says that it has given it back."""
        if self.holder != self.own:
            self.holder = self.last_holder = None

    def held(self, now: float) -> bool:
        """Whether this replica may act as the holder at the time `now`."""
        return self.holder == self.own and now < self._until - self.margin_s

    @property
    def own_last(self) -> bool:
        """Whether nobody has held the lease after this replica."""
        return self.last_holder == self.own
