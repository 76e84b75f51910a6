"""What a document's file holds, who has written it, and what that means for the document."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from jupyter_ydoc import YNotebook
from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.content import SeedContent, apply_content, digest, document_of, seed
from ..core.crdt import Door, Sieve, covers, state_of
from ..core.document_file import DocumentFile, FileState
from ..core.envelopes import decode_state, encode_state
from ..core.errors import ForeignBytes, LogChanged, SaveFailed, TransportError, TransportRefused
from ..core.merging import edit_between, keeps_all, merge
from ..core.reading import complete, read, read_stepwise, replace_foreign
from ..core.savable import Flaws
from ..core.values import ZERO_OFFSET, offset_key
from ..sync.compaction import readable, readable_updates
from ..sync.room_link import RoomLink
from ..sync.threads import LARGE_BYTES, off_loop
from .crossing import MAP, Known, agree, cross
from .notes import Notes

REQUEST_TIMEOUT_S = 3.0
MOVED_POLL_S = 0.2
LAST_SAVED_MAX_ENTRIES = 100
LOST = "lost"


class NotTheSaver(SaveFailed):
    """Another replica has become the saver."""


class Reconciler:
    """Keeps what is known of one document's file, and brings into the document what others have
    written to it.

    Attributes:
        notes: what is noted beside the file.
        disk: the file as it was last seen, with all of it in the document; None if that is not
            known, so that nothing may be written.
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
        self._may_save = may_save
        self.notes = Notes(link, file_type, file)
        self.disk: FileState | None = None
        self.unnoted = False
        self.stepped_down = False
        self._written = ""
        self._written_on: str | None = None
        self._written_state: bytes | None = None
        self._kept: tuple[str, str] | None = None
        self._base: Any = None
        self._base_digest = ""
        self._base_lineage: str | None = None
        self._outage_base: Any = None
        self._change_key = ""
        self._changes = 0
        self._compared: tuple[int, str] | None = None
        self._equal = False
        self._loaded: tuple[str, SeedContent] | None = None
        self._lost = ZERO_OFFSET
        self._crossings = Known()

    # -- what is known ---------------------------------------------------------------------

    @property
    def base(self) -> Any:
        """The content that this document's edits are told from where the log is another one: what
        the file held when that began. None if that is not known."""
        if self._outage_base is not None:
            return self._outage_base
        return self._base if self.disk is not None else None

    def holds(self, fingerprint: str) -> bool:
        """Whether the file holds the content with this digest."""
        return fingerprint == self._base_digest

    async def holds_document(self) -> bool:
        """Whether the file is known to hold what the document does."""
        compared = self._changes, self._base_digest
        if self._compared != compared:
            # To be told again only when one of them has changed: large documents take their time.
            fingerprint = await self.digest(await self.snapshot())
            if compared != (self._changes, self._base_digest):
                return False
            self._equal = self.holds(fingerprint)
            self._compared = compared
        return self._equal

    async def snapshot(self) -> Any:
        """The document's content at one moment, later than the call: an edit in between would make
        it a state that never was."""
        return (await self.moment())[0]

    async def moment(self, flaws: Flaws | None = None) -> tuple[Any, bytes]:
        """The same with the document's state vector at that moment.

        Args:
            flaws: is told of what is not as it is in the document.
        """
        found = Flaws() if flaws is None else flaws
        if self._link.live.content_bytes < LARGE_BYTES:
            return read(self._document, found), self._link.doc.get_state()
        changes = self._changes
        try:
            content = await self._read_stepwise(found)
        except Exception:
            if changes == self._changes:
                raise
            # Something that was being read was deleted meanwhile.
        else:
            if changes == self._changes:
                return content, self._link.doc.get_state()
        found.clear()
        update, state = self._link.doc.get_update(), self._link.doc.get_state()
        return await self._content_of(update, found), state

    async def _read_stepwise(self, flaws: Flaws) -> Any:
        """The document's content, with the event loop going on in between."""
        if not isinstance(self._document, YNotebook):
            return await self._document.aget()
        content = None
        for found in read_stepwise(self._document, flaws):
            content = found
            await asyncio.sleep(0)
        return content

    async def digest(self, content: Any) -> str:
        """The digest of content like the document's."""
        return await off_loop(self._link.live.content_bytes, digest, content)

    async def _content_of(self, update: bytes, flaws: Flaws | None = None) -> Any:
        return await off_loop(
            len(update), lambda: read(document_of(self._file_type, update), flaws)
        )

    def document_changed(self) -> None:
        """The document's content is another one."""
        self._changes += 1

    async def replace_foreign(self) -> None:
        """Take out of a notebook's cells what keeps browsers from showing it."""
        await self._repair(replace_foreign)

    async def complete(self) -> None:
        """Complete a notebook where browsers cannot show it."""
        await self._repair(complete)

    async def _repair(self, how: Callable[[YNotebook], Iterator[None]]) -> None:
        """Repair some of the cells with each turn of the event loop. Where this replica is not the
        saver any more, another one goes on."""
        if isinstance(self._document, YNotebook):
            for _ in how(self._document):
                await asyncio.sleep(0)
                if not self._may_save():
                    return

    def look_again(self) -> None:
        """Somebody else may have written the file, or what was noted of it is forgotten."""
        self.stepped_down = False
        self.disk = None

    def loaded(self, seed: SeedContent) -> None:
        """If the document becomes one of the seed's lineage, its content comes from the file."""
        self._set_base(seed.content, seed.digest, seed.lineage)
        self._outage_base = seed.base

    async def load(self) -> tuple[SeedContent, FileState]:
        """The file's content, and its state; asked again for the same file it is not read again,
        until `forget_loaded`."""
        if self._loaded is not None:
            state = await self._file.stat()
            if state.hash == self._loaded[0]:
                return self._loaded[1], state
        content, state = await self._file.load()
        found = await off_loop(state.size, self._seed, content)
        self._loaded = state.hash, found
        if found.flaws:
            message = (
                "The file holds what no shared notebook can, which is repaired with the next "
                f"save: {found.flaws}"
            )
            room = self._link.scope.room
            if self._replica.complain(f"repaired {room}", f"Room {room}: {message}"):
                self._tell("WARNING", message)
        return found, state

    def _seed(self, content: Any) -> SeedContent:
        found = seed(self._file_type, content)
        _ = found.digest  # everybody asks for it
        return found

    def forget_loaded(self) -> None:
        """What was loaded is not needed any more."""
        self._loaded = None

    def outage_begins(self) -> None:
        """If the log is lost, another replica may begin it anew with what the file holds now, and
        what this document holds beyond that is what that one has to be given."""
        if self.disk is not None:
            self._outage_base = self._base
        else:
            self._link.spawn(self._remember_file())

    def outage_ended(self) -> None:
        """The log holds all of it."""
        self._outage_base = None

    async def _remember_file(self) -> None:
        known = self._document.hash
        try:
            content, state = await self._file.load()
            if state.hash == known:
                self._outage_base = (await off_loop(state.size, self._seed, content)).content
        except Exception as error:  # noqa: BLE001 (told; it is needed only if the log is lost)
            self._link.complain(
                "If its log is lost, what was written here goes to a copy beside the file, which "
                f"cannot be read now: {error or type(error).__name__}"
            )

    def converted(self, log_content: Any) -> None:
        """The document is another one now, which was seeded with who knows what, and the log holds
        `log_content` of it. What was written to the file before is in it, as far as it was more
        than what the file had held."""
        self._written_on = digest(self.base) if self.base is not None else ""
        self._base, self._base_digest, self.disk = None, "", None
        self._outage_base = log_content

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
        self.disk = state
        self._file.taken_over()
        self.forget_loaded()
        self._kept = None
        self._written, self._written_on, self._written_state = state.hash, None, vector
        self._set_base(content, fingerprint, self._link.replicator.lineage)
        if self._document.hash != state.hash:
            self._document.hash = state.hash

    def _set_base(self, content: Any, fingerprint: str, lineage: str | None) -> None:
        self._base, self._base_digest = content, fingerprint
        self._base_lineage = lineage

    # -- what the savers tell each other ---------------------------------------------------

    async def leave_note(self) -> tuple[Any, bytes]:
        """Say beside the file what is about to be in it, since it cannot be said through the
        transport. Return the content as it is noted, and its state vector."""
        if self._link.replicator.lineage is None:
            return await self.moment()
        content, vector, _ = await self._note()
        return content, vector

    async def _note(self) -> tuple[Any, bytes, bool]:
        lineage = self._link.replicator.lineage
        base, update = self.base, self._link.doc.get_update()
        vector = self._link.doc.get_state()
        content = await self._content_of(update)
        noted = lineage is not None and await self.notes.leave(lineage, base, update)
        return content, vector, noted

    async def keep_unsaved(self) -> None:
        """Keep what the file does not hold, and nobody writes to it any more: in a note beside it,
        for the saver of another document that has the file, or in a copy.

        Raises:
            SaveFailed: if it can be kept nowhere.
        """
        while not await self.holds_document():
            changes = self._changes
            content, _, noted = await self._note()
            if not noted:
                await self._keep(content)
            if changes == self._changes:
                return

    async def history(self) -> SeedContent:
        """The document to go on with: what another replica has noted beside the file, or the
        file's own."""
        on_disk, _ = await self.load()
        noted = list((await self.notes.found()).values())
        return next((each for each in noted if each.digest == on_disk.digest), None) or (
            noted[0] if noted else on_disk
        )

    async def mark(self, offset: str) -> None:
        """Note in the transport what the file holds: all of the log up to `offset`."""
        log = self._link.replicator.log
        if log is None or self.disk is None or not self._link.shared:
            return
        record = {
            "hash": self.disk.hash,
            "mtime": self.disk.last_modified,
            "digest": self._base_digest,
            "state": encode_state(self._written_state or b""),
            "pending": "",
            "pending_state": "",
        }
        try:
            await self._replica.transport.mark_saved(
                self._link.scope, log, offset, record, self._replica.timing.history_keep_s
            )
            self.unnoted = False
            # What a note is about is older than this save, but its edits may not be here yet.
            await self._take_in_notes()
        except TransportError as error:
            self._link.complain(f"The save is not noted for the other servers: {error}")

    async def _take_in_notes(self) -> None:
        for name, noted in (await self.notes.found()).items():
            await self._dispose_of(name, noted)

    async def _dispose_of(self, name: str, noted: SeedContent) -> None:
        """Remove another replica's note when its edits are in the document, or kept in a copy.

        Raises:
            TransportError: if the transport does not say how its edits come into the document.
        """
        if not await self._adopt(noted):
            if not self._link.shared:
                return  # it is looked at again after the next save
            here = await self.digest(await self.snapshot())
            if noted.digest not in (here, self._base_digest):
                try:
                    copy = await self._keep(noted.content)
                except SaveFailed as error:
                    self._link.complain(f"The note beside {self._file.path} stays there: {error}")
                    return
                message = (
                    "What another server wrote while Redis was away could not be merged; it is in "
                    f"{copy}."
                )
                self._link.log.warning("%s: %s", self._file.path, message)
                self._tell("WARNING", message)
        await self.notes.remove(name)

    async def _adopt(self, noted: SeedContent) -> bool:
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
        log = await self._read_log()
        crossing = await self.crossing(self._link.replicator.lineage or "", log, noted)
        for update in crossing:
            if not await live.try_out(update):
                return False
        for update in crossing:
            live.take_in(update)
        return True

    async def _read_log(self) -> list[bytes]:
        read = await self._replica.transport.read_log(self._link.scope, None, ZERO_OFFSET)
        if read.log is None or read.log != self._link.replicator.log:
            raise LogChanged(f"the log is {read.log}, not {self._link.replicator.log}")
        return await asyncio.to_thread(readable_updates, read.payloads)

    async def crossing(self, into: str, log: list[bytes], document: SeedContent) -> list[bytes]:
        """The updates that bring the edits of `document` into the log of the lineage `into`, which
        holds `log`."""
        return await cross(
            self._replica.transport,
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
            await self._crossings.restore(self._replica.transport, self._link.scope)
        except TransportError as error:
            self._link.complain(
                "What was merged from another history of this document may come once more, since "
                f"it cannot be noted again that it is there: {error}"
            )

    # -- the file and the document ---------------------------------------------------------

    async def take_over(self) -> None:
        """This replica has become the saver, or the file is another one: find out what it holds.

        Raises:
            NotTheSaver: if another replica is the saver.
        """
        if self._link.shared:
            # Where it is refused, this is an outage from now on, in which this may be the saver.
            with contextlib.suppress(TransportRefused):
                await self._link.catch_up(REQUEST_TIMEOUT_S)
            if not self._may_save():
                raise NotTheSaver("another server saves this document now")
        if await self._file.finish():
            self._link.log.warning("%s: an interrupted save was finished", self._file.path)
        if await self._file.is_cut_off():
            await self._pass_over_cut_off()
            return
        saved, noted = await self._what_is_said()
        while True:
            path = self._file.path
            on_disk, state = await self.load()
            # Without a note of it, the file may still hold what this replica has written during
            # an outage, or what a saver wrote that died before it could note it.
            if self._is_own(state, saved):
                self.settle(on_disk.content, on_disk.digest, state, self._written_state)
                break
            if state.hash == saved.get("hash") or on_disk.digest == saved.get("pending"):
                said = "state" if state.hash == saved.get("hash") else "pending_state"
                vector = decode_state(saved.get(said, ""))
                if vector is not None:
                    await self._gather(on_disk, vector)
                self.settle(on_disk.content, on_disk.digest, state, vector)
                break
            # Whoever wrote the file just now has said so before, or is saying so.
            before = saved, noted
            saved, noted = await self._what_is_said()
            if (saved, noted) == before:
                if self._link.shared and await self._file.may_be_elsewhere():
                    await asyncio.sleep(MOVED_POLL_S)
                    continue
                if self._file.path != path:
                    continue
                if await self._settle_foreign(on_disk, state, saved, noted):
                    return
                break
        await self._mark_if_new(saved)

    async def _pass_over_cut_off(self) -> None:
        """A saver has died while it wrote into the file, so that what the file lacks is no change.
        The file is written again."""
        self._link.log.warning("%s: an interrupted save is done again", self._file.path)
        on_disk = None
        # Half a notebook cannot be read.
        with contextlib.suppress(Exception):
            on_disk = (await self.load())[0]
        state = await self._file.stat()
        content = None if on_disk is None else on_disk.content
        begun = isinstance(content, str) and str(read(self._document)).startswith(content)
        if content is not None and not begun:
            # Another program may have changed it since.
            await self._keep(content)
        self.settle(None, "", state, None)

    async def _gather(self, on_disk: SeedContent, vector: bytes) -> None:
        """A saver says that the file holds what a document with this state vector held. What this
        one lacks of it the log has lost, or it is not let in here, or it has not come yet."""

        def enough() -> bool:
            return covers(self._link.doc.get_state(), vector)

        if enough():
            return
        await self._link.peers.gather(enough)
        if enough() or await self.digest(await self.snapshot()) == on_disk.digest:
            return
        copy = await self._keep(on_disk.content)
        message = f"The log lacks some of what the file holds, which is kept in {copy}."
        self._link.log.warning("%s: %s", self._file.path, message)
        self._tell("WARNING", message)

    async def _keep(self, content: Any) -> str:
        """Keep in a copy what is about to be replaced, in the document or on disk; return the
        copy's path. Tried again, it is kept once.

        Raises:
            SaveFailed: if it cannot be kept; then nothing may be replaced.
        """
        fingerprint = await self.digest(content)
        if self._kept is None or self._kept[0] != fingerprint:
            try:
                self._kept = fingerprint, await self._file.keep_copy(content)
            except Exception as error:
                raise SaveFailed(
                    "what would be replaced cannot be kept in a copy, so nothing is: "
                    f"{error or type(error).__name__}"
                ) from error
        return self._kept[1]

    async def merge_foreign_change(self) -> None:
        """If another program has written the file, bring its content in as an edit.

        Raises:
            NotTheSaver: if it cannot be told who has written it, or another replica is the saver.
        """
        while (state := await self._file.stat()).hash != (self.disk and self.disk.hash):
            if not self._link.shared:
                self._step_down()
            # A saver that was frozen may have had a successor, which has written the file.
            self.disk = None
            await self.take_over()
        self.disk = state

    async def _what_is_said(self) -> tuple[dict[str, str], list[SeedContent]]:
        """What the savers have said of the file through the transport, and beside it."""
        noted = list((await self.notes.found()).values())
        if not self._replica.connected:
            return {}, noted
        fields = ("hash", "digest", "state", "pending", "pending_state", "offset", LOST)
        try:
            said = await self._replica.transport.read_map(self._link.scope, "saved", fields)
        except TransportRefused:
            if self._link.shared:
                raise
            return {}, noted
        return said, noted

    async def log_lost(self, offset: str) -> None:
        """The log has lost the entry at `offset`. What was noted of saves may be as old as the log
        then is."""
        self._lost = max(self._lost, offset, key=offset_key)
        try:
            values = {LOST: offset}
            await self._replica.transport.write_map(self._link.scope, "saved", values)
        except TransportError as error:
            self._link.complain(
                "The other servers do not know that the log has lost entries, and may take a save "
                f"for another program's change: {error}"
            )

    async def _forgotten(self, saved: dict[str, str]) -> bool:
        """Whether the transport may have forgotten a later save than the one that is `saved`."""
        lost = max(offset_key(self._lost), _offset_in(saved, LOST))
        # What a log has lost is put back, and then it goes on beyond that. Otherwise nobody had it.
        if lost > offset_key(self._link.replicator.offset):
            await self._link.flush(REQUEST_TIMEOUT_S)
        there = (0, 0) < lost <= offset_key(self._link.replicator.offset)
        return there and _offset_in(saved, "offset") <= lost

    def _is_own(self, state: FileState, saved: dict[str, str]) -> bool:
        """Whether the file holds what this replica has written or taken over, and the document all
        of that."""
        written_on_saved = self._written_on in (None, saved.get("digest"))
        return state.hash == self._written and written_on_saved

    async def _settle_foreign(
        self,
        on_disk: SeedContent,
        state: FileState,
        saved: dict[str, str],
        noted: list[SeedContent],
    ) -> bool:
        """The file is not what has been said of it; return whether it was taken over."""
        known = {saved.get("digest", "")}
        was_saved = bool(noted) and digest(read(self._document)) in known
        adopted = [each for each in noted if await self._adopt(each)]
        written = await self._noted_as(adopted, on_disk)
        if adopted and written is None:
            # All that is noted is in the document.
            await self._settle_unnoted(on_disk.content, on_disk, state)
            return False
        if written is not None and written.lineage == self._link.replicator.lineage:
            self._link.log.info("%s was saved by another server during an outage", self._file.path)
            if written.digest == on_disk.digest:
                vector = await off_loop(len(written.update), state_of, written.update)
                self.settle(on_disk.content, on_disk.digest, state, vector)
                return False
            if not self._link.shared:
                self._step_down()
            theirs = on_disk.content
            before = written.content
            await self._take_from_file(theirs, on_disk, state, {written.digest}, before, saved)
            return True
        theirs = on_disk.content
        if written is not None:
            if was_saved:
                known.add(digest(read(self._document)))
            # The file as it would be without the edits that were adopted.
            theirs = written.base
            if written.digest != on_disk.digest:
                theirs = merge(self._file_type, written.content, written.base, on_disk.content)
            if digest(theirs) in (saved.get("digest"), saved.get("pending")):
                self.settle(on_disk.content, on_disk.digest, state, self._link.doc.get_state())
                return False
        if "hash" in saved and not self._link.shared:
            self._step_down()
        if "hash" in saved and not await self._forgotten(saved):
            last_saved = await self._last_saved(saved)
            await self._take_from_file(theirs, on_disk, state, known, last_saved, saved)
            return True
        await self._settle_unnoted(theirs, on_disk, state)
        return False

    async def _noted_as(self, noted: list[SeedContent], on_disk: SeedContent) -> SeedContent | None:
        """The one of these with which the file was written, and perhaps changed since; None if
        that cannot be told, or it was written with none of them."""
        for each in noted:
            if each.digest == on_disk.digest:
                return each
        for each in noted:
            base_digest = None if each.base is None else await self.digest(each.base)
            if each.lineage == self._link.replicator.lineage and base_digest == on_disk.digest:
                return None
        states = [await off_loop(len(each.update), state_of, each.update) for each in noted]
        for each, state in zip(noted, states, strict=True):
            if len({every.lineage for every in noted}) == 1 and all(
                covers(state, other) for other in states
            ):
                return each
        return None

    async def _last_saved(self, saved: dict[str, str]) -> Any:
        """The content that was saved last, which may have been by another replica; None if it
        cannot be told any more."""
        wanted = saved.get("digest")
        if self._base is not None and self._base_digest == wanted:
            return self._base
        history = await self._replica.transport.read_history(self._link.scope)
        document = document_of(self._file_type)
        door = Door(document.ydoc.get_state)
        sieve = Sieve(door)
        if history.base is not None:
            for update in readable(history.base, sieve):
                door.apply(document.ydoc, update)
        until = _offset_in(saved, "offset")
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

    async def _settle_unnoted(self, theirs: Any, on_disk: SeedContent, state: FileState) -> None:
        """Nobody has noted a save of this log. If the file is not what the log was seeded with,
        another server may have written it during an outage, whose edits then come by the log, or
        another program: what it holds is kept beside it, because nobody can know."""
        lineage = self._link.replicator.lineage
        if self._base is not None and self._base_lineage == lineage:
            whole = theirs is on_disk.content
            seeded = (on_disk.digest if whole else digest(theirs)) == self._base_digest
        elif theirs is on_disk.content:
            seeded = on_disk.lineage == lineage
        else:
            seeded = seed(self._file_type, theirs).lineage == lineage
        if not seeded and not self._link.shared:
            self._step_down()
        if not seeded:
            await self._link.peers.gather(lambda: read(self._document) == theirs)
        if not seeded and theirs != read(self._document):
            # Before the file may be written over.
            copy = await self._keep(theirs)
            message = f"The file was changed while Redis was away; what it held is kept in {copy}."
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)
        self.settle(on_disk.content, on_disk.digest, state, None)

    async def _mark_if_new(self, saved: dict[str, str]) -> None:
        assert self.disk is not None
        if saved.get("hash") != self.disk.hash or self.unnoted:
            await self._link.flush(REQUEST_TIMEOUT_S)
            holds = await self.holds_document()
            await self.mark(self._link.replicator.offset if holds else ZERO_OFFSET)
        elif self._link.shared:
            await self._take_in_notes()

    def _step_down(self) -> NoReturn:
        """The file is not what this replica knows, and alone it cannot know whether another one
        has written it. That one's edits come by the log; taken from the file as well, they would
        be there twice."""
        self.stepped_down = True
        message = "The file was changed while Redis is away; it is not saved from here until then."
        self._tell("WARNING", message)
        raise NotTheSaver(message)

    async def _take_from_file(
        self,
        theirs: Any,
        on_disk: SeedContent,
        state: FileState,
        known: set[str],
        base: Any,
        saved: dict[str, str],
    ) -> None:
        """Bring the change from `base`, the content before, to `theirs` into the document; `theirs`
        is what the file holds but for the edits that are in the document anyway. Where
        `base` is not known, `theirs` becomes the document's content. What was not saved, unless the
        document's digest is one of the `known`, or the changes do not touch each other, is kept
        beside the file too, before that.

        Raises:
            SaveFailed: if it cannot be kept; then nothing is changed.
        """
        before = read(self._document)
        differs = theirs != before
        copy = ""
        if differs and digest(before) not in known:
            size = self._link.live.content_bytes
            if not await off_loop(size, lambda: keeps_all(base, before, theirs)):
                copy = await self._keep(before)
        update = None
        # What is typed here and on its way to the log may be in the file too.
        if base is not None and self._link.shared and await self._link.flush(REQUEST_TIMEOUT_S):
            update = await self._change(base, theirs, state, saved)
        # Nothing may come between looking at the document and changing it.
        current = read(self._document)
        offset = self._link.replicator.offset
        taken = True
        if update is not None:
            taken = self._link.live.take_in(update)
        elif theirs != current:
            # What was typed while the copy was written is not in it.
            merged = merge(self._file_type, before if base is None else base, current, theirs)
            apply_content(self._document, merged)
        if not taken:
            copy = await self._keep(on_disk.content)
        self.settle(on_disk.content, on_disk.digest, state, self._link.doc.get_state())
        if self._document.dirty:
            self._document.dirty = False
        if not taken:
            refused = (
                "The file was changed by another program; the change cannot be taken over, so "
                f"what the file held is kept in {copy}."
            )
            self._link.log.warning("%s: %s", self._file.path, refused)
            self._tell("WARNING", refused)
        elif differs:
            message = "The file was changed by another program; the change is taken over."
            if copy:
                message += f" What was not saved is also kept in {copy}."
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)
        await self.mark(offset)

    async def _change(
        self, base: Any, theirs: Any, state: FileState, saved: dict[str, str]
    ) -> bytes | None:
        """The update of the log's document that makes the change from `base` to `theirs`, the same
        one whichever saver brings it; None if there is no change, or the log lacks some of the
        document, with which it would be another one."""
        held, here = await self._read_log(), self._link.doc.get_state()

        def change() -> bytes | None:
            if not covers(document_of(self._file_type, *held).ydoc.get_state(), here):
                return None
            return edit_between(self._file_type, held, base, theirs)

        update = await asyncio.to_thread(change)
        if update is None:
            return None
        told = f"{state.hash} {state.last_modified} {digest(base)} {saved.get('offset')}"
        key = f"change {digest(told)}"
        transport, scope = self._replica.transport, self._link.scope
        if self._change_key not in ("", key):
            await transport.write_map(scope, MAP, {self._change_key: None})
        self._change_key = key
        return await agree(transport, scope, key, update)


def _offset_in(saved: dict[str, str], field: str) -> tuple[int, int]:
    """The key of an offset that savers have said; whoever can write there can write anything."""
    try:
        return offset_key(saved.get(field, ZERO_OFFSET))
    except ValueError:
        return offset_key(ZERO_OFFSET)
