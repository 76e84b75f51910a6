"""What replicas tell each other about: scopes, logs, leases, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

ZERO_OFFSET = "0-0"


@lru_cache(4096)
def offset_key(offset: str) -> tuple[int, int]:
    """Return a key by which the offset ``<ms>-<sequence>`` sorts; ValueError if it is not one."""
    milliseconds, sequence = offset.split("-")
    return int(milliseconds), int(sequence)


@dataclass(frozen=True)
class Scope:
    """A share, or one room of it."""

    share: str
    room: str | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a log."""

    offset: str
    payload: bytes
    replica: str
    previous: str | None = None
    """The offset of the entry before it; None where nobody knows."""


@dataclass(frozen=True)
class LogRead:
    """What a log holds after some offset.

    Attributes:
        log: the log's id, ``lineage/epoch``; None if the room has no log.
        contiguous: whether `entries` follow directly on the offset and log that were asked for.
            If not, they follow on `checkpoint`.
        checkpoint: payload that stands for everything up to `checkpoint_offset`, if there is one.
        entries: the entries in the order of the log.
    """

    log: str | None
    contiguous: bool
    entries: list[Entry]
    checkpoint: bytes | None = None
    checkpoint_offset: str = ZERO_OFFSET

    @property
    def gapless(self) -> bool:
        """Whether nothing is missing between the beginning, or the checkpoint, and the end."""
        return self.gapless_after(ZERO_OFFSET)

    def gapless_after(self, offset: str) -> bool:
        """The same for whoever has everything up to `offset` already."""
        if self.checkpoint is None and not self.entries:
            return False  # not even what the log was seeded with
        reached = offset_key(offset)
        if self.checkpoint is not None:
            reached = max(reached, offset_key(self.checkpoint_offset))
        for entry in self.entries:
            if entry.previous is not None and offset_key(entry.previous) > reached:
                return False
            reached = max(reached, offset_key(entry.offset))
        return True

    @property
    def payloads(self) -> list[bytes]:
        """The checkpoint, if there is one, and the entries."""
        first = [] if self.checkpoint is None else [self.checkpoint]
        return [*first, *(entry.payload for entry in self.entries)]

    @property
    def tail(self) -> str:
        """The offset of the last entry that this read covers."""
        return self.entries[-1].offset if self.entries else self.checkpoint_offset


@dataclass(frozen=True)
class Appended:
    """Where an append ended up: its offset, and the offset of the entry before it."""

    previous: str
    offset: str


@dataclass(frozen=True)
class Seeded:
    """Outcome of a seed: whether the caller's was taken, and the id of the log that is there."""

    won: bool
    log: str
    offset: str


@dataclass(frozen=True)
class LeaseWish:
    """A room, and whether its lease is wanted; if not, it is given back."""

    scope: Scope
    want: bool


@dataclass(frozen=True)
class LeaseView:
    """One look at a room: who holds the lease (None: nobody), and where its log ends."""

    holder: str | None
    fence: int
    log: str | None
    tail: str
    refused: str = ""
    """Why the lease could not be taken, renewed or given back."""


@dataclass(frozen=True)
class LogSize:
    """How much a log is, without reading it.

    Attributes:
        entries: how many entries are kept.
        payload_bytes: bytes of their payloads.
        first: the offset of the oldest of them.
        tail: the offset of the newest.
        other_bytes: bytes of the checkpoint, and of what stands for the forgotten entries.
    """

    entries: int
    payload_bytes: int
    first: str
    tail: str
    other_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.payload_bytes + self.other_bytes


@dataclass(frozen=True)
class History:
    """A log as far as it is kept: what the payload `base` stands for came before `entries`."""

    base: bytes | None
    entries: list[Entry]


@dataclass(frozen=True)
class ClusterView:
    """What is cluster-wide: the session id, and seconds since each replica's last heartbeat."""

    session: str
    ages_s: Mapping[str, float]
    refused: str = ""
    """Why this replica's own heartbeat was not taken."""
