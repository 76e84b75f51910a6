"""What a client may do, and whose turn it is: decisions only, with the time handed in.

A client is a connection: a browser's tab, or a program that speaks y-websocket. Two things are
decided here. An `Allowance` says when a client sends more than it may; it is then read from more
slowly, and disconnected if it goes on. `Queue` says whose messages are handled next, when there is
more to do than fits into one turn of the event loop.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import SettingsError

MIB = 1024 * 1024
BURST_S = 10.0
"""A client may send as much at once as it may send in so many seconds."""
FORGET_S = 1.0
"""Time that a client has used counts a third after so many seconds."""
AT_ONCE_S = 0.01
"""In so short a time nothing is forgotten."""
LIGHT_S = 0.002
"""A client that has lately used less than this is typing: it does not wait for its turn."""
NEW_S = 0.01
LITTLE = 0.25
"""The part of a turn up to which nobody looks whose turn it was."""
LIGHT_AT_ONCE = 8
SETTLED = 0.1
"""A client that has saved up so much of its burst is within its limits again."""


@dataclass(frozen=True)
class ClientLimits:
    """What clients may do. What each limit is for is said with the extension's setting of the same
    name."""

    client_messages_per_s: float = 10_000.0
    client_bytes_per_s: float = 32.0 * MIB
    client_slowed_max_s: float = 30.0
    client_turn_s: float = 0.01
    client_message_max_bytes: int = 256 * MIB
    client_question_max_bytes: int = MIB
    client_cursors_max: int = 32
    client_cursor_max_bytes: int = 256 * 1024
    document_max_bytes: int = 256 * MIB
    room_clients_max: int = 1000
    user_rooms_max: int = 2000
    user_abandoned_rooms_max: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and value > 0 and math.isfinite(value)):
                raise SettingsError(f"{name} is {value}, it has to be a number above 0")
        if self.client_turn_s > 0.1:
            raise SettingsError(
                f"client_turn_s is {self.client_turn_s}, it must not be above 0.1: everybody else "
                "on this server waits for so long"
            )
        if self.client_message_max_bytes < self.client_question_max_bytes:
            raise SettingsError(
                f"client_message_max_bytes ({self.client_message_max_bytes}) has to be at least "
                f"client_question_max_bytes ({self.client_question_max_bytes})"
            )


class TokenBucket:
    """Allows `rate` a second, and `burst` at once. It may be overdrawn; what is spent too much is
    waited for afterwards."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._left = burst
        self._then = now

    def spend(self, amount: float, now: float) -> None:
        """Take `amount` out."""
        if now > self._then:
            self._left += (now - self._then) * self.rate
            self._then = now
            if self._left > self.burst:
                self._left = self.burst
        self._left -= amount

    @property
    def overdrawn(self) -> bool:
        """Whether it was overdrawn when something was taken out last."""
        return self._left < 0

    def left(self, now: float) -> float:
        """How much may be spent at once; below 0 if it is overdrawn."""
        return min(self.burst, self._left + max(0.0, now - self._then) * self.rate)

    def wait(self, now: float) -> float:
        """Seconds until it is no longer overdrawn."""
        return max(0.0, -self.left(now) / self.rate)


