"""The saver: of all replicas of a document exactly one writes its file and watches it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_ydoc.ybasedoc import YBaseDoc

from .codec import SaveReply, SaveRequest, decode_note, encode_note
from .content import apply_content, digest, merge, normalise
from .errors import CodecError, SaveFailed, TransportError
from .model import ZERO_OFFSET
from .provider import RoomLink
from .scheduling import SaveSchedule
from .transports.base import loop_time

RETRY_S = 5.0
REQUEST_TIMEOUT_S = 3.0
DELETED_KEEP_S = 60 * 60


@dataclass(frozen=True)
class FileState:
    """What is known of a file without its content."""

    hash: str
    last_modified: str
    writable: bool


class DocumentFile(Protocol):
    """A document's file, as the saver needs it. Every method may raise what the contents manager
    raises."""

    @property
    def path(self) -> str: ...

    async def stat(self) -> FileState: ...

    async def load(self) -> tuple[Any, FileState]: ...

    async def write(self, content: Any) -> FileState:
        """Write the file, whole or not at all."""
        ...

    async def keep_copy(self, content: Any) -> str:
        """Write `content` to a new file beside this one and return its path."""
        ...

    async def write_note(self, note: bytes) -> None:
        """Leave `note` where whoever reads the file finds it; nothing, where there is no such
        place."""
        ...

    async def read_note(self) -> bytes | None: ...

    async def remove_note(self) -> None: ...


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
        self._replies: dict[str, asyncio.Future[str]] = {}
        self._disk: FileState | None = None
        self._written = ""
        self._unnoted = False
        self._left_note = False
        self._base: Any = None
        self._outage_base: Any = None
        self._base_digest = ""
        self._changes = 0
        self._ended = False
        self._stepped_down = False
        self.last_save: float | None = None

    # -- what the room tells ---------------------------------------------------------------

    @property
    def may_save(self) -> bool:
        """Whether this replica is the one that writes the file."""
        link = self._link
        replicator = link.replicator
        if self._ended or self._stepped_down or not replicator.writable or replicator.outdated:
            return False
        if self._replica.connected:
            return link.lease.held(loop_time())
        return link.lease.own_last or link.lease.fence == 0

    def outage_ended(self) -> None:
        """The log holds all of it."""
        self._outage_base = None

    @property
    def base(self) -> Any:
        """The document's content before the changes that the log may not hold."""
        return self._base if self._outage_base is None else self._outage_base

    @property
    def wrote_unnoted(self) -> bool:
        """Whether the file holds what this replica has written and nobody else knows of."""
        return self._unnoted

    def loaded(self, content: Any) -> None:
        """The document's content comes from the file, which holds `content`."""
        self._set_base(normalise(self._file_type, content))

    def outage_begins(self) -> None:
        """What is changed from now on is what a document of another lineage has to be given."""
        self._outage_base = self._document.get()

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
        """The transport is back."""
        self._stepped_down = False
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
        except Exception:
            self._link.log.exception(
                "Room %s was not saved when it was closed; its edits are in the log and are "
                "saved when it is opened again",
                self._link.scope.room,
            )

    # -- saving ----------------------------------------------------------------------------

    async def save_now(self) -> None:
        """Save because somebody asked for it, here or on the replica that is the saver.

        Raises:
            SaveFailed: if it was not saved; the message says why.
        """
        deadline = loop_time() + self._replica.timing.save_reply_timeout_s
        while loop_time() < deadline:
            if self._ended:
                raise SaveFailed("the file was deleted")
            if self.may_save:
                try:
                    await self.save()
                except NotTheSaver:
                    continue
                return
            if not self._replica.connected:
                raise SaveFailed("the server that saves this document cannot be reached")
            if await self._ask_saver():
                return
            await self._link.tick()
        raise SaveFailed("no server has saved the document in time")

    async def _ask_saver(self) -> bool:
        """Ask whoever is the saver; return whether it has saved."""
        await self._link.flush(REQUEST_TIMEOUT_S)
        request = uuid.uuid4().hex
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._replies[request] = reply
        try:
            self._link.publish(SaveRequest(self._replica.id, request))
            problem = await asyncio.wait_for(reply, REQUEST_TIMEOUT_S)
        except asyncio.TimeoutError:
            return False
        finally:
            del self._replies[request]
        if problem:
            raise SaveFailed(problem)
        return True

    async def answer(self, request: SaveRequest) -> None:
        """Save because another replica's client asked for it, if this is the saver."""
        if not self.may_save:
            return
        problem = ""
        try:
            # Whoever asks has shared all edits, but a large one may not have been read here yet.
            await self._link.catch_up(REQUEST_TIMEOUT_S)
            await self.save()
        except NotTheSaver:
            return
        except Exception as error:
            self._link.log.exception("Room %s could not be saved", self._link.scope.room)
            problem = str(error) or type(error).__name__
        self._link.publish(SaveReply(self._replica.id, request.request, problem))

    def answered(self, reply: SaveReply) -> None:
        """The saver has answered."""
        waiting = self._replies.get(reply.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply.problem)

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
            await self._claim(fingerprint)
            state = await self._file.write(content)
            self._settle(content, state)
            self._written = state.hash
            self._unnoted = True
            self._document.hash = state.hash
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

    async def _claim(self, fingerprint: str) -> None:
        """Make sure right before writing that this is the saver, and say what it is writing: if
        it dies now, its successor must not take the new file for somebody else's."""
        if self._replica.connected:
            await self._link.tick()
        if not self.may_save or self._disk is None:
            raise NotTheSaver("another server saves this document now")
        if self._replica.connected:
            try:
                await self._replica.transport.write_map(
                    self._link.scope, "saved", {"pending": fingerprint}
                )
                return
            except TransportError as error:
                # The lease is held, and a transport that takes no more must not keep the file back.
                self._link.complain(f"The other servers do not know of this save: {error}")
        await self._leave_note(fingerprint)

    async def _leave_note(self, fingerprint: str) -> None:
        """Say beside the file what is about to be in it, since it cannot be said through the
        transport. A successor finds there the edits that it lacks, as edits: taken from the file
        as text they would be there twice when this replica comes back."""
        lineage = self._link.replicator.lineage
        if lineage is not None:
            self._left_note = True
            await self._file.write_note(
                encode_note(lineage, fingerprint, self._link.doc.get_update())
            )

    async def _adopt(self, fingerprint: str) -> bool:
        """If the file was written by another replica that could not say so, take over the edits
        that it noted, which go to the log; return whether it was."""
        raw = await self._file.read_note()
        if raw is None:
            return False
        try:
            lineage, noted, update = decode_note(raw)
        except CodecError as error:
            self._link.complain(f"The note beside {self._file.path} is passed over: {error}")
            return False
        if noted != fingerprint or lineage != self._link.replicator.lineage:
            return False
        self._left_note = True
        self._link.doc.apply_update(update)
        self._link.log.info("%s was saved by another server during an outage", self._file.path)
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
            if self._left_note:
                await self._file.remove_note()
                self._left_note = False
        except TransportError as error:
            self._link.complain(f"The save is not noted for the other servers: {error}")

    # -- the file and the document ---------------------------------------------------------

    async def file_changed(self) -> None:
        """The file's time of modification is another than before."""
        if self.may_save and self._disk is not None:
            try:
                async with self._lock:
                    await self._merge_foreign_change()
            except NotTheSaver as error:
                self._link.log.info("%s: %s", self._file.path, error)

    async def _take_over(self) -> None:
        """This replica has become the saver: find out what the file holds."""
        saved: dict[str, str] = {}
        if self._replica.connected:
            await self._link.catch_up(REQUEST_TIMEOUT_S)
            saved = await self._replica.transport.read_map(self._link.scope, "saved")
        content, state = await self._file.load()
        theirs = normalise(self._file_type, content)
        fingerprint = digest(theirs)
        # Without a note of it, the file may still hold what this replica has written during an
        # outage, or what a saver wrote that died before it could note it.
        known = state.hash in (saved.get("hash"), self._written)
        if known or saved.get("pending") == fingerprint or await self._adopt(fingerprint):
            self._settle(theirs, state)
        elif "hash" in saved:
            base = self._base if self._base_digest == saved.get("digest") else None
            await self._take_from_file(theirs, state, saved.get("digest", ""), base)
            return
        else:
            await self._settle_unnoted(theirs, state, fingerprint)
        await self._mark_if_new(saved)
        self._schedule_if_unsaved(self._document.get())

    async def _settle_unnoted(self, theirs: Any, state: FileState, fingerprint: str) -> None:
        """Nobody has noted a save of this log. If the file is not what was loaded from it, another
        server may have written it during an outage, whose edits then come by the log, or another
        program: what it holds is kept beside it, because nobody can know."""
        foreign = self._base is not None and fingerprint != self._base_digest
        self._settle(theirs, state)
        if foreign and theirs != self._document.get():
            copy = await self._file.keep_copy(theirs)
            message = f"The file was changed while Redis was away; what it held is kept in {copy}."
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)

    async def _mark_if_new(self, saved: dict[str, str]) -> None:
        if "hash" not in saved or self._unnoted:
            await self._link.flush(REQUEST_TIMEOUT_S)
            unsaved = digest(self._document.get()) != self._base_digest
            await self._mark(ZERO_OFFSET if unsaved else self._link.replicator.offset)

    async def _merge_foreign_change(self) -> None:
        """If another program has written the file, bring its content in as an edit."""
        state = await self._file.stat()
        assert self._disk is not None
        if state.hash == self._disk.hash:
            self._disk = state
            return
        if not self._replica.connected:
            # Alone, this server cannot know whether another one has written the file. That one's
            # edits come by the log; taken from the file as well, they would be there twice.
            self._stepped_down = True
            message = (
                "The file was changed while Redis is away; it is not saved from here until then."
            )
            self._tell("WARNING", message)
            raise NotTheSaver(message)
        await self._link.catch_up(REQUEST_TIMEOUT_S)
        if not self.may_save:
            raise NotTheSaver("another server saves this document now")
        content, state = await self._file.load()
        theirs = normalise(self._file_type, content)
        if await self._adopt(digest(theirs)):
            self._settle(theirs, state)
            self._schedule_if_unsaved(self._document.get())
            return
        await self._take_from_file(theirs, state, self._base_digest, self._base)

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
        self._set_base(content)

    def _set_base(self, content: Any) -> None:
        self._base, self._base_digest = content, digest(content)

    def _schedule_if_unsaved(self, current: Any) -> None:
        if digest(current) != self._base_digest and self._delay_s is not None:
            self._schedule.changed(loop_time())
            self._wake.set()
