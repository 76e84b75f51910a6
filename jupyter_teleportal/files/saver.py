"""The saver: of all replicas of a document exactly one writes its file and watches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.document_file import DocumentFile
from ..core.envelopes import encode_state
from ..core.errors import SaveFailed, TransportError
from ..core.savable import Flaws
from ..core.schedule import SaveSchedule
from ..sync.room_link import RoomLink
from ..transports.base import loop_time
from .reconciling import REQUEST_TIMEOUT_S, NotTheSaver, Reconciler

RETRY_S = 5.0
OUTAGE_DELAY_S = 1.0
COMPLETE_S = 10.0
DELETED_KEEP_S = 60 * 60


class Saver:
    """Writes one document's file while this replica holds the room's lease.

    Without the transport, or while it refuses the room, the last saver goes on saving as long as
    nobody else has written the file; so does a replica that never knew of another saver.
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
        self._file = file
        self._delay_s = delay_s
        self._autosaves = autosaves
        self._tell = tell
        self._schedule = SaveSchedule(delay_s or 0.0, self._replica.timing.save_ceiling_s)
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self.reconciler = Reconciler(
            link, document, file_type, file, tell=tell, may_save=lambda: self.may_save
        )
        self._changes = 0
        self._alone_from = 0.0
        self._ended = False
        self._unshown_from: float | None = None
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
        if self._ended or link.broken or not replicator.writable or replicator.outdated:
            return False
        if self.reconciler.stepped_down:
            return False
        if link.shared:
            return link.lease.held(loop_time())
        known_last = link.lease.last_holder in (None, self._replica.id)
        return known_last and loop_time() >= self._alone_from

    def cut_off(self) -> None:
        """The transport is gone, or refuses the room. A replica whose lease has run out before it
        noticed, because it was frozen or heard nothing, may have a successor, so it waits before it
        saves alone."""
        if self._link.lease.own_last and not self._link.lease.held(loop_time()):
            wait_s = self._replica.timing.lease_ttl_s
            self._alone_from = loop_time() + wait_s
            asyncio.get_running_loop().call_later(wait_s, self._wake.set)
        self._wake.set()

    def changed(self) -> None:
        """The document's content has changed, here or elsewhere."""
        self._changes += 1
        self.reconciler.document_changed()
        self.marked()

    def marked(self) -> None:
        """Somebody has marked the document as not saved."""
        if self._delay_s is not None:
            self._schedule.changed(loop_time())
            if not self._wake.is_set() and self.may_save:
                self._wake.set()

    def look_again(self) -> None:
        """The lease changed hands, so somebody else may have written the file; or the transport
        is back, and may have forgotten what was noted of it."""
        self.reconciler.look_again()
        self._wake.set()

    def converted(self, log_content: Any) -> None:
        """The document is another one now, of which the log holds `log_content`."""
        self.reconciler.converted(log_content)
        self._wake.set()
        self.changed()

    def poke(self) -> None:
        """Time has passed; a save that had to wait for the lease may go on."""
        if self.may_save and (self.reconciler.disk is None or self._schedule.due() is not None):
            self._wake.set()

    def ended(self) -> None:
        """The document was deleted: nothing may write its file again."""
        self._ended = True

    # -- life ------------------------------------------------------------------------------

    async def opened(self) -> None:
        """The room has joined; compare the document with the file if that is this replica's
        business."""
        if self.reconciler.disk is not None or not self.may_save:
            return
        try:
            async with self._lock:
                await self._take_over()
        except NotTheSaver as error:
            self._link.log.info("%s: %s", self._file.path, error)
        except SaveFailed:
            pass  # tried again by `run`, which tells

    async def run(self) -> None:
        """Save when it is due, for as long as the room is open."""
        while True:
            due = self._schedule.due()
            if due is not None and not self._link.shared:
                # If the others can reach the transport, one of them saves first, and is seen.
                due += OUTAGE_DELAY_S
            if not self.may_save or (due is None and self.reconciler.disk is not None):
                await self._wake.wait()
                self._wake.clear()
            elif self.reconciler.disk is not None and due is not None and due > loop_time():
                await asyncio.sleep(due - loop_time())
            elif self.reconciler.disk is None or await self._turn():
                await self._save_by_itself()

    async def _turn(self) -> bool:
        """Wait for this document's turn, unless it has waited long enough; return whether anything
        is to be saved then."""
        latest = self._schedule.latest()
        if latest is not None and latest > loop_time():
            await self._replica.turns.take()
        return self._schedule.due() is not None

    async def _save_by_itself(self) -> None:
        try:
            if self.reconciler.disk is None:
                async with self._lock:
                    await self._take_over()
            elif self._autosaves():
                began = loop_time()
                await self.save()
                self._replica.turns.took(loop_time() - began)
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
        unsaved = self._schedule.due() is not None
        if not self.may_save or (self.reconciler.disk is None and not unsaved):
            return
        try:
            if unsaved and self._autosaves():
                await self.save()
            elif await self.reconciler.holds_document():
                await self._link.flush(REQUEST_TIMEOUT_S)
                await self.reconciler.mark(self._link.replicator.offset)
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
            if self._link.broken:
                raise NotTheSaver("the document is being opened anew")
            if self.reconciler.disk is None:
                await self._take_over()
            self._schedule.taken()
            try:
                await self.reconciler.merge_foreign_change()
                await self._write_if_changed()
            except Exception:
                if self._delay_s is not None:
                    self._schedule.changed(loop_time())
                    self._wake.set()
                raise

    async def _write_if_changed(self) -> None:
        offset, changes = self._link.replicator.offset, self._changes
        content, vector = await self.reconciler.moment(flaws := Flaws())
        fingerprint = await self.reconciler.digest(content)
        if not self.reconciler.holds(fingerprint):
            noted = not await self._claim(fingerprint, vector)
            if noted:
                content, vector = await self.reconciler.leave_note()
                fingerprint = await self.reconciler.digest(content)
            try:
                if self.reconciler.disk is None:
                    raise NotTheSaver("the file may be another one now")
                state = await self._file.write(content, self.reconciler.disk)
            except Exception:
                if noted:
                    await self.reconciler.notes.take_back()
                raise
            self.reconciler.settle(content, fingerprint, state, vector)
            if noted:
                await self.reconciler.notes.written()
            self.reconciler.unnoted = True
            self.last_save = time.time()
            self._replica.settle(f"saves {self._link.scope.room}")
            self._tell("INFO", "Content saved.")
        if self._document.dirty:
            self._document.dirty = False
        await self._link.flush(REQUEST_TIMEOUT_S)
        if changes == self._changes:
            offset = self._link.replicator.offset
        await self.reconciler.mark(offset)
        await self._saved_with(flaws)

    async def _saved_with(self, flaws: Flaws) -> None:
        """The file holds the document but for these flaws: say so, and repair what keeps browsers
        from showing the document."""
        subject = f"repaired {self._link.scope.room}"
        message = f"The notebook is saved, with what no notebook can hold repaired: {flaws}"
        if not flaws.count:
            self._replica.settle(subject)
        elif self._replica.complain(subject, f"Room {self._link.scope.room}: {message}"):
            self._tell("WARNING", message)
        if flaws.foreign and self.may_save:
            await self.reconciler.replace_foreign()
        if not flaws.unshown:
            self._unshown_from = None
        elif self._unshown_from is None:
            self._unshown_from = loop_time()
            asyncio.get_running_loop().call_later(COMPLETE_S, self.marked)
        elif loop_time() - self._unshown_from >= COMPLETE_S and self.may_save:
            # Whoever makes a cell step by step has had the time to.
            self._unshown_from = None
            await self.reconciler.complete()

    async def _claim(self, fingerprint: str, vector: bytes) -> bool:
        """Make sure right before writing that this is the saver, and say what it is writing: if
        it dies now, its successor must not take the new file for somebody else's. Return whether
        it could be said.

        Args:
            fingerprint: the digest of what is written.
            vector: the state vector of the document that holds it.

        Raises:
            NotTheSaver: if another replica is the saver.
        """
        if self._replica.connected:
            await self._link.tick()
        if not self.may_save or self.reconciler.disk is None:
            raise NotTheSaver("another server saves this document now")
        if self._link.shared:
            try:
                said = {"pending": fingerprint, "pending_state": encode_state(vector)}
                await self._replica.transport.write_map(self._link.scope, "saved", said)
                return True
            except TransportError as error:
                # The lease is held, and a transport that takes no more must not keep the file back.
                self._link.complain(f"The other servers do not know of this save: {error}")
        return False

    async def file_changed(self) -> None:
        """The file's time of modification is another than before."""
        if not self.may_save or self.reconciler.disk is None:
            # Told only once: whoever saves next, perhaps this replica, looks at the file anew.
            self.reconciler.disk = None
            return
        try:
            async with self._lock:
                await self.reconciler.merge_foreign_change()
                await self._schedule_if_unsaved()
        except NotTheSaver as error:
            self._link.log.info("%s: %s", self._file.path, error)
            self.reconciler.disk = None
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            message = (
                "the file was changed and cannot be compared with the document yet: "
                f"{error or type(error).__name__}"
            )
            if self._replica.complain(
                f"saves {self._link.scope.room}", f"Room {self._link.scope.room}: {message}"
            ):
                self._tell("ERROR", message)
            self.reconciler.disk = None
            self._wake.set()

    async def _take_over(self) -> None:
        await self.reconciler.take_over()
        await self._schedule_if_unsaved()

    async def _schedule_if_unsaved(self) -> None:
        if self._delay_s is not None and not await self.reconciler.holds_document():
            self._schedule.changed(loop_time())
            self._wake.set()
