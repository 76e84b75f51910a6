"""Checkpoints, so that a long log is quickly read, and the retention of its history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from .codec import decode_payload, encode_payload
from .crdt import Door, merge
from .errors import CodecError
from .model import Entry, LogRead, Scope, offset_key
from .settings import Timing
from .transports.base import SyncTransport


class Compactor:
    """Keeps one room's log short. Only the holder of the room's lease compacts."""

    def __init__(self, transport: SyncTransport, scope: Scope, timing: Timing) -> None:
        self._transport = transport
        self._scope = scope
        self._timing = timing
        self._entries = 0
        self._bytes = 0

    @property
    def has_entries(self) -> bool:
        """Whether anything follows on the last checkpoint, as far as known here."""
        return self._entries > 0

    @property
    def due(self) -> bool:
        """Whether enough has happened since the last checkpoint."""
        return (
            self._entries >= self._timing.checkpoint_entries
            or self._bytes >= self._timing.checkpoint_bytes
        )

    def appended(self, size: int) -> None:
        """Note an entry of `size` bytes."""
        self._entries += 1
        self._bytes += size

    def read(self, read: LogRead) -> None:
        """Note how much follows on the checkpoint that was just read."""
        self._entries = len(read.entries)
        self._bytes = sum(len(entry.payload) for entry in read.entries)

    def begun(self) -> None:
        """A checkpoint is being written; the next one is due after it."""
        self._entries = self._bytes = 0

    async def compact(self, log: str, offset: str, update: bytes) -> None:
        """Let `update` stand for everything up to `offset`, and trim the history.

        Raises:
            TransportError: if the transport fails, or the log is another one by now.
        """
        self.begun()
        payload = await asyncio.to_thread(encode_payload, update)
        await self._transport.compact_log(self._scope, log, offset, payload)
        await self._trim(log, offset)

    async def _trim(self, log: str, checkpoint: str) -> None:
        history = await self._transport.read_history(self._scope)
        cut = excess(history.entries, checkpoint, self._timing)
        if cut == 0:
            return
        folded = [history.base] if history.base is not None else []
        folded += [entry.payload for entry in history.entries[:cut]]
        base = await asyncio.to_thread(_fold, folded)
        if base is not None:
            await self._transport.trim_history(self._scope, log, history.entries[cut].offset, base)


def _fold(payloads: Sequence[bytes]) -> bytes | None:
    """One payload that stands for all of these; None if there is nothing in them."""
    updates = readable_updates(payloads)
    if not updates:
        return None
    return encode_payload(merge(updates))


def excess(entries: Sequence[Entry], checkpoint: str, timing: Timing) -> int:
    """How many of the oldest `entries` the history is to forget.

    None as long as it is within its bounds. Otherwise half of what is allowed stays, so that
    trimming is rare, and always what the checkpoint at `checkpoint` does not stand for, and the
    last entry.
    """
    if not entries:
        return 0
    size = sum(len(entry.payload) for entry in entries)
    newest_ms, _ = offset_key(entries[-1].offset)
    oldest_allowed_ms = newest_ms - timing.history_keep_s * 1000
    too_old = sum(offset_key(entry.offset)[0] < oldest_allowed_ms for entry in entries)
    if len(entries) > timing.history_max_entries or size > timing.history_max_bytes:
        cut, kept = len(entries) - 1, 0
        while cut > 0 and len(entries) - cut < timing.history_max_entries / 2:
            kept += len(entries[cut].payload)
            if kept > timing.history_max_bytes / 2:
                break
            cut -= 1
        too_old = max(too_old, cut)
    covered = sum(offset_key(entry.offset) <= offset_key(checkpoint) for entry in entries)
    return min(too_old, covered, len(entries) - 1)


def readable(payload: bytes, door: Door | None = None) -> bytes | None:
    """The update in `payload`, if it may come in at `door`; None otherwise, which was reported
    when it was read first."""
    try:
        update = decode_payload(payload)
        (door or Door()).check(update)
    except CodecError:
        return None
    return update


def readable_updates(payloads: Iterable[bytes]) -> list[bytes]:
    """Those of the updates in `payloads` that may come into one document, in their order."""
    door = Door()
    return [update for payload in payloads if (update := readable(payload, door)) is not None]
