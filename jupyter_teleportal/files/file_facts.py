"""Finds out what `core.file_decision` asks of a document's file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.content import SeedContent, digest
from ..core.crdt import covers, state_of
from ..core.document_file import DocumentFile, FileState
from ..core.envelopes import decode_state
from ..core.file_decision import Facts, Outcome, decide
from ..core.file_knowledge import FileKnowledge
from ..core.merging import keeps_all, merge
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop
from .file_contents import FileContents
from .noted_edits import NotedEdits
from .notes import Notes
from .save_records import SaveRecords
from .snapshots import Snapshots


@dataclass
class Look:
    """A file at one moment, and what has been found out of it.

    Attributes:
        facts: what is known for the decision.
        on_disk: what the file holds; None if it was not read, or nobody can.
        state: the file's state.
        said: what the savers say of it.
        notes: what is noted beside it.
        vector: the state vector of a document that holds what the file does; None if that is not
            known.
        theirs: what the file holds, but for the edits that are in the document anyway.
        base: what it held before another program changed it; None if that is not known.
        saved: digests of what the document may hold without anything in it being unsaved.
        ours: what the document held when that was looked at.
    """

    facts: Facts
    on_disk: SeedContent | None = None
    state: FileState | None = None
    said: dict[str, str] = field(default_factory=dict)
    notes: list[SeedContent] = field(default_factory=list)
    vector: bytes | None = None
    theirs: Any = None
    base: Any = None
    saved: set[str] = field(default_factory=set)
    ours: Any = None
    _written: SeedContent | None = None
    _unclear: bool = False

    @property
    def read(self) -> tuple[SeedContent, FileState]:
        """What was read: the file's content and its state."""
        assert self.on_disk is not None
        assert self.state is not None
        return self.on_disk, self.state


