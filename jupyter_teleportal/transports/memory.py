"""A transport within one process: the twin of the Redis transport, for tests and for embedding."""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger, getLogger
from typing import Any, ClassVar

from ..core.envelopes import EntryEnvelope
from ..core.errors import (
    LogChanged,
    LogFull,
    MapTooLarge,
    ShareFull,
    TransportError,
    TransportRefused,
    TransportUnavailable,
)
from ..core.values import (
    ZERO_OFFSET,
    Appended,
    ClusterView,
    Entry,
    History,
    LeaseView,
    LeaseWish,
    LogRead,
    LogSize,
    Scope,
    Seeded,
    offset_key,
)
from . import base
from .base import Listener, TransportBase, TransportState, loop_time

INLINE_MAX_BYTES = 64 * 1024
LEASE_MAX = 10
"""What lasts longer than so many leases was not taken by a server."""
FULL = "OOM command not allowed when used memory > 'maxmemory'."
READ_ONLY = "READONLY You can't write against a read only replica."
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


PARTS = 3


def _most(most: float, payload: bytes) -> float:
    return most if len(payload) > INLINE_MAX_BYTES else 1.1 * most


@dataclass
class _Room:
    log: str | None = None
    entries: list[Entry] = field(default_factory=list)
    checkpoint: bytes | None = None
    checkpoint_offset: str = ZERO_OFFSET
    base: bytes | None = None
    holder: str | None = None
    held_until: float = 0.0
    fence: int = 0

    @property
    def payload_bytes(self) -> int:
        return sum(len(entry.payload) for entry in self.entries)

    @property
    def other_bytes(self) -> int:
        return len(self.checkpoint or b"") + len(self.base or b"")


class MemoryHub:
    """What all memory transports of one process share: the counterpart of a Redis server, and as
    unkind as one where it is told to be.

    Args:
        clock: returns the time in seconds; the event loop's clock by default.

    Attributes:
        full: it takes nothing that needs memory. Reading, publishing, renewing a lease, giving one
            back and removing go on, as in a Redis with ``noeviction``.
        read_only: it takes nothing at all, as a Redis that has become a replica.
        wrong_type: keys that hold a value of another kind, by scope and name (``log``,
            ``checkpoint``, ``saved``, ``saver``, or a map's).
        bulk_s: how long it takes to read a log or a history.
        inline_max_bytes: larger payloads are announced by their offset alone, as Redis does it.
        log_max_bytes, share_max_bytes: most bytes of one document, of which each part takes a
            third, and of all of a share's; None: any number.
    """

    def __init__(self, clock: Callable[[], float] = loop_time) -> None:
        self.full = False
        self.read_only = False
        self.wrong_type: set[tuple[Scope, str]] = set()
        self.bulk_s = 0.0
        self.inline_max_bytes = INLINE_MAX_BYTES
        self.log_max_bytes: int | None = None
        self.share_max_bytes: int | None = None
        self.clock = clock
        self.rooms: dict[Scope, _Room] = defaultdict(_Room)
        self.maps: dict[tuple[Scope, str], dict[str, str]] = defaultdict(dict)
        self.listeners: dict[Scope, list[tuple[MemorySyncTransport, Listener]]] = defaultdict(list)
        self.session: str | None = None
        self.beats: dict[str, float] = {}
        self._sequence = itertools.count(1)

    def next_offset(self) -> str:
        return f"1-{next(self._sequence)}"

    def clear(self) -> None:
        """Forget everything, as FLUSHALL does; subscriptions stay."""
        self.rooms.clear()
        self.maps.clear()
        self.beats.clear()
        self.session = None

    def copy(self) -> Any:
        """Everything as it is now, for `roll_back`."""
        return copy.deepcopy((self.rooms, self.maps, self.beats, self.session))

    def roll_back(self, earlier: Any) -> None:
        """Forget what was acknowledged since `earlier`, as a failover to a replica that lags behind
        does."""
        self.rooms, self.maps, self.beats, self.session = copy.deepcopy(earlier)


