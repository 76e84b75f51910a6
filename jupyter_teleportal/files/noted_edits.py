"""Edits that come beside the log: by a note beside the file, or from a document of another lineage.

What savers note beside the file is in `notes`; here it becomes edits of the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ..core.content import SeedContent
from ..core.crdt import covers, state_of
from ..core.document_file import DocumentFile
from ..core.errors import LogChanged, SaveFailed, TransportError
from ..core.file_knowledge import FileKnowledge
from ..core.values import ZERO_OFFSET
from ..sync.compaction import readable_updates
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop
from .copies import Copies
from .crossing import Known, cross
from .notes import Notes
from .snapshots import Snapshots


class NotedEdits:
    """Brings the edits of others into one document, and notes this replica's for them."""

    def __init__(
        self,
        link: RoomLink,
        file_type: str,
        file: DocumentFile,
        known: FileKnowledge,
        *,
        notes: Notes,
        snapshots: Snapshots,
        copies: Copies,
        tell: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            link: the room's link.
            file_type: the contents type.
            file: the document's file.
            known: what is known of the file.
            notes: what is noted beside it.
            snapshots: what the document holds.
            copies: where that is kept which cannot be brought in.
            tell: tells the users of that: a level and a message.
        """
        self._link = link
        self._transport = link.replica.transport
        self._file_type = file_type
        self._file = file
        self._known = known
        self._notes = notes
        self._snapshots = snapshots
        self._copies = copies
        self._tell = tell
        self._crossings = Known()

    async def leave(self) -> tuple[Any, bytes, bool]:
        """Note beside the file what the document holds.

        Returns:
            The content, its state vector, and whether that is noted.
        """
        lineage = self._link.replicator.lineage
        base, update = self._known.base, self._link.doc.get_update()
        vector = self._link.doc.get_state()
        content = await self._snapshots.content_of(update)
        noted = lineage is not None and await self._notes.leave(lineage, base, update)
        return content, vector, noted

    async def take_in(self) -> None:
        """Bring in what other replicas have noted, or keep it in copies, and remove the notes.

        Raises:
            TransportError: if the transport does not say how some of it comes into the document.
        """
        for name, noted in (await self._notes.found()).items():
            if await self._disposed_of(noted):
                await self._notes.remove(name)

    async def _disposed_of(self, noted: SeedContent) -> bool:
        if await self.adopt(noted):
            return True
        if not self._link.shared:
            return False  # it is looked at again after the next save
        here = await self._snapshots.digest(await self._snapshots.take())
        if noted.digest not in (here, self._known.digest):
            try:
                copy = await self._copies.keep(noted.content)
            except SaveFailed as error:
                self._link.complain(f"The note beside {self._file.path} stays there: {error}")
                return False
            message = (
                "What another server wrote while Redis was away could not be merged; it is in "
                f"{copy.path}."
            )
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)
        return True

    async def adopt(self, noted: SeedContent) -> bool:
        """Take over the edits that another replica has noted beside the file, whichever lineage
        they are of; they go to the log from here. Return whether that was possible.

        Raises:
            TransportError: if the log cannot be read, which it takes for another lineage.
        """
        live = self._link.live
        if noted.lineage == self._link.replicator.lineage:
            return await live.try_out(noted.update) and live.take_in(noted.update)
        if noted.base is None or not self._link.shared:
            return False
        log = await self.read_log()
        crossing = await self.crossing(self._link.replicator.lineage or "", log, noted)
        for update in crossing:
            if not await live.try_out(update):
                return False
        for update in crossing:
            live.take_in(update)
        return True

    async def written_with(
        self, noted: Sequence[SeedContent], on_disk: SeedContent
    ) -> SeedContent | None:
        """The one of these with which the file was written, and perhaps changed since; None if
        that cannot be told, or it was written with none of them."""
        for each in noted:
            if each.digest == on_disk.digest:
                return each
        for each in noted:
            base = None if each.base is None else await self._snapshots.digest(each.base)
            if each.lineage == self._link.replicator.lineage and base == on_disk.digest:
                return None
        states = [await off_loop(len(each.update), state_of, each.update) for each in noted]
        for each, state in zip(noted, states, strict=True):
            if len({every.lineage for every in noted}) == 1 and all(
                covers(state, other) for other in states
            ):
                return each
        return None

    async def read_log(self) -> list[bytes]:
        """The updates that the document's log holds.

        Raises:
            TransportError: if it cannot be read, or is another one by now.
        """
        read = await self._transport.read_log(self._link.scope, None, ZERO_OFFSET)
        if read.log is None or read.log != self._link.replicator.log:
            raise LogChanged(f"the log is {read.log}, not {self._link.replicator.log}")
        return await asyncio.to_thread(readable_updates, read.payloads)

    async def crossing(self, into: str, log: list[bytes], document: SeedContent) -> list[bytes]:
        """The updates that bring the edits of `document` into the log of the lineage `into`, which
        holds `log`."""
        return await cross(
            self._transport,
            self._link.scope,
            self._file_type,
            into=into,
            log=log,
            lineage=document.lineage,
            document=document.update,
            base=document.base,
            known=self._crossings,
        )

    async def restore_crossings(self) -> None:
        """The transport may have forgotten which edits of other lineages are in the document. Say
        it again before these are in the log again, or whoever comes with them brings them once
        more."""
        try:
            await self._crossings.restore(self._transport, self._link.scope)
        except TransportError as error:
            self._link.complain(
                "What was merged from another history of this document may come once more, since "
                f"it cannot be noted again that it is there: {error}"
            )
