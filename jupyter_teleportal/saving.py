"""The saver: of all replicas of a document exactly one writes its file and watches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NoReturn

from jupyter_ydoc.ybasedoc import YBaseDoc

from .codec import decode_note, encode_note
from .compaction import readable
from .content import SeedContent, apply_content, digest, document_of, merge, seed
from .document_file import DocumentFile, FileState
from .errors import CodecError, SaveFailed, TransportError
from .model import ZERO_OFFSET, offset_key
from .provider import RoomLink
from .scheduling import SaveSchedule
from .transports.base import loop_time

RETRY_S = 5.0
REQUEST_TIMEOUT_S = 3.0
OUTAGE_DELAY_S = 1.0
LAST_SAVED_MAX_ENTRIES = 100
DELETED_KEEP_S = 60 * 60


class NotTheSaver(SaveFailed):
    """Another replica has become the saver."""


class Saver:
    """Writes one document's file while this replica holds the room's lease.

    Without the transport the last saver goes on saving as long as nobody else has written the
    file; so does a replica that never knew of another saver.
    """

    def __init__(
        self,
        link: RoomLink,
        document: YBaseDoc,
        file_type: str,
        file: DocumentFile,
        *,
        delay_s: float | None,
        autosaves: Callable[[], bool],
        tell: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            link: the room's link.
            document: what is saved.
            file_type: the contents type.
            file: where to.
            delay_s: how long nothing has to change before a save; None: only saved when asked to.
            autosaves: whether the clients want the document saved by itself.
            tell: tells the users what happened to the file: a level ("INFO", "WARNING", "ERROR")
                and a message.
        """
        self._link = link
        self._replica = link.replica
        self._document = document
        self._file_type = file_type
        self._file = file
        self._delay_s = delay_s
        self._autosaves = autosaves
        self._tell = tell
        self._schedule = SaveSchedule(delay_s or 0.0, self._replica.timing.save_ceiling_s)
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._disk: FileState | None = None
        self._written = ""
        self._written_on: str | None = None
        self._unnoted = False
        self._base: Any = None
        self._outage_base: Any = None
        self._base_digest = ""
        self._base_lineage: str | None = None
        self._changes = 0
        self._alone_from = 0.0
        self._ended = False
        self._stepped_down = False
        self.last_save: float | None = None

    # -- what the room tells ---------------------------------------------------------------

    @property
    def file_deleted(self) -> bool:
        """Whether the document was deleted, so that nothing may write its file again."""
        return self._ended

    @property
    def may_save(self) -> bool:
        """Whether this replica is the one that writes the file."""
        link = self._link
        replicator = link.replicator
        if self._ended or self._stepped_down or not replicator.writable or replicator.outdated:
            return False
        if self._replica.connected:
            return link.lease.held(loop_time())
        known_last = link.lease.last_holder in (None, self._replica.id)
        return known_last and loop_time() >= self._alone_from

    def outage_ended(self) -> None:
        """The log holds all of it."""
        self._outage_base = None

    @property
    def base(self) -> Any:
        """What the file held, which a log that was lost and begun anew began with; None if that
        is not known."""
        if self._outage_base is not None:
            return self._outage_base
        return self._base if self._disk is not None else None

    @property
    def wrote_unnoted(self) -> bool:
        """Whether the file holds what this replica has written and nobody else knows of."""
        return self._unnoted

    def loaded(self, content: Any, lineage: str) -> None:
        """If the document becomes one of this lineage, its content comes from the file, which
        holds `content`."""
        self._set_base(content, lineage)
        self._outage_base = content

    def cut_off(self) -> None:
        """The transport is gone. A replica whose lease has run out before it noticed, because it
        was frozen or heard nothing, may have a successor, so it waits before it saves alone."""
        if self._link.lease.own_last and not self._link.lease.held(loop_time()):
            wait_s = self._replica.timing.lease_ttl_s
            self._alone_from = loop_time() + wait_s
            asyncio.get_running_loop().call_later(wait_s, self._wake.set)

    def outage_begins(self) -> None:
        """If the log is lost, another replica may begin it anew with what the file holds now, and
        what this document holds beyond that is what that one has to be given."""
        if self._disk is not None:
            self._outage_base = self._base
        else:
            self._link.spawn(self._remember_file())

    async def _remember_file(self) -> None:
        known = self._document.hash
        try:
            content, state = await self._file.load()
        except Exception as error:  # noqa: BLE001 (told; it is needed only if the log is lost)
            self._link.complain(
                "If its log is lost, what was written here goes to a copy beside the file, which "
                f"cannot be read now: {error or type(error).__name__}"
            )
            return
        if state.hash == known:
            self._outage_base = seed(self._file_type, content).content

    def converted(self, log_content: Any) -> None:
        """The document is another one now, which was seeded with who knows what, and the log holds
        `log_content` of it. What was written to the file before is in it, as far as it was more
        than what the file had held."""
        self._written_on = digest(self.base) if self.base is not None else ""
        self._base, self._base_digest, self._disk = None, "", None
        self._outage_base = log_content
        self._wake.set()

    def changed(self) -> None:
        """The document's content has changed, here or elsewhere."""
        self._changes += 1
        self.marked()

    def marked(self) -> None:
        """Somebody has marked the document as not saved."""
        if self._delay_s is not None:
            self._schedule.changed(loop_time())
            if self.may_save:
                self._wake.set()

    def lease_changed(self) -> None:
        """The lease changed hands, so somebody else may have written the file."""
        self._stepped_down = False
        self._disk = None
        self._wake.set()

    def reconnected(self) -> None:
        """The transport is back, and may have forgotten what was noted of the file."""
        self._stepped_down = False
        self._disk = None
        self._wake.set()

    def poke(self) -> None:
        """Time has passed; a save that had to wait for the lease may go on."""
        if self.may_save and (self._disk is None or self._schedule.due() is not None):
            self._wake.set()

    def ended(self) -> None:
        """The document was deleted: nothing may write its file again."""
        self._ended = True

    # -- life ------------------------------------------------------------------------------

    async def opened(self) -> None:
        """The room has joined; compare the document with the file if that is this replica's
        business."""
        if self._disk is None and self.may_save:
            async with self._lock:
                await self._take_over()

    async def run(self) -> None:
        """Save when it is due, for as long as the room is open."""
        while True:
            due = self._schedule.due()
            if due is not None and not self._replica.connected:
                # If the others can reach the transport, one of them saves first, and is seen.
                due += OUTAGE_DELAY_S
            if not self.may_save or (due is None and self._disk is not None):
                await self._wake.wait()
                self._wake.clear()
            elif self._disk is not None and due is not None and due > loop_time():
                await asyncio.sleep(due - loop_time())
            else:
                await self._save_by_itself()

    async def _save_by_itself(self) -> None:
        try:
            if self._disk is None:
                async with self._lock:
                    await self._take_over()
            elif self._autosaves():
                await self.save()
            else:
                self._schedule.taken()
        except NotTheSaver as error:
            self._link.log.info("%s: %s", self._file.path, error)
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            message = f"The document could not be saved: {error or type(error).__name__}"
            if self._replica.complain(
                f"saves {self._link.scope.room}",
                f"Room {self._link.scope.room}: {message}; it is tried again every {RETRY_S:.0f} s",
            ):
                self._tell("ERROR", message)
            await asyncio.sleep(RETRY_S)

    def between_saves(self) -> asyncio.Lock:
        """A context in which no save is under way."""
        return self._lock

    async def close(self) -> None:
        """Write what is not written yet, if this replica is the saver, and note that all of it
        is."""
        if self._disk is None or not self.may_save:
            return
        try:
            if self._schedule.due() is not None and self._autosaves():
                await self.save()
            elif digest(self._document.get()) == self._base_digest:
                await self._link.flush(REQUEST_TIMEOUT_S)
                await self._mark(self._link.replicator.offset)
        except Exception as error:  # noqa: BLE001 (whatever it is, the room is closed)
            self._replica.complain(
                "saves closing",
                f"Room {self._link.scope.room} was not saved when it was closed; its edits are in "
                f"the log and are saved when it is opened again: {error or type(error).__name__}",
            )

    # -- saving ----------------------------------------------------------------------------

    async def save(self) -> None:
        """Write the file, unless it holds the document's content already.

        Raises:
            NotTheSaver: if another replica has become the saver.
            Exception: what the contents manager raises.
        """
        async with self._lock:
            if self._disk is None:
                await self._take_over()
            self._schedule.taken()
            try:
                await self._merge_foreign_change()
                await self._write_if_changed()
            except Exception:
                if self._delay_s is not None:
                    self._schedule.changed(loop_time())
                    self._wake.set()
                raise

    async def _write_if_changed(self) -> None:
        offset, changes = self._link.replicator.offset, self._changes
        content = await self._snapshot()
        fingerprint = digest(content)
        if fingerprint != self._base_digest:
            noted = not await self._claim(fingerprint)
            if noted:
                content = await self._leave_note()
            try:
                if self._disk is None:
                    raise NotTheSaver("the file may be another one now")
                state = await self._file.write(content, self._disk)
            except Exception:
                if noted:
                    await self._file.remove_note()
                raise
            self._settle(content, state)
            self._unnoted = True
            self.last_save = time.time()
            self._replica.settle(f"saves {self._link.scope.room}")
            self._tell("INFO", "Content saved.")
        if self._document.dirty:
            self._document.dirty = False
        await self._link.flush(REQUEST_TIMEOUT_S)
        if changes == self._changes:
            offset = self._link.replicator.offset
        await self._mark(offset)

    async def _snapshot(self) -> Any:
        """The content at one moment: an edit in between would make it a state that never was."""
        changes = self._changes
        try:
            content = await self._document.aget()
        except Exception:
            if changes == self._changes:
                raise
            # Something that was being read was deleted meanwhile.
            return self._document.get()
        return content if changes == self._changes else self._document.get()

    async def _claim(self, fingerprint: str) -> bool:
        """Make sure right before writing that this is the saver, and say what it is writing: if
        it dies now, its successor must not take the new file for somebody else's. Return whether
        it could be said.

        Raises:
            NotTheSaver: if another replica is the saver.
        """
        if self._replica.connected:
            await self._link.tick()
        if not self.may_save or self._disk is None:
            raise NotTheSaver("another server saves this document now")
        if self._replica.connected:
            try:
                await self._replica.transport.write_map(
                    self._link.scope, "saved", {"pending": fingerprint}
                )
                return True
            except TransportError as error:
                # The lease is held, and a transport that takes no more must not keep the file back.
                self._link.complain(f"The other servers do not know of this save: {error}")
        return False

    async def _leave_note(self) -> Any:
        """Say beside the file what is about to be in it, since it cannot be said through the
        transport. A successor finds there the edits that it lacks, as edits: taken from the file
        as text they would be there twice when this replica comes back. Return the content as it
        is noted."""
        content = self._document.get()
        lineage = self._link.replicator.lineage
        if lineage is not None:
            await self._file.write_note(encode_note(lineage, self._link.doc.get_update()))
        return content

    async def noted(self) -> SeedContent | None:
        """The document that another replica has noted beside the file; None if there is none."""
        raw = await self._file.read_note()
        if raw is None:
            return None
        try:
            lineage, update = decode_note(raw)
            document = document_of(self._file_type, update)
        except (CodecError, ValueError) as error:
            self._link.complain(f"The note beside {self._file.path} is passed over: {error}")
            return None
        return SeedContent(lineage, update, document.get())

    def _adopts(self, noted: SeedContent) -> bool:
        """Take over the edits that another replica has noted beside the file, if they are of this
        document; they go to the log from here."""
        if noted.lineage != self._link.replicator.lineage:
            return False
        self._link.doc.apply_update(noted.update)
        return True

    async def _mark(self, offset: str) -> None:
        """Note in the transport what the file holds."""
        log = self._link.replicator.log
        if log is None or self._disk is None or not self._replica.connected:
            return
        record = {
            "hash": self._disk.hash,
            "mtime": self._disk.last_modified,
            "digest": self._base_digest,
            "pending": "",
        }
        try:
            await self._replica.transport.mark_saved(
                self._link.scope, log, offset, record, self._replica.timing.history_keep_s
            )
            self._unnoted = False
            # What a note is about is older than this save, but its edits may not be here yet.
            if (noted := await self.noted()) is not None:
                self._adopts(noted)
                await self._file.remove_note()
        except TransportError as error:
            self._link.complain(f"The save is not noted for the other servers: {error}")

    # -- the file and the document ---------------------------------------------------------

    async def file_changed(self) -> None:
        """The file's time of modification is another than before."""
        if not self.may_save or self._disk is None:
            # Told only once: whoever saves next, perhaps this replica, looks at the file anew.
            self._disk = None
            return
        try:
            async with self._lock:
                await self._merge_foreign_change()
        except NotTheSaver as error:
            self._link.log.info("%s: %s", self._file.path, error)
            self._disk = None
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            self._replica.complain(
                f"saves {self._link.scope.room}",
                f"Room {self._link.scope.room}: the file was changed and cannot be compared with "
                f"the document yet: {error or type(error).__name__}",
            )
            self._disk = None
            self._wake.set()

    async def _take_over(self) -> None:
        """This replica has become the saver, or the file is another one: find out what it holds.

        Raises:
            NotTheSaver: if another replica is the saver.
        """
        if self._replica.connected:
            await self._link.catch_up(REQUEST_TIMEOUT_S)
            if not self.may_save:
                raise NotTheSaver("another server saves this document now")
        saved, noted = await self._what_is_said()
        while True:
            content, state = await self._file.load()
            on_disk = seed(self._file_type, content)
            fingerprint = digest(on_disk.content)
            # Without a note of it, the file may still hold what this replica has written during
            # an outage, or what a saver wrote that died before it could note it.
            if (
                state.hash == saved.get("hash")
                or fingerprint == saved.get("pending")
                or self._is_own(state, saved)
            ):
                self._settle(on_disk.content, state)
                break
            # Whoever wrote the file just now has said so before, or is saying so.
            before = saved, noted
            saved, noted = await self._what_is_said()
            if (saved, noted) == before:
                if await self._settle_foreign(on_disk, state, saved, noted):
                    return
                break
        await self._mark_if_new(saved)
        self._schedule_if_unsaved(self._document.get())

    async def _what_is_said(self) -> tuple[dict[str, str], SeedContent | None]:
        """What the savers have said of the file through the transport, and beside it."""
        noted = await self.noted()
        if not self._replica.connected:
            return {}, noted
        return await self._replica.transport.read_map(self._link.scope, "saved"), noted

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
        noted: SeedContent | None,
    ) -> bool:
        """The file is not what has been said of it; return whether it was taken over."""
        theirs = on_disk.content
        if noted is not None and self._adopts(noted):
            self._link.log.info("%s was saved by another server during an outage", self._file.path)
            if digest(noted.content) != digest(theirs):
                await self._take_from_file(theirs, state, digest(noted.content), noted.content)
                return True
            self._settle(theirs, state)
        elif "hash" in saved:
            await self._take_from_file(
                theirs, state, saved.get("digest", ""), await self._last_saved(saved)
            )
            return True
        else:
            await self._settle_unnoted(on_disk, state)
        return False

    async def _last_saved(self, saved: dict[str, str]) -> Any:
        """The content that was saved last, which may have been by another replica; None if it
        cannot be told any more."""
        wanted = saved.get("digest")
        if self._base is not None and self._base_digest == wanted:
            return self._base
        history = await self._replica.transport.read_history(self._link.scope)
        document = document_of(self._file_type)
        if history.base is not None and (update := readable(history.base)) is not None:
            document.ydoc.apply_update(update)
        until = offset_key(saved.get("offset", ZERO_OFFSET))
        later = 0
        for entry in history.entries:
            update = readable(entry.payload)
            if update is not None:
                document.ydoc.apply_update(update)
            if offset_key(entry.offset) < until:
                continue
            # What was typed while it was being saved may be in it, but has a later offset.
            if digest(content := document.get()) == wanted:
                return content
            later += 1
            if later > LAST_SAVED_MAX_ENTRIES:
                break
        return None

    async def _settle_unnoted(self, on_disk: SeedContent, state: FileState) -> None:
        """Nobody has noted a save of this log. If the file is not what the log was seeded with,
        another server may have written it during an outage, whose edits then come by the log, or
        another program: what it holds is kept beside it, because nobody can know."""
        theirs = on_disk.content
        lineage = self._link.replicator.lineage
        if self._base is not None and self._base_lineage == lineage:
            seeded = digest(theirs) == self._base_digest
        else:
            seeded = on_disk.lineage == lineage
        if not seeded and not self._replica.connected:
            self._step_down()
        if not seeded:
            await self._link.gather(lambda: self._document.get() == theirs)
        self._settle(theirs, state)
        if not seeded and theirs != self._document.get():
            copy = await self._file.keep_copy(theirs)
            message = f"The file was changed while Redis was away; what it held is kept in {copy}."
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)

    async def _mark_if_new(self, saved: dict[str, str]) -> None:
        assert self._disk is not None
        if saved.get("hash") != self._disk.hash or self._unnoted:
            await self._link.flush(REQUEST_TIMEOUT_S)
            unsaved = digest(self._document.get()) != self._base_digest
            await self._mark(ZERO_OFFSET if unsaved else self._link.replicator.offset)

    async def _merge_foreign_change(self) -> None:
        """If another program has written the file, bring its content in as an edit."""
        while (state := await self._file.stat()).hash != (self._disk and self._disk.hash):
            if not self._replica.connected:
                self._step_down()
            # A saver that was frozen may have had a successor, which has written the file.
            self._disk = None
            await self._take_over()
        self._disk = state

    def _step_down(self) -> NoReturn:
        """The file is not what this replica knows, and alone it cannot know whether another one
        has written it. That one's edits come by the log; taken from the file as well, they would
        be there twice."""
        self._stepped_down = True
        message = "The file was changed while Redis is away; it is not saved from here until then."
        self._tell("WARNING", message)
        raise NotTheSaver(message)

    async def _take_from_file(
        self, theirs: Any, state: FileState, saved_digest: str, base: Any
    ) -> None:
        """Make the file's content `theirs` the document's; what was not saved is merged into it
        where `base`, the content before both changes, is known, and kept beside it anyway."""
        # Nothing may come between looking at the document and changing it.
        current = self._document.get()
        unsaved = digest(current) != saved_digest
        offset = self._link.replicator.offset
        if theirs != current:
            merged = theirs
            if unsaved and base is not None:
                merged = merge(self._file_type, base, current, theirs)
            apply_content(self._document, merged)
        self._settle(theirs, state)
        if self._document.dirty:
            self._document.dirty = False
        self._schedule_if_unsaved(self._document.get())
        if theirs != current:
            message = "The file was changed by another program; the change is taken over."
            if unsaved:
                copy = await self._file.keep_copy(current)
                message += f" What was not saved is also kept in {copy}."
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)
        await self._mark(offset)

    def _settle(self, content: Any, state: FileState) -> None:
        self._disk = state
        self._written, self._written_on = state.hash, None
        self._set_base(content, self._link.replicator.lineage)
        if self._document.hash != state.hash:
            self._document.hash = state.hash

    def _set_base(self, content: Any, lineage: str | None) -> None:
        self._base, self._base_digest = content, digest(content)
        self._base_lineage = lineage

    def _schedule_if_unsaved(self, current: Any) -> None:
        if digest(current) != self._base_digest and self._delay_s is not None:
            self._schedule.changed(loop_time())
            self._wake.set()
