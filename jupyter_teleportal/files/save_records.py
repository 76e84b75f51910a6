"""What the savers of a document tell each other of its file, through the transport."""

from __future__ import annotations

import contextlib
from typing import Any

from ..core.content import digest, document_of
from ..core.crdt import Door, Sieve
from ..core.envelopes import encode_state
from ..core.errors import ForeignBytes, TransportError, TransportRefused
from ..core.file_knowledge import FileKnowledge, offset_in
from ..core.reading import read
from ..core.values import ZERO_OFFSET, offset_key
from ..sync.compaction import readable
from ..sync.room_link import RoomLink

REQUEST_TIMEOUT_S = 3.0
LAST_SAVED_MAX_ENTRIES = 100
LOST = "lost"
_FIELDS = ("hash", "digest", "state", "pending", "pending_state", "offset", LOST)


class SaveRecords:
    """The record of one document's last save."""

    def __init__(self, link: RoomLink, file_type: str, known: FileKnowledge) -> None:
        """
        Args:
            link: the room's link.
            file_type: the contents type.
            known: what is known of the file.
        """
        self._link = link
        self._transport = link.replica.transport
        self._file_type = file_type
        self._known = known
        self._lost = ZERO_OFFSET

    async def said(self) -> dict[str, str]:
        """What the savers have said of the file; nothing where they cannot be heard."""
        if not self._link.replica.connected:
            return {}
        try:
            return await self._transport.read_map(self._link.scope, "saved", _FIELDS)
        except TransportRefused:
            if self._link.shared:
                raise
            return {}

    async def mark(self, log: str, offset: str) -> None:
        """Say what the file holds: all of `log` up to `offset`.

        Raises:
            TransportError: if that cannot be said.
        """
        known = self._known
        assert known.disk is not None
        record = {
            "hash": known.disk.hash,
            "mtime": known.disk.last_modified,
            "digest": known.digest,
            "state": encode_state(known.vector or b""),
            "pending": "",
            "pending_state": "",
        }
        keep_s = self._link.replica.timing.history_keep_s
        await self._transport.mark_saved(self._link.scope, log, offset, record, keep_s)
        known.followed(log, offset)

    async def log_lost(self, offset: str) -> None:
        """The log has lost the entry at `offset`. What was noted of saves may be as old as the log
        then is."""
        self._lost = max(self._lost, offset, key=offset_key)
        try:
            await self._transport.write_map(self._link.scope, "saved", {LOST: offset})
        except TransportError as error:
            self._link.complain(
                "The other servers do not know that the log has lost entries, and may take a save "
                f"for another program's change: {error}"
            )

    async def is_forgotten(self, said: dict[str, str]) -> bool:
        """Whether the transport may have forgotten a later save than the one that is `said`."""
        lost = max(offset_key(self._lost), offset_in(said, LOST))
        # What a log has lost is put back, and then it goes on beyond that. Otherwise nobody had it.
        if lost > offset_key(self._link.replicator.offset):
            await self._link.flush(REQUEST_TIMEOUT_S)
        there = (0, 0) < lost <= offset_key(self._link.replicator.offset)
        return there and offset_in(said, "offset") <= lost

    async def last_saved(self, said: dict[str, str]) -> Any:
        """The content that was saved last, which may have been by another replica; None if it
        cannot be told any more.

        Raises:
            TransportError: if the log's history cannot be read.
        """
        wanted = said.get("digest")
        if self._known.content is not None and self._known.digest == wanted:
            return self._known.content
        history = await self._transport.read_history(self._link.scope)
        document = document_of(self._file_type)
        door = Door(document.ydoc.get_state)
        sieve = Sieve(door)
        if history.base is not None:
            for update in readable(history.base, sieve):
                door.apply(document.ydoc, update)
        until = offset_in(said, "offset")
        later = 0
        for entry in history.entries:
            for update in readable(entry.payload, sieve):
                with contextlib.suppress(ForeignBytes):
                    door.apply(document.ydoc, update)
            if offset_key(entry.offset) < until:
                continue
            # What was typed while it was being saved may be in it, but has a later offset.
            if digest(content := read(document)) == wanted:
                return content
            later += 1
            if later > LAST_SAVED_MAX_ENTRIES:
                break
        return None