class Allowance:
    """What one client may still send."""

    def __init__(self, limits: ClientLimits, now: float) -> None:
        self._limits = limits
        self._messages = TokenBucket(
            limits.client_messages_per_s, limits.client_messages_per_s * BURST_S, now
        )
        self._bytes = TokenBucket(
            limits.client_bytes_per_s,
            # One message may be as large as a message may be.
            max(limits.client_bytes_per_s * BURST_S, limits.client_message_max_bytes),
            now,
        )
        self._slowed_since: float | None = None

    def spend(self, now: float, *, messages: int = 0, size: int = 0) -> None:
        """The client has sent that many messages, or bytes."""
        if messages:
            self._messages.spend(messages, now)
        if size:
            self._bytes.spend(size, now)

    @property
    def slowed(self) -> bool:
        """Whether the client has been made to wait, and has not been within its limits since."""
        return self._slowed_since is not None

    @property
    def free(self) -> bool:
        """Whether nothing has to be waited for, nor ever had to be; `wait` looks closer."""
        return self._slowed_since is None and not (
            self._messages.overdrawn or self._bytes.overdrawn
        )

    def wait(self, now: float) -> float:
        """Seconds for which nothing should be read from the client."""
        wait = max(self._messages.wait(now), self._bytes.wait(now))
        if wait > 0:
            if self._slowed_since is None:
                self._slowed_since = now
        elif self._slowed_since is not None and all(
            bucket.left(now) >= SETTLED * bucket.burst for bucket in (self._messages, self._bytes)
        ):
            self._slowed_since = None
        return wait

    def exceeded(self, now: float) -> str | None:
        """What the client has sent too much of for too long, in words; None if it has not."""
        if self._slowed_since is None or (
            now - self._slowed_since < self._limits.client_slowed_max_s
        ):
            return None
        kind, bucket = min(
            (("messages", self._messages), ("bytes", self._bytes)),
            key=lambda item: item[1].left(now) / item[1].burst,
        )
        return f"more than {bucket.rate:.0f} {kind} a second"


class Usage:
    """How much of the event loop's time a client has used lately.

    One that has just come counts as if it had used some: nobody knows yet what it will do, and to
    connect again must be no way to come first.
    """

    def __init__(self, now: float) -> None:
        self._used = NEW_S
        self._then = now

    def add(self, seconds: float, now: float) -> None:
        if now - self._then > AT_ONCE_S:
            self._used = self.lately(now)
            self._then = now
        self._used += seconds

    def lately(self, now: float) -> float:
        """Seconds used, of which older ones count less."""
        return self._used * math.exp(-max(0.0, now - self._then) / FORGET_S)


Waiter = TypeVar("Waiter")


class Queue(Generic[Waiter]):
    """Whose messages are handled in this turn of the event loop, and who waits for the next one.

    In each turn the clients together have `budget_s`. Who comes when that is used up waits. In the
    next turn those come first that have used least lately: those who type, before those who send
    without a pause, however many these are.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._spent = 0.0
        self._heap: list[tuple[float, int, Waiter]] = []
        self._order = itertools.count()

    @property
    def spent(self) -> float:
        """Seconds that clients have used in this turn."""
        return self._spent

    @property
    def counts(self) -> bool:
        """Whether so much is spent that it matters when the next turn begins. What is less is
        counted on, whichever turn of the event loop it was spent in."""
        return self._spent >= self.budget_s * LITTLE

    @property
    def waiting(self) -> bool:
        return bool(self._heap)

    @property
    def free(self) -> bool:
        """Whether nobody need wait."""
        return self._spent < self.budget_s and not self._heap

    def may_go_on(self, used: float) -> bool:
        """Whether a client that has used so much lately need not wait."""
        return used < LIGHT_S or self.free

    def enter(self, waiter: Waiter, used: float) -> None:
        """Let `waiter` wait, who has used so much lately."""
        heapq.heappush(self._heap, (used, next(self._order), waiter))

    def spend(self, seconds: float) -> None:
        """A client has used so much of this turn."""
        self._spent += seconds

    def rest(self) -> float:
        """Seconds until the next turn should begin. After work that could not be cut into pieces,
        everybody else has as much time as it took."""
        return self._spent if self._spent > 2 * self.budget_s else 0.0

    def next_turn(self) -> list[Waiter]:
        """Begin the next turn; return who goes on in it."""
        self._spent = 0.0
        going: list[Waiter] = []
        while self._heap and len(going) < LIGHT_AT_ONCE:
            if going and self._heap[0][0] >= LIGHT_S:
                break
            going.append(heapq.heappop(self._heap)[2])
        return going
