"""Checkpoints, so that a long log is quickly read, and the retention of its history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from ..core.crdt import EMPTY_UPDATE, Door, Sieve, folded
from ..core.envelopes import decode_payload, encode_payload
from ..core.errors import CodecError
from ..core.settings import Timing
from ..core.values import ZERO_OFFSET, Entry, LogRead, LogSize, Scope, offset_key
from ..transports.base import SyncTransport

UNKNOWN_BYTES = 64 * 1024
"""What an entry counts that was only announced: it is at least so large."""
TRIM_PAGE_BYTES = 4 * 1024 * 1024
"""So much of a history is read at a time to be forgotten."""


class Compactor:
    """Keeps one room's log short. Only the holder of the room's lease compacts, and whoever finds
    the log full."""

    def __init__(self, transport: SyncTransport, scope: Scope, timing: Timing) -> None:
        self._transport = transport
        self._scope = scope
        self._timing = timing
        # Bytes of the entries since the last checkpoint, by offset. No more than what makes the
        # next one due.
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._written: tuple[str, str] | None = None
        self._made_room: tuple[str, str] | None = None
        self._compacting = asyncio.Lock()

    @property
    def has_entries(self) -> bool:
        """Whether anything follows on the last checkpoint, as far as known here."""
        return bool(self._sizes)

    @property
    def due(self) -> bool:
        """Whether enough has happened since the last checkpoint."""
        return (
            len(self._sizes) >= self._timing.checkpoint_entries
            or self._bytes >= self._timing.checkpoint_bytes
        )

    def appended(self, offset: str, size: int | None) -> None:
        """Note the entry at `offset`, of `size` bytes; None if it was only announced. Whoever
        reads or has written it says so again, with its size."""
        if self.due:
            return
        known = self._sizes.get(offset, 0)
        self._sizes[offset] = max(known, UNKNOWN_BYTES if size is None else size)
        self._bytes += self._sizes[offset] - known

    def read(self, read: LogRead) -> None:
        """Note what was read: how much follows on the checkpoint, or what was announced."""
        if not read.contiguous:
            self._forget()
        for entry in read.entries:
            self.appended(entry.offset, len(entry.payload))

    def begun(self) -> None:
        """A checkpoint is being written; the next one is due after it."""
        self._forget()

    def _forget(self) -> None:
        self._sizes.clear()
        self._bytes = 0

    def stands(self, log: str, offset: str) -> bool:
        """Whether the checkpoint for everything up to `offset` was already written here."""
        return self._written == (log, offset)

    async def compact(self, log: str, offset: str, update: bytes) -> None:
        """Let `update` stand for everything up to `offset`, and trim the history.

        Raises:
            TransportError: if the transport fails, or the log is another one by now.
        """
        self.begun()
        payload = await asyncio.to_thread(encode_payload, update)
        async with self._compacting:
            await self._write(log, offset, payload, self._timing)

    async def make_room(self, log: str, offset: str, *, only_if_smaller: bool) -> bool:
        """The log is full: let what it holds up to `offset` stand as a checkpoint, and forget the
        history; return whether that was done.

        What the room holds, and the log does not, must not be in that checkpoint: those who have
        the room open would not read it there.

        Args:
            log, offset: what the room has read.
            only_if_smaller: whether to leave it, if the checkpoint is most of what there is.

        Raises:
            TransportError: as `compact`.
        """
        async with self._compacting:
            if self._made_room == (log, offset):
                return False
            read = await self._transport.read_log(self._scope, None, ZERO_OFFSET)
            if read.log != log or not read.gapless:
                return False
            last = offset_key(offset)
            ahead = [entry for entry in read.entries if offset_key(entry.offset) > last]
            payloads = read.payloads[: len(read.payloads) - len(ahead)]
            update = await asyncio.to_thread(fold, None, payloads)
            payload = await asyncio.to_thread(encode_payload, update or EMPTY_UPDATE)
            size = await self._transport.log_size(self._scope, log)
            done = not only_if_smaller or size.bytes > 3 * len(payload)
            if done:
                self.begun()
                none = replace(self._timing, history_max_entries=1, history_max_bytes=1)
                await self._write(log, offset, payload, none)
            self._made_room = log, offset
        return done

    async def _write(self, log: str, offset: str, payload: bytes, timing: Timing) -> None:
        await self._transport.compact_log(self._scope, log, offset, payload)
        self._written = log, offset
        await self._trim(log, offset, timing)

    async def _trim(self, log: str, checkpoint: str, timing: Timing) -> None:
        surplus = Surplus(await self._transport.log_size(self._scope, log), checkpoint, timing)
        if not surplus.any:
            return
        last: str | None = None
        base: bytes | None = None
        while True:
            page = await self._transport.read_history(
                self._scope, after=last, max_bytes=TRIM_PAGE_BYTES
            )
            if last is not None and page.entries and page.entries[0].previous != last:
                return  # somebody else trims it at this moment
            cut = surplus.take(page.entries)
            if cut > 0:
                last = page.entries[cut - 1].offset
                payloads = [page.base] if page.base is not None else []
                payloads += [entry.payload for entry in page.entries[:cut]]
                base = await asyncio.to_thread(fold, base, payloads)
            if cut < len(page.entries) or not page.entries:
                break
        if last is not None and base is not None and page.entries:
            payload = await asyncio.to_thread(encode_payload, base)
            first = page.entries[cut].offset
            await self._transport.trim_history(
                self._scope,
                log,
                first,
                payload,
                entries=surplus.taken,
                payload_bytes=surplus.taken_bytes,
            )


def fold(base: bytes | None, payloads: Sequence[bytes]) -> bytes | None:
    """One update that stands for `base` and all of these, without what was deleted among them;
    None if there is nothing in them."""
    return folded(chain([] if base is None else [base], _decoded(payloads)))


class Surplus:
    """What a history of `size` is to forget.

    Nothing as long as it is within its bounds. Otherwise half of what is allowed stays, so that
    trimming is rare, and always what the checkpoint at `checkpoint` does not stand for, and the
    last entry.

    Attributes:
        any: whether there is anything to forget.
        taken, taken_bytes: how many entries of how many bytes were taken.
    """

    def __init__(self, size: LogSize, checkpoint: str, timing: Timing) -> None:
        self._covered = offset_key(checkpoint)
        self._tail = offset_key(size.tail)
        self._entries = size.entries
        self._bytes = size.payload_bytes
        self._timing = timing
        self.taken = self.taken_bytes = 0
        self._full = (
            size.entries > timing.history_max_entries
            or size.payload_bytes > timing.history_max_bytes
        )
        self._oldest_allowed_ms = self._tail[0] - timing.history_keep_s * 1000
        too_old = offset_key(size.first)[0] < self._oldest_allowed_ms
        self.any = size.entries > 1 and (self._full or too_old)

    def take(self, entries: Sequence[Entry]) -> int:
        """Return how many of the next `entries`, the oldest first, are to be forgotten. If all of
        them are, there may be more."""
        for number, entry in enumerate(entries):
            if not self._takes(entry):
                return number
            self._entries -= 1
            self._bytes -= len(entry.payload)
            self.taken += 1
            self.taken_bytes += len(entry.payload)
        return len(entries)

    def _takes(self, entry: Entry) -> bool:
        offset = offset_key(entry.offset)
        if offset > self._covered or offset >= self._tail:
            return False
        if offset[0] < self._oldest_allowed_ms:
            return True
        most, most_bytes = self._timing.history_max_entries, self._timing.history_max_bytes
        return self._full and (
            self._entries > most / 2
            or self._bytes > most_bytes
            or self._bytes - len(entry.payload) > most_bytes / 2
        )


def readable(payload: bytes, sieve: Sieve) -> Iterator[bytes]:
    """Yield what can be applied now of the update in `payload`, and of those that have waited for
    it; nothing if it may not come in, which was reported when it was read first."""
    with contextlib.suppress(CodecError):
        yield from sieve.put(decode_payload(payload))


def readable_updates(payloads: Iterable[bytes]) -> list[bytes]:
    """Those of the updates in `payloads` that may come into one document, in an order in which each
    builds on those before."""
    sieve = Sieve(Door())
    return [update for payload in payloads for update in readable(payload, sieve)]


def _decoded(payloads: Iterable[bytes]) -> Iterator[bytes]:
    for payload in payloads:
        with contextlib.suppress(CodecError):
            yield decode_payload(payload)
