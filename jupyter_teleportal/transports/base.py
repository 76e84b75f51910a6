"""What a transport has to offer so that replicas can share documents through it.

A transport carries four things, each for a `Scope` (a share, or one room of it):

- a *log* per room: an ordered, durable list of payloads, seeded once;
- a *channel* per scope: messages to all subscribers, at most once, in no promised order;
- a *lease* per room: at most one holder at a time;
- *maps* per scope: small durable dictionaries of strings.

Whatever offers these (a message queue with a table beside it, a database with triggers) can take
Redis's place; ``tests/transports/test_contract.py`` is the contract that it has to pass. A new
transport is found by its name through the entry-point group ``jupyter_teleportal.transports``;
its class is called with the keyword arguments ``url``, ``key_prefix``, ``log`` and ``options``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum
from logging import Logger
from typing import Protocol

from ..core.errors import TransportError
from ..core.values import (
    Appended,
    ClusterView,
    History,
    LeaseView,
    LeaseWish,
    LogRead,
    LogSize,
    Scope,
    Seeded,
)

Listener = Callable[[bytes], None]
StateListener = Callable[["TransportState"], None]
MISSED = bytes(bytearray(b"messages were dropped"))
"""What a listener is given in the place of messages that were dropped, because more came than can
be handled. It is this very object, which nobody can send."""

MAP_ENTRIES_MAX = 100_000
"""Most entries of a map that are read at once: the other side does nothing else meanwhile."""


class TransportState(str, Enum):
    """How a transport is doing; the values are those of the status endpoint."""

    CONNECTED = "connected"
    DEGRADED = "degraded"
    LOCAL = "local"


class SyncTransport(Protocol):
    """The interface of a transport. All times are in seconds.

    Every coroutine may raise `TransportUnavailable` (not connected; the caller tries again when
    the state is `CONNECTED`) and `TransportRefused` (the other side said no). None of them ever
    lets an error of the underlying library through. An append may have happened although it
    raised; so whatever is appended must bear being there twice, as Y updates do.
    """

    name: str
    counters: Counter[str]
    """How often something went wrong in the transport itself, by name, for the status."""

    @property
    def state(self) -> TransportState: ...

    @property
    def problem(self) -> str:
        """Why the state is `DEGRADED`, and how to mend it, for people; otherwise empty."""
        ...

    def watch(self, listener: StateListener) -> None:
        """Call `listener` whenever the state changes, and again with `CONNECTED` whenever
        messages of a channel may have been missed."""
        ...

    async def start(self) -> None:
        """Connect. Returns when connected or when the first attempt has failed; never raises
        for an unreachable server, but goes on trying."""
        ...

    async def aclose(self) -> None:
        """Close all connections and stop all tasks. Idempotent."""
        ...

    async def subscribe(self, scope: Scope, listener: Listener) -> None:
        """Call `listener` for every message on the channel of `scope` from now on, or with
        `MISSED`. One listener per scope. The subscription outlives disconnects."""
        ...

    async def unsubscribe(self, scope: Scope) -> None: ...

    async def publish(self, scope: Scope, message: bytes) -> int:
        """Send `message` to all subscribers of the channel, the own ones included; return how many
        there are, as far as is known."""
        ...

    async def seed_log(self, scope: Scope, lineage: str, replica: str, payload: bytes) -> Seeded:
        """Create the log with `payload` as its first entry, unless there is one."""
        ...

    def append_log(
        self, scope: Scope, log: str, replica: str, payload: bytes
    ) -> Awaitable[Appended]:
        """Append `payload` to the log with the id `log` and announce it on the channel with an
        `EntryEnvelope`; `LogChanged` if the room's log has another id, or is gone. A transport
        that can sends it before this returns, so that a keystroke does not wait for its turn.
        `LogFull` where the log, or all of the share's, would be larger than they may be."""
        ...

    async def read_log(self, scope: Scope, log: str | None, after: str) -> LogRead:
        """Read what follows the entry `after` of `log`; from the checkpoint on, if the log is
        another one, or no longer holds that entry."""
        ...

    async def compact_log(self, scope: Scope, log: str, offset: str, payload: bytes) -> None:
        """Set the checkpoint: `payload` stands for everything up to `offset`."""
        ...

    async def log_size(self, scope: Scope, log: str) -> LogSize:
        """Return how much the log is. It costs no more for a long log than for a short one."""
        ...

    async def read_history(
        self, scope: Scope, *, after: str | None = None, max_bytes: int | None = None
    ) -> History:
        """Return the log as far as it is kept; with `after` only the entries behind that one,
        without the base; with `max_bytes` only the first entries, of so many bytes (but at least
        one, if there is one)."""
        ...

    async def trim_history(
        self,
        scope: Scope,
        log: str,
        first: str,
        base: bytes,
        *,
        entries: int = 0,
        payload_bytes: int = 0,
    ) -> None:
        """Forget the entries before the one at `first`; `base` stands for them from now on. How
        many `entries` these are, of how many bytes, whoever has read them may say, so that it
        need not be counted."""
        ...

    async def hold_lease(
        self, scope: Scope, replica: str, *, want: bool, ttl_s: float, keep_s: float
    ) -> LeaseView:
        """Take the room's lease if it is free, renew it if it is `replica`'s; with `want` false
        give it back. A held lease keeps the room's keys from expiring (`keep_s`)."""
        ...

    async def hold_leases(
        self, wishes: Sequence[LeaseWish], replica: str, *, ttl_s: float, keep_s: float
    ) -> list[LeaseView | TransportError]:
        """Do the same for many rooms, with as little effort for each as can be. What goes wrong
        with one of them stands in its place."""
        ...

    async def mark_saved(
        self, scope: Scope, log: str, offset: str, record: Mapping[str, str], keep_s: float
    ) -> None:
        """Update the map ``saved`` of the room with `record` and `offset`. If nothing was
        appended after `offset`, the room's keys expire `keep_s` from now."""
        ...

    async def read_map(
        self, scope: Scope, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Return the map `name`, or those of its `keys` that are there. `MapTooLarge`, and the
        counter ``unreadable``, if all of it is asked for and it has more than `MAP_ENTRIES_MAX`
        entries; how many there are is found out without reading them."""
        ...

    async def write_map(
        self, scope: Scope, name: str, values: Mapping[str, str | None], *, keep: bool = False
    ) -> dict[str, str]:
        """Set the `values` (None removes a key); with `keep`, keys that are there stay as they
        are. Returns the values that the keys have now."""
        ...

    async def expire_room(
        self, scope: Scope, log: str, after_s: float, *, tail: str | None = None
    ) -> None:
        """Let everything of a room expire `after_s` from now, or sooner; 0: at once. `LogChanged`,
        and nothing expires, if the room's log is not `log`, or if `tail` is given and the log ends
        elsewhere: what is there then is somebody else's."""
        ...

    async def heartbeat(
        self, replica: str, session: str, *, forget_s: float, keep_s: float
    ) -> ClusterView:
        """Note that `replica` lives; `session` becomes the cluster's session id if there is
        none. Replicas silent for `forget_s` are forgotten."""
        ...

    async def farewell(self, replica: str) -> None:
        """Forget `replica` at once."""
        ...

    async def granted(self) -> frozenset[str] | None:
        """Return the names of the shares that whoever gave this server its account lets it reach
        now, None if nobody says. A share that is not among them was taken away, which is not the
        same as a transport that refuses."""
        ...


class TransportBase:
    """State and its listeners, for transports to inherit."""

    name = "base"

    def __init__(self, log: Logger) -> None:
        self.log = log
        self.counters: Counter[str] = Counter()
        self._state = TransportState.LOCAL
        self._state_listeners: list[StateListener] = []
        self._problem = ""

    @property
    def state(self) -> TransportState:
        return self._state

    @property
    def problem(self) -> str:
        return self._problem if self._state is TransportState.DEGRADED else ""

    def watch(self, listener: StateListener) -> None:
        self._state_listeners.append(listener)

    async def granted(self) -> frozenset[str] | None:
        return None

    def _set_state(self, state: TransportState) -> None:
        self._state = state
        for listener in self._state_listeners:
            try:
                listener(state)
            except BaseException as error:
                if passes_through(error):
                    raise
                self.counters["errors"] += 1
                self.log.exception(
                    "Something did not take in that the transport is %s", state.value
                )

    def _deliver(self, scope: Scope, listener: Listener, message: bytes) -> None:
        """Hand a message on; an error in one room must not reach the others."""
        try:
            listener(message)
        except BaseException as error:
            if passes_through(error):
                raise
            self.counters["errors"] += 1
            self.log.exception(
                "A message of %d bytes for room %s of share %s could not be handled and is "
                "dropped; the room reads the log again",
                len(message),
                scope.room,
                scope.share,
            )


def passes_through(error: BaseException) -> bool:
    """Whether `error` is meant to end the task. A panic of a library written in Rust is not, though
    it is no `Exception`."""
    if isinstance(nested := getattr(error, "exceptions", None), tuple | list):
        return any(map(passes_through, nested))
    ends = asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit
    return isinstance(error, ends)


def loop_time() -> float:
    """Monotonic seconds of the running event loop."""
    return asyncio.get_running_loop().time()