class FileFacts:
    """Looks at one document's file."""

    def __init__(
        self,
        link: RoomLink,
        file_type: str,
        file: DocumentFile,
        known: FileKnowledge,
        *,
        contents: FileContents,
        snapshots: Snapshots,
        records: SaveRecords,
        notes: Notes,
        edits: NotedEdits,
        may_save: Callable[[], bool],
    ) -> None:
        """
        Args:
            link: the room's link.
            file_type: the contents type.
            file: the document's file.
            known: what is known of it.
            contents: what it holds.
            snapshots: what the document holds.
            records: what the savers say.
            notes: what they note beside the file.
            edits: brings that into the document.
            may_save: whether this replica is the saver.
        """
        self._link = link
        self._file_type = file_type
        self._file = file
        self._known = known
        self._contents = contents
        self._snapshots = snapshots
        self._records = records
        self._notes = notes
        self._edits = edits
        self._may_save = may_save

    async def decide(self, *, held: bool) -> tuple[Outcome, Look]:
        """Find out of the file what has to be known to decide what it means.

        Args:
            held: whether it was known what the file held before.
        """
        look = Look(Facts(held=held, refused=False))
        while isinstance(asked := decide(self._as_of_now(look)), str):
            answer = await getattr(self, f"_{asked}")(look)
            look.facts = replace(look.facts, **{asked: answer})
        return asked, look

    def _as_of_now(self, look: Look) -> Facts:
        look.facts = replace(look.facts, saver=self._may_save(), shared=self._link.shared)
        return look.facts

    # -- what is asked, each by the name of the fact -----------------------------------------

    async def _half(self, look: Look) -> bool:
        if await self._file.finish():
            self._link.log.warning("%s: an interrupted save was finished", self._file.path)
        return await self._file.is_cut_off()

    async def _begun(self, look: Look) -> bool:
        # What is written after that is not what is looked at, and is met before a save.
        look.state = await self._file.stat()
        # Half a notebook cannot be read.
        with contextlib.suppress(Exception):
            look.on_disk = (await self._contents.load())[0]
        if look.on_disk is None:
            return True
        content = look.on_disk.content
        # Otherwise another program may have changed it since.
        return isinstance(content, str) and str(self._snapshots.now()).startswith(content)

    async def _own(self, look: Look) -> bool:
        await self._look_closely(look)
        _, state = look.read
        if own := self._known.is_own(state, look.said):
            look.vector = self._known.vector
        return own

    async def _look_closely(self, look: Look) -> None:
        """Read the file, and what is said of it, until both are of one moment: whoever wrote it
        just now has said so before, or is saying so."""
        said = await self._what_is_said()
        while True:
            path = self._file.path
            on_disk, state = await self._contents.load()
            look.on_disk, look.state, look.theirs = on_disk, state, on_disk.content
            look.said, look.notes = said
            if self._known.is_own(state, look.said) or self._vouched_for(look):
                return
            said = await self._what_is_said()
            if said == (look.said, look.notes) and self._file.path == path:
                return

    async def _what_is_said(self) -> tuple[dict[str, str], list[SeedContent]]:
        noted = list((await self._notes.found()).values())
        return await self._records.said(), noted

    def _vouched_for(self, look: Look) -> str:
        """By which field of what is said the file is known; empty if by none."""
        on_disk, state = look.read
        if state.hash == look.said.get("hash"):
            return "state"
        return "pending_state" if on_disk.digest == look.said.get("pending") else ""

    async def _superseded(self, look: Look) -> bool:
        return self._known.is_superseded(look.said, self._link.replicator.log)

    async def _saved(self, look: Look) -> bool:
        if field := self._vouched_for(look):
            look.vector = decode_state(look.said.get(field, ""))
        return bool(field)

    async def _lacking(self, look: Look) -> bool:
        """What the document lacks of it the log has lost, or it is not let in here, or it has not
        come yet."""
        if (vector := look.vector) is None:
            return False

        def enough() -> bool:
            return covers(self._link.doc.get_state(), vector)

        if not enough():
            await self._link.peers.gather(enough)
        return not enough()

    async def _elsewhere(self, look: Look) -> bool:
        return await self._file.may_be_elsewhere()

    async def _noted(self, look: Look) -> bool:
        """The notes' edits are taken over, whether or not the file was written with them."""
        on_disk, _ = look.read
        look.saved.add(look.said.get("digest", ""))
        was_saved = bool(look.notes) and digest(self._snapshots.now()) in look.saved
        adopted = [each for each in look.notes if await self._edits.adopt(each)]
        look._written = written = await self._edits.written_with(adopted, on_disk)
        if written is None:
            look._unclear = bool(adopted)
            return False
        if written.lineage == self._link.replicator.lineage:
            self._link.log.info("%s was saved by another server during an outage", self._file.path)
            look.vector = await off_loop(len(written.update), state_of, written.update)
            look.saved = {written.digest}
            return written.digest == on_disk.digest
        if was_saved and all(each.lineage == written.lineage for each in adopted):
            # No more than the file holds, or builds on what it held before these edits.
            look.saved.add(digest(self._snapshots.now()))
        # The file as it would be without the edits that were adopted.
        look.theirs = written.base
        if written.digest != on_disk.digest:
            look.theirs = merge(self._file_type, written.content, written.base, on_disk.content)
        look.vector = self._link.doc.get_state()
        return digest(look.theirs) in (look.said.get("digest"), look.said.get("pending"))

    async def _changed(self, look: Look) -> bool:
        look.vector = None
        if self._noted_before(look) is not None:
            return True
        if look._unclear:
            return False
        return "hash" in look.said and not await self._records.is_forgotten(look.said)

    def _noted_before(self, look: Look) -> SeedContent | None:
        """What a server of this lineage has noted, and the file held before it was changed."""
        ours = look._written is not None and (
            look._written.lineage == self._link.replicator.lineage
        )
        return look._written if ours else None

    async def _seeded(self, look: Look) -> bool:
        lineage, known = self._link.replicator.lineage, self._known
        on_disk, _ = look.read
        whole = look.theirs is on_disk.content
        if known.content is not None and known.lineage == lineage:
            return (on_disk.digest if whole else digest(look.theirs)) == known.digest
        found = on_disk if whole else await self._contents.seeded(look.theirs)
        return found.lineage == lineage

    async def _same(self, look: Look) -> bool:
        on_disk, _ = look.read
        if not look.facts.saved and not look.facts.changed:
            # Another server may have written it, whose edits come by the log.
            await self._link.peers.gather(lambda: self._snapshots.now() == on_disk.content)
        look.ours, vector = await self._snapshots.moment()
        same = await self._snapshots.digest(look.ours) == on_disk.digest
        if same and not look.facts.saved:
            look.vector = vector
        return same

    async def _unsaved(self, look: Look) -> bool:
        before = self._noted_before(look)
        look.base = (
            before.content if before is not None else await self._records.last_saved(look.said)
        )
        return await self._snapshots.digest(look.ours) not in look.saved

    async def _merges(self, look: Look) -> bool:
        size = self._link.live.content_bytes
        return await off_loop(size, keeps_all, look.base, look.ours, look.theirs)
