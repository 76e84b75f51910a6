"""Reads logs, and what is large of other keys, in turns, so that nobody waits for all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from ...core.errors import LogChanged, TransportRefused
from ...core.values import ZERO_OFFSET, Entry, LogRead, Scope
from . import scripts
from .bulk import KEEP_MS, PIECE_BYTES, WHOLE_BYTES, get, staging_key
from .client import RedisClient
from .replies import Joined, Page, entry_of, offset_of, page_of, text_of

READ_PAGE_ENTRIES = 1000
SMALL_BYTES = 64 * 1024
"""What is no larger than that waits for nobody's turn."""
_READ_TRIES = 3


class LogReader:
    """Reads the logs of rooms, and what is large of any key."""

    def __init__(self, client: RedisClient, pass_over: Callable[[str], None]) -> None:
        """
        Args:
            client: the connections.
            pass_over: is told of what cannot be read.
        """
        self._client = client
        self._pass_over = pass_over

    async def read(self, scope: Scope, log: str | None, after: str) -> LogRead:
        """What `SyncTransport.read_log` returns.

        Raises:
            LogChanged: if the room has another log each time that it is read.
        """
        for _ in range(_READ_TRIES):
            try:
                return await self._read(scope, log, after)
            except LogChanged as error:
                self._client.log.debug("Room %s is read again: %s", scope.room, error)
        raise LogChanged(f"the log of room {scope.room} changes all the time")

    async def _read(self, scope: Scope, log: str | None, after: str) -> LogRead:
        if log is not None:
            page = await self._first_page(scope, log, after)
            if page.log == log and page.entries and page.entries[0].offset == after:
                entries = page.entries[1:]
                if not page.last:
                    entries += await self.read_on(scope, log, page.entries[-1].offset)
                return LogRead(log, True, entries, None, after)
        joined, checkpoint = await self.join(scope, "update")
        there, start, size = joined.log, joined.offset, joined.entries_bytes
        if there is None:
            return LogRead(None, False, [])
        # Entries are trimmed only up to a checkpoint, so one read of an older checkpoint
        # and a later read of its tail miss nothing but what a newer checkpoint holds; the
        # gap is seen by the entry that follows.
        if checkpoint is None and size > WHOLE_BYTES:
            entries = await self.read_on(scope, there, start)
        elif checkpoint is None and size > SMALL_BYTES and joined.tail is not None:
            entries = await self._read_whole(scope, there, start, joined.tail)
        else:
            entries = await self._read_small(scope, there, start)
        return LogRead(there, False, entries, checkpoint, start)

    async def _read_whole(self, scope: Scope, log: str, after: str, tail: str) -> list[Entry]:
        """Return all entries behind `after`. Those up to `tail` are known to be no more than one
        turn reads; they come without a script, for which Redis makes two more copies of each.

        Raises:
            LogChanged: if the room has another log meanwhile, whose entries are no sequel.
        """
        entries: list[Entry] = []
        # What is no stream is made one again by the script.
        with contextlib.suppress(TransportRefused):
            found = await self._client.in_turn(
                "XRANGE",
                self._client.log_keys(scope)[0],
                f"({after}",
                tail,
                "COUNT",
                READ_PAGE_ENTRIES,
            )
            entries = [entry_of(text_of(offset), fields) for offset, fields in found]
        # The log was there before that. If it still is, they are its entries: no id comes back.
        last = entries[-1].offset if entries else after
        return entries + await self._read_small(scope, log, last)

    async def _read_small(self, scope: Scope, log: str, after: str) -> list[Entry]:
        """Return all entries behind `after`; those that are few and small need no turn.

        Raises:
            LogChanged: if the room has another log meanwhile, whose entries are no sequel.
        """
        page = await self._first_page(scope, log, f"({after}")
        page.expect(log)
        if page.last:
            return page.entries
        last = page.entries[-1].offset if page.entries else after
        return page.entries + await self.read_on(scope, log, last)

    async def _first_page(self, scope: Scope, log: str, first: str) -> Page:
        """Return what is few and small, which waits for no turn. An entry that is the first and
        large stands there without its payload, any other one that is large is left for later."""
        keys = self._client.log_keys(scope)[:2]
        reply = await self._client.call(
            scripts.READ, keys, log, first, READ_PAGE_ENTRIES, SMALL_BYTES, SMALL_BYTES
        )
        return page_of(reply, log).up_to_the_large(first)

    async def read_on(
        self, scope: Scope, log: str, after: str, max_bytes: int | None = None
    ) -> list[Entry]:
        """Return all entries behind `after`, in turns; with `max_bytes` the first of them.

        Raises:
            LogChanged: if the room has another log meanwhile, whose entries are no sequel.
        """
        keys = self._client.log_keys(scope)[:2]
        entries: list[Entry] = []
        size = 0
        while True:
            page = page_of(
                await self._client.call_in_turn(
                    scripts.READ,
                    keys,
                    log,
                    f"({after}",
                    READ_PAGE_ENTRIES,
                    PIECE_BYTES,
                    WHOLE_BYTES,
                ),
                log,
            )
            page.expect(log)
            for entry in page.entries:
                known = page.large.get(entry.offset, len(entry.payload))
                if entries and max_bytes is not None and size + known > max_bytes:
                    return entries
                size += known
                if entry.offset in page.large:
                    payload, _ = await self.in_pieces(keys[0], scope, "entry", entry.offset)
                    if payload is None:
                        raise LogChanged(f"entry {entry.offset} of {log} is gone")
                    entry = replace(entry, payload=payload)
                entries.append(entry)
                after = entry.offset
            if page.last:
                return entries

    async def join(self, scope: Scope, field: str) -> tuple[Joined, bytes | None]:
        """Return what a log begins with, and `field` of the checkpoint's hash."""
        keys = self._client.log_keys(scope)[:2]
        log, offset, value, wrong, size, tail = await self._client.call(
            scripts.JOIN, keys, field, SMALL_BYTES
        )
        if wrong:
            self._pass_over(f"The key {keys[1]} is of another kind, and is replaced")
        if isinstance(value, int):
            if value <= WHOLE_BYTES:
                # As with entries that are read whole, a script would take more copies.
                value, offset = await self._client.in_turn("HMGET", keys[1], field, "offset")
            else:
                value, offset = await self.in_pieces(keys[1], scope, "field", field)
        return Joined(
            text_of(log) or None, offset_of(offset) or ZERO_OFFSET, size, offset_of(tail)
        ), value

    async def in_pieces(
        self, source: str, scope: Scope, kind: str, name: str
    ) -> tuple[bytes | None, bytes]:
        """Return something large, in turns of pieces, and the checkpoint's offset."""
        staged = staging_key(self._client.channel(scope))
        try:
            value, offset = await self._client.call_in_turn(
                scripts.STAGE, [source, staged], kind, name, KEEP_MS, WHOLE_BYTES
            )
            if isinstance(value, int):
                value = await get(self._client.in_turn, staged, value)
                self._client.remove(staged)
        except asyncio.CancelledError:
            self._client.remove(staged)
            raise
        return value, offset