class MemorySyncTransport(TransportBase):
    """Shares rooms between the parts of one process that use the same `MemoryHub`."""

    name = "memory"
    default_hub: ClassVar[MemoryHub | None] = None

    def __init__(
        self,
        hub: MemoryHub | None = None,
        *,
        url: str | None = None,
        key_prefix: str = "",
        log: Logger | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            hub: what is shared; by default one hub for the whole process.
            url, key_prefix, options: taken for the sake of one signature, and not used.
            log: where to log.
        """
        super().__init__(log or getLogger(__name__))
        if hub is None:
            if MemorySyncTransport.default_hub is None:
                MemorySyncTransport.default_hub = MemoryHub()
            hub = MemorySyncTransport.default_hub
        self.hub = hub
        self.forbidden: set[tuple[str, str | None]] = set()
        """What this transport's account has no right to: a method's name, and the share that it is
        about, None for all shares."""

    async def start(self) -> None:
        self._set_state(TransportState.CONNECTED)

    async def aclose(self) -> None:
        for listeners in self.hub.listeners.values():
            listeners[:] = [pair for pair in listeners if pair[0] is not self]
        self._set_state(TransportState.LOCAL)

    def disconnect(self) -> None:
        """Behave as if the hub could not be reached, until `reconnect`."""
        self._problem = "the memory transport is disconnected"
        self._set_state(TransportState.DEGRADED)

    def reconnect(self) -> None:
        self._set_state(TransportState.CONNECTED)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self._state is not TransportState.CONNECTED:
            raise TransportUnavailable("the memory transport is disconnected")

    def _may(self, operation: str, scope: Scope) -> None:
        if {(operation, scope.share), (operation, None)} & self.forbidden:
            raise TransportRefused(f"NOPERM this account may not {operation} in {scope.share!r}")

    async def _reach_bulk(self) -> None:
        if self.hub.bulk_s:
            await asyncio.sleep(self.hub.bulk_s)

    def _has_type(self, scope: Scope, *keys: str) -> None:
        if any((scope, key) in self.hub.wrong_type for key in keys):
            raise TransportRefused(WRONG_TYPE)

    def _write(self, *, grows: bool) -> None:
        """Raise, if nothing is taken; `grows`: it needs memory."""
        if self.hub.read_only:
            raise TransportRefused(READ_ONLY)
        if grows and self.hub.full:
            raise TransportRefused(FULL)

    async def subscribe(self, scope: Scope, listener: Listener) -> None:
        await self.unsubscribe(scope)
        self.hub.listeners[scope].append((self, listener))
        await self._reach()
        try:
            self._may("subscribe", scope)
        except TransportRefused:
            await self.unsubscribe(scope)
            raise

    async def unsubscribe(self, scope: Scope) -> None:
        listeners = self.hub.listeners[scope]
        listeners[:] = [pair for pair in listeners if pair[0] is not self]

    async def publish(self, scope: Scope, message: bytes) -> int:
        await self._reach()
        self._may("publish", scope)
        return self._send(scope, message)

    def _send(self, scope: Scope, message: bytes) -> int:
        listeners = list(self.hub.listeners[scope])
        for transport, listener in listeners:
            if transport.state is TransportState.CONNECTED:
                transport._deliver(scope, listener, message)
        return len(listeners)

    async def seed_log(self, scope: Scope, lineage: str, replica: str, payload: bytes) -> Seeded:
        await self._reach()
        self._may("seed_log", scope)
        self._has_type(scope, "checkpoint")
        room = self.hub.rooms[scope]
        if room.log is not None:
            self._has_type(scope, "log")
            return Seeded(False, room.log, room.entries[-1].offset if room.entries else ZERO_OFFSET)
        self._write(grows=True)
        self._expect_room(scope, payload)
        room.log = f"{lineage}/{secrets.token_hex(4)}"
        room.entries.clear()
        appended = self._append(scope, room, replica, payload)
        return Seeded(True, room.log, appended.offset)

    async def append_log(self, scope: Scope, log: str, replica: str, payload: bytes) -> Appended:
        await self._reach()
        self._may("append_log", scope)
        self._has_type(scope, "checkpoint")
        room = self.hub.rooms[scope]
        if room.log != log:
            raise LogChanged(f"the log is {room.log}, not {log}")
        self._has_type(scope, "log")
        self._write(grows=True)
        self._expect_room(scope, payload)
        return self._append(scope, room, replica, payload)

    def _expect_room(self, scope: Scope, payload: bytes) -> None:
        if (most := self.hub.log_max_bytes) is not None:
            there = self.hub.rooms[scope].payload_bytes
            if there + len(payload) > _most(most / PARTS, payload):
                raise LogFull(f"the document takes {there} bytes, and may take {most}")
        if (most := self.hub.share_max_bytes) is not None:
            rooms = [room for one, room in self.hub.rooms.items() if one.share == scope.share]
            there = sum(room.payload_bytes + room.other_bytes for room in rooms)
            if there + len(payload) > _most(most, payload):
                raise ShareFull(f"the share's documents take {there} bytes, and may take {most}")

    def _append(self, scope: Scope, room: _Room, replica: str, payload: bytes) -> Appended:
        previous = room.entries[-1].offset if room.entries else ZERO_OFFSET
        entry = Entry(self.hub.next_offset(), payload, replica, previous)
        room.entries.append(entry)
        assert room.log is not None
        announced = payload if len(payload) <= self.hub.inline_max_bytes else None
        envelope = EntryEnvelope(replica, room.log, previous, entry.offset, announced)
        self._send(scope, envelope.encode())
        return Appended(previous, entry.offset)

    async def read_log(self, scope: Scope, log: str | None, after: str) -> LogRead:
        await self._reach()
        await self._reach_bulk()
        self._may("read_log", scope)
        self._has_type(scope, "log", "checkpoint")
        room = self.hub.rooms[scope]
        if room.log is None:
            return LogRead(None, False, [])
        if room.log == log:
            for position, entry in enumerate(room.entries):
                if entry.offset == after:
                    return LogRead(log, True, room.entries[position + 1 :], None, after)
        start = offset_key(room.checkpoint_offset)
        entries = [entry for entry in room.entries if offset_key(entry.offset) > start]
        return LogRead(room.log, False, entries, room.checkpoint, room.checkpoint_offset)

    async def compact_log(self, scope: Scope, log: str, offset: str, payload: bytes) -> None:
        await self._reach()
        self._may("compact_log", scope)
        self._has_type(scope, "checkpoint")
        room = self.hub.rooms[scope]
        if room.log != log:
            raise LogChanged(f"the log is {room.log}, not {log}")
        self._write(grows=True)
        if (most := self.hub.log_max_bytes) is not None and len(payload) > most / PARTS:
            raise LogFull(f"the document takes {len(payload)} bytes, and may take {most / PARTS}")
        if offset_key(offset) >= offset_key(room.checkpoint_offset):
            room.checkpoint, room.checkpoint_offset = payload, offset

    async def log_size(self, scope: Scope, log: str) -> LogSize:
        await self._reach()
        self._may("log_size", scope)
        self._has_type(scope, "log", "checkpoint")
        room = self.hub.rooms[scope]
        if room.log != log:
            raise LogChanged(f"the log is {room.log}, not {log}")
        return LogSize(
            len(room.entries),
            room.payload_bytes,
            room.entries[0].offset if room.entries else ZERO_OFFSET,
            room.entries[-1].offset if room.entries else ZERO_OFFSET,
            room.other_bytes,
        )

    async def read_history(
        self, scope: Scope, *, after: str | None = None, max_bytes: int | None = None
    ) -> History:
        await self._reach()
        await self._reach_bulk()
        self._may("read_history", scope)
        self._has_type(scope, "log", "checkpoint")
        room = self.hub.rooms[scope]
        start = offset_key(after or ZERO_OFFSET)
        entries: list[Entry] = []
        size = 0
        for entry in room.entries:
            if offset_key(entry.offset) <= start:
                continue
            size += len(entry.payload)
            if entries and max_bytes is not None and size > max_bytes:
                break
            entries.append(entry)
        return History(room.base if after is None else None, entries)

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
        await self._reach()
        self._may("trim_history", scope)
        self._has_type(scope, "log", "checkpoint")
        room = self.hub.rooms[scope]
        if room.log != log:
            raise LogChanged(f"the log is {room.log}, not {log}")
        self._write(grows=True)
        start = offset_key(first)
        if room.entries and start < offset_key(room.entries[0].offset):
            return
        room.base = base
        room.entries[:] = [entry for entry in room.entries if offset_key(entry.offset) >= start]

    async def hold_lease(
        self, scope: Scope, replica: str, *, want: bool, ttl_s: float, keep_s: float
    ) -> LeaseView:
        await self._reach()
        return self._hold(scope, replica, want=want, ttl_s=ttl_s)

    def _hold(
        self, scope: Scope, replica: str, *, want: bool, ttl_s: float, written: bool = False
    ) -> LeaseView:
        """`written`: the same script has written already, which Redis then lets go on although it
        is full."""
        self._may("hold_lease", scope)
        self._has_type(scope, "saver", "log", "checkpoint")
        room = self.hub.rooms[scope]
        now = self.hub.clock()
        if not now < room.held_until <= now + LEASE_MAX * ttl_s:
            room.holder = None
        refused = ""
        try:
            if room.holder is None and want:
                self._has_type(scope, "saved")
                self._write(grows=not written)
                room.holder = replica
                room.fence += 1
            elif room.holder == replica:
                self._write(grows=False)
        except TransportRefused as error:
            refused = str(error)
        else:
            if room.holder == replica and want:
                room.held_until = now + ttl_s
            elif room.holder == replica:
                room.holder = None
        tail = room.entries[-1].offset if room.entries else ZERO_OFFSET
        return LeaseView(
            room.holder, room.fence if room.holder else 0, room.log, tail, refused=refused
        )

    async def hold_leases(
        self, wishes: Sequence[LeaseWish], replica: str, *, ttl_s: float, keep_s: float
    ) -> list[LeaseView | TransportError]:
        outcomes: list[LeaseView | TransportError] = []
        written = False
        for wish in wishes:
            try:
                await self._reach()
                view = self._hold(wish.scope, replica, want=wish.want, ttl_s=ttl_s, written=written)
            except TransportError as error:
                outcomes.append(error)
            else:
                written = written or (view.holder == replica and not view.refused)
                outcomes.append(view)
        return outcomes

    async def mark_saved(
        self, scope: Scope, log: str, offset: str, record: Mapping[str, str], keep_s: float
    ) -> None:
        await self._reach()
        self._may("mark_saved", scope)
        self._has_type(scope, "checkpoint")
        if self.hub.rooms[scope].log != log:
            raise LogChanged(f"the log is {self.hub.rooms[scope].log}, not {log}")
        self._has_type(scope, "saved")
        self._write(grows=True)
        self.hub.maps[scope, "saved"].update({**record, "offset": offset})
        self._has_type(scope, "log")

    async def read_map(
        self, scope: Scope, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, str]:
        await self._reach()
        self._may("read_map", scope)
        self._has_type(scope, name)
        values = self.hub.maps[scope, name]
        if keys is None:
            if len(values) > base.MAP_ENTRIES_MAX:
                self.counters["unreadable"] += 1
                raise MapTooLarge(
                    f"the map {name} has {len(values)} entries, more than {base.MAP_ENTRIES_MAX}"
                )
            return dict(values)
        return {key: values[key] for key in keys if key in values}

    async def write_map(
        self, scope: Scope, name: str, values: Mapping[str, str | None], *, keep: bool = False
    ) -> dict[str, str]:
        await self._reach()
        self._may("write_map", scope)
        self._has_type(scope, name)
        there = self.hub.maps[scope, name]
        for key, value in values.items():
            self._write(grows=value is not None)
            if keep and key in there:
                continue
            if value is None:
                there.pop(key, None)
            else:
                there[key] = value
        return {key: there[key] for key in values if key in there}

    async def expire_room(
        self, scope: Scope, log: str, after_s: float, *, tail: str | None = None
    ) -> None:
        await self._reach()
        self._may("expire_room", scope)
        self._write(grows=False)
        room = self.hub.rooms[scope]
        if room.log != log:
            raise LogChanged(f"the log is {room.log}, not {log}")
        ends = room.entries[-1].offset if room.entries else ZERO_OFFSET
        if tail not in (None, ends):
            raise LogChanged(f"the log {log} ends at {ends}, not at {tail}")
        if after_s <= 0:
            self.hub.wrong_type -= {(scope, key) for key in ("log", "checkpoint", "saved")}
            self.hub.rooms.pop(scope, None)
            self.hub.maps.pop((scope, "saved"), None)

    async def heartbeat(
        self, replica: str, session: str, *, forget_s: float, keep_s: float
    ) -> ClusterView:
        await self._reach()
        self._may("heartbeat", Scope(""))
        self._write(grows=False)
        now = self.hub.clock()
        refused = FULL if self.hub.full else ""
        if not self.hub.full:
            self.hub.beats[replica] = now
            self.hub.session = self.hub.session or session
        ages = {name: now - beat for name, beat in self.hub.beats.items()}
        for name, age in ages.items():
            if age > forget_s:
                del self.hub.beats[name]
        return ClusterView(
            self.hub.session or session,
            {n: a for n, a in ages.items() if a <= forget_s},
            refused,
        )

    async def farewell(self, replica: str) -> None:
        await self._reach()
        self._write(grows=False)
        self.hub.beats.pop(replica, None)
