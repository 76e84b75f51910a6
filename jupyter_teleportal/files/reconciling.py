"""Keeps a document and its file together: carries out what it means that the file is as it is.

`core.file_decision` decides that, from what `file_facts` finds out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.content import SeedContent, apply_content, digest, document_of
from ..core.crdt import covers
from ..core.document_file import DocumentFile, FileState
from ..core.errors import SaveFailed, TransportError, TransportRefused, reason_of
from ..core.file_decision import Outcome, decide
from ..core.file_knowledge import FileKnowledge
from ..core.merging import edit_between, merge
from ..core.values import ZERO_OFFSET
from ..sync.room_link import RoomLink
from .copies import Copies
from .crossing import MAP, agree
from .file_contents import FileContents
from .file_facts import FileFacts, Look
from .noted_edits import NotedEdits
from .notes import Notes
from .save_records import REQUEST_TIMEOUT_S, SaveRecords
from .snapshots import Snapshots

MOVED_POLL_S = 0.2


class NotTheSaver(SaveFailed):
    """Another replica has become the saver."""


class Reconciler:
    """Brings into one document what others have written to its file, and knows what that holds.

    Attributes:
        contents: what the file holds.
        snapshots: what the document holds.
        notes: what is noted beside the file.
        edits: the edits that come from there, or from a document of another lineage.
        records: what the savers say of the file.
        copies: the copies beside it.
        unnoted: whether the file holds what this replica has written and nobody else knows of.
        stepped_down: whether somebody else may have written the file, which cannot be told now.
    """

    def __init__(
        self,
        link: RoomLink,
        document: YBaseDoc,
        file_type: str,
        file: DocumentFile,
        *,
        tell: Callable[[str, str], None],
        may_save: Callable[[], bool],
    ) -> None:
        """
        Args:
            link: the room's link.
            document: the room's document.
            file_type: the contents type.
            file: the document's file.
            tell: tells the users what happened to the file: a level ("INFO", "WARNING", "ERROR")
                and a message.
            may_save: whether this replica is the saver.
        """
        self._link = link
        self._replica = link.replica
        self._document = document
        self._file_type = file_type
        self._file = file
        self._tell = tell
        self._known = known = FileKnowledge()
        self.contents = FileContents(link, file_type, file, tell=tell)
        self.snapshots = Snapshots(link, document, file_type)
        self.notes = Notes(link, file_type, file)
        self.copies = Copies(link, file)
        self.records = SaveRecords(link, file_type, known)
        self.edits = NotedEdits(
            link,
            file_type,
            file,
            known,
            notes=self.notes,
            snapshots=self.snapshots,
            copies=self.copies,
            tell=tell,
        )
        self._facts = FileFacts(
            link,
            file_type,
            file,
            known,
            contents=self.contents,
            snapshots=self.snapshots,
            records=self.records,
            notes=self.notes,
            edits=self.edits,
            may_save=may_save,
        )
        self.unnoted = False
        self.stepped_down = False
        self._change_key = ""
        self._compared: tuple[int, str] | None = None
        self._equal = False

    # -- what is known ---------------------------------------------------------------------

    @property
    def disk(self) -> FileState | None:
        """The file as it was last seen, with all of it in the document or in a copy; None if that
        is not known, so that nothing may be written."""
        return self._known.disk

    @property
    def base(self) -> Any:
        """The content that this document's edits are told from where the log is another one."""
        return self._known.base

    def holds(self, fingerprint: str) -> bool:
        """Whether the file holds the content with this digest."""
        return fingerprint == self._known.digest

    async def holds_document(self) -> bool:
        """Whether the file is known to hold what the document does."""
        compared = self.snapshots.changes, self._known.digest
        if self._compared != compared:
            # To be told again only when one of them has changed: large documents take their time.
            fingerprint = await self.snapshots.digest(await self.snapshots.take())
            if compared != (self.snapshots.changes, self._known.digest):
                return False
            self._equal = self.holds(fingerprint)
            self._compared = compared
        return self._equal

    def forget_file(self) -> None:
        """What the file holds is not known any more, so nothing is written before it is found
        out."""
        self._known.disk = None

    def look_again(self) -> None:
        """Somebody else may have written the file, or what was noted of it is forgotten."""
        self.stepped_down = False
        self.forget_file()

    def loaded(self, seed: SeedContent) -> None:
        """If the document becomes one of the seed's lineage, its content comes from the file."""
        self._known.loaded(seed.content, seed.digest, seed.lineage)
        self._known.outage_content = seed.base

    def outage_begins(self) -> None:
        """If the log is lost, another replica may begin it anew with what the file holds now, and
        what this document holds beyond that is what that one has to be given."""
        if self.disk is not None:
            self._known.outage_content = self._known.content
        else:
            self._link.spawn(self._remember_file())

    def outage_ended(self) -> None:
        """The log holds all of it."""
        self._known.outage_content = None

    async def _remember_file(self) -> None:
        known = self._document.hash
        try:
            found, state = await self.contents.read()
            if state.hash == known:
                self._known.outage_content = found.content
        except Exception as error:  # noqa: BLE001 (told; it is needed only if the log is lost)
            self._link.complain(
                "If its log is lost, what was written here goes to a copy beside the file, which "
                f"cannot be read now: {reason_of(error)}"
            )

    def converted(self, log_content: Any) -> None:
        """The document is another one now, which was seeded with who knows what, and the log holds
        `log_content` of it."""
        self._known.converted(log_content)

    def settle(
        self, content: Any, fingerprint: str, state: FileState, vector: bytes | None
    ) -> None:
        """The file is in this state and holds `content` with this digest, all of which is in the
        document, or kept in a copy.

        Args:
            content: what the file holds.
            fingerprint: its digest.
            state: the file's state.
            vector: the state vector of a document that holds `content`; None if that is not known.
        """
        self._file.taken_over()
        self.contents.forget()
        self.copies.replaced()
        replicator = self._link.replicator
        self._known.settled(
            state,
            content,
            fingerprint,
            vector,
            lineage=replicator.lineage,
            log=replicator.log,
            offset=replicator.offset,
        )
        if self._document.hash != state.hash:
            self._document.hash = state.hash

    # -- what others are told --------------------------------------------------------------

    async def keep_unsaved(self) -> None:
        """Keep what the file does not hold, and nobody writes to it any more: in a note beside it,
        for the saver of another document that has the file, or in a copy.

        Raises:
            SaveFailed: if it can be kept nowhere.
        """
        while not await self.holds_document():
            changes = self.snapshots.changes
            content, _, noted = await self.edits.leave()
            if not noted:
                await self.copies.keep(content)
            if changes == self.snapshots.changes:
                return

    async def history(self) -> SeedContent:
        """The document to go on with: what another replica has noted beside the file, or the
        file's own."""
        on_disk, _ = await self.contents.load()
        noted = list((await self.notes.found()).values())
        return next((each for each in noted if each.digest == on_disk.digest), None) or (
            noted[0] if noted else on_disk
        )

    async def mark(self, offset: str) -> None:
        """Note in the transport what the file holds: all of the log up to `offset`."""
        log = self._link.replicator.log
        if log is None or self.disk is None or not self._link.shared:
            return
        try:
            await self.records.mark(log, offset)
            self.unnoted = False
            # What a note is about is older than this save, but its edits may not be here yet.
            await self.edits.take_in()
        except TransportError as error:
            self._link.complain(f"The save is not noted for the other servers: {error}")

    # -- the file and the document ---------------------------------------------------------

    async def merge_foreign_change(self) -> None:
        """If another program has written the file, bring its content in as an edit.

        Raises:
            NotTheSaver: if it cannot be told who has written it, or another replica is the saver.
        """
        while (state := await self._file.stat()).hash != (self.disk and self.disk.hash):
            # A saver that was frozen may have had a successor, which has written the file.
            await self.take_over()
        self._known.disk = state

    async def take_over(self) -> None:
        """This replica has become the saver, or the file is another one: find out what it holds,
        and do what that means.

        Raises:
            NotTheSaver: if another replica is the saver, or may be.
            SaveFailed: if what would be replaced cannot be kept; then nothing is.
        """
        held = self.disk is not None
        if self._link.shared:
            self.forget_file()
            # Where it is refused, this is an outage from now on, in which this may be the saver.
            with contextlib.suppress(TransportRefused):
                await self._link.catch_up(REQUEST_TIMEOUT_S)
        outcome, look = await self._facts.decide(held=held)
        while outcome is Outcome.WAIT:
            await asyncio.sleep(MOVED_POLL_S)
            outcome, look = await self._facts.decide(held=held)
        await self._carry_out(outcome, look)

    async def _carry_out(self, outcome: Outcome, look: Look) -> None:
        if outcome is Outcome.GIVE_WAY:
            raise NotTheSaver("another server saves this document now")
        if outcome is Outcome.STEP_DOWN:
            self.stepped_down = True
            message = (
                "The file was changed while Redis is away; it is not saved from here until then."
            )
            self._tell("WARNING", message)
            raise NotTheSaver(message)
        if outcome in (Outcome.WRITE_AGAIN, Outcome.KEEP_HALF):
            await self._write_again(outcome, look)
        elif outcome in (Outcome.TAKE, Outcome.KEEP_DOCUMENT):
            await self._take_from_file(outcome, look)
        else:
            await self._accept(outcome, look)
            await self._mark_if_new(look.said)

    async def _write_again(self, outcome: Outcome, look: Look) -> None:
        """A saver has died while it wrote into the file, so that what the file lacks is no
        change."""
        self._link.log.warning("%s: an interrupted save is done again", self._file.path)
        if outcome is Outcome.KEEP_HALF:
            await self.copies.keep(look.read[0].content)
        assert look.state is not None
        self.settle(None, "", look.state, None)

    async def _accept(self, outcome: Outcome, look: Look) -> None:
        on_disk, state = look.read
        if outcome is Outcome.KEEP_FILE:
            # Before the file may be written over.
            copy = await self.copies.keep(on_disk.content)
            if look.facts.saved:
                message = (
                    f"The log lacks some of what the file holds, which is kept in {copy.path}."
                )
            elif look.facts.refused:
                message = (
                    "The file was changed by another program; the change cannot be taken over, so "
                    f"what the file held is kept in {copy.path}."
                )
            elif look.facts.superseded:
                message = f"The file held an earlier save again, which is kept in {copy.path}."
            else:
                message = (
                    "The file was changed while Redis was away; what it held is kept in "
                    f"{copy.path}."
                )
            if copy.anew:
                self._link.log.warning("%s: %s", self._file.path, message)
                self._tell("WARNING", message)
        self.settle(on_disk.content, on_disk.digest, state, look.vector)

    async def _mark_if_new(self, said: dict[str, str]) -> None:
        assert self.disk is not None
        if said.get("hash") != self.disk.hash or self.unnoted:
            await self._link.flush(REQUEST_TIMEOUT_S)
            holds = await self.holds_document()
            await self.mark(self._link.replicator.offset if holds else ZERO_OFFSET)
        elif self._link.shared:
            await self.edits.take_in()

    async def _take_from_file(self, outcome: Outcome, look: Look) -> None:
        """Bring the change from `look.base`, the content before, to `look.theirs` into the
        document. Where `base` is not known, `theirs` becomes the document's content."""
        on_disk, state = look.read
        copy = ""
        if outcome is Outcome.KEEP_DOCUMENT:
            copy = (await self.copies.keep(look.ours)).path
        update = None
        # What is typed here and on its way to the log may be in the file too.
        if (
            look.base is not None
            and self._link.shared
            and await self._link.flush(REQUEST_TIMEOUT_S)
        ):
            update = await self._change(look, state)
        # Nothing may come between looking at the document and changing it.
        current = self.snapshots.now()
        offset = self._link.replicator.offset
        if update is not None:
            if not self._link.live.take_in(update):
                await self._not_let_in(look)
                await self.mark(offset)
                return
        elif look.theirs != current:
            # What was typed while the copy was written is not in it.
            base = look.ours if look.base is None else look.base
            apply_content(self._document, merge(self._file_type, base, current, look.theirs))
        self.settle(on_disk.content, on_disk.digest, state, self._link.doc.get_state())
        if self._document.dirty:
            self._document.dirty = False
        message = "The file was changed by another program; the change is taken over."
        if copy:
            message += f" What was not saved is also kept in {copy}."
        self._link.log.warning("%s: %s", self._file.path, message)
        self._tell("WARNING", message)
        await self.mark(offset)

    async def _not_let_in(self, look: Look) -> None:
        """The document has refused the change."""
        look.facts = replace(look.facts, refused=True)
        outcome = decide(look.facts)
        assert isinstance(outcome, Outcome)
        await self._accept(outcome, look)

    async def _change(self, look: Look, state: FileState) -> bytes | None:
        """The update of the log's document that makes the change from `look.base` to `look.theirs`,
        the same one whichever saver brings it; None if there is no change, or the log lacks some of
        the document, with which it would be another one."""
        held, here = await self.edits.read_log(), self._link.doc.get_state()

        def change() -> bytes | None:
            if not covers(document_of(self._file_type, *held).ydoc.get_state(), here):
                return None
            return edit_between(self._file_type, held, look.base, look.theirs)

        update = await asyncio.to_thread(change)
        if update is None:
            return None
        offset = look.said.get("offset")
        told = f"{state.hash} {state.last_modified} {digest(look.base)} {offset}"
        key = f"change {digest(told)}"
        transport, scope = self._replica.transport, self._link.scope
        if self._change_key not in ("", key):
            await transport.write_map(scope, MAP, {self._change_key: None})
        self._change_key = key
        return await agree(transport, scope, key, update)
