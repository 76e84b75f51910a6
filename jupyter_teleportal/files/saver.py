"""The saver: of all replicas of a document exactly one writes its file and watches it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from jupyter_ydoc import YNotebook
from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.document_file import DocumentFile
from ..core.envelopes import encode_state
from ..core.errors import FileChanged, FileGone, SaveFailed, TransportError, reason_of
from ..core.reading import complete, replace_foreign
from ..core.savable import Flaws
from ..core.schedule import SaveSchedule
from ..sync.room_link import RoomLink
from ..transports.base import loop_time
from .reconciling import NotTheSaver, Reconciler
from .save_records import REQUEST_TIMEOUT_S
from .telling import Teller

RETRY_S = 5.0
AGAIN_S = (0.05, 0.2, 0.5)
"""The longest pauses before the file is compared again when somebody else has written it right
then, such as the saver of another view of it, which does the same."""
OUTAGE_DELAY_S = 1.0
COMPLETE_S = 10.0
DELETED_KEEP_S = 60 * 60
GONE_S = 2.0
"""Where a file is gone for so long, it was neither renamed nor replaced, but deleted."""
_TAKEN = "it was deleted, and another file is at its place now; keep it with Save As"


class Saver:
    """Writes one document's file while this replica holds the room's lease.

    Without the transport, or while it refuses the room, the last saver goes on saving as long as
    nobody else has written the file; so does a replica that never knew of another saver.

    A file that was deleted is written again only when somebody asks for it.
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
        teller: Teller,
    ) -> None:
        """
        Args:
            link: the room's link.
            document: what is saved.
            file_type: the contents type.
            file: where to.
            delay_s: how long nothing has to change before a save; None: only saved when asked to.
            autosaves: whether the clients want the document saved by itself.
            teller: tells the users what happened to the file.
        """
        self._link = link
        self._replica = link.replica
        self._document = document
        self._file = file
        self._delay_s = delay_s
        self._autosaves = autosaves
        self._teller = teller
        self._tell = teller.everybody
        self._schedule = SaveSchedule(delay_s or 0.0, self._replica.timing.save_ceiling_s)
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self.reconciler = Reconciler(
            link, document, file_type, file, tell=self._tell, may_save=lambda: self.may_save
        )
        self._alone_from = 0.0
        self._ended = False
        self._deleted = False
        self._gone_from: float | None = None
        self._gone_told = False
        self._taken_told = False
        self._failed = False
        self._there_again = asyncio.Event()
        self._unshown_from: float | None = None
        self.last_save: float | None = None

    # -- what the room tells ---------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether nothing may write the file again."""
        return self._ended

    @property
    def file_deleted(self) -> bool:
        """Whether the document was deleted, so that another one may be at its path."""
        return self._deleted

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
        self.reconciler.snapshots.changes += 1
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
        """Nothing may write the file again."""
        self._ended = True

    # -- a file that is deleted ------------------------------------------------------------

    def deleted(self) -> None:
        """The document was deleted. Its users go on, and it is saved when one of them asks."""
        self._deleted = True
        self._taken_told = False
        self.file_gone()
        self._tell_gone()

    def returned(self) -> None:
        """The document is at its path again."""
        self._deleted = False
        self._wake.set()
        self._link.spawn(self._look_for_file())

    async def _look_for_file(self) -> None:
        if await self._is_there():
            self.file_there()

    def file_gone(self) -> None:
        """The file is not there."""
        if self._gone_from is None:
            self._gone_from = now = loop_time()
            self._gone_told = False
            self.reconciler.forget_file()
            self._there_again.clear()
            asyncio.get_running_loop().call_later(GONE_S, self._tell_if_gone, now)

    def file_there(self) -> None:
        """The file is there."""
        if self._gone_from is None or self._deleted:
            return
        self._gone_from = None
        if self._gone_told:
            self._teller.here("INFO", "The file is there again.")
        self._there_again.set()
        self._wake.set()

    def _tell_if_gone(self, since: float) -> None:
        if self._gone_from == since:
            self._tell_gone()

    def _tell_gone(self) -> None:
        if not self._gone_told and not self._ended:
            self._gone_told = True
            self._teller.here(
                "WARNING",
                "The file was deleted. Everybody in the document can go on, but nothing is saved "
                "until somebody saves it again, with Ctrl-S at its old place or with Save As.",
            )

    async def place_taken(self) -> None:
        """Where the document was deleted there is a file again: perhaps the document itself, saved
        by another way than through its room."""
        if not self._deleted:
            return
        try:
            on_disk, state = await self.reconciler.contents.load()
            self.reconciler.contents.forget()
            content, vector = await self.reconciler.snapshots.moment()
            same = await self.reconciler.snapshots.digest(content) == on_disk.digest
            if same:
                await self._file.take_path()
        except FileGone:
            return
        except SaveFailed:
            same = False
        if same:
            if self.may_save:
                self.reconciler.settle(on_disk.content, on_disk.digest, state, vector)
                self.reconciler.unnoted = True
            self.returned()
        elif not self._taken_told:
            self._taken_told = True
            # Another server may have saved the document there, and be about to say so.
            asyncio.get_running_loop().call_later(GONE_S, self._tell_taken)

    def _tell_taken(self) -> None:
        if self._deleted and not self._ended:
            self._teller.here("WARNING", f"What is written here is not saved: {_TAKEN}.")

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
            nothing = due is None and self.reconciler.disk is not None
            if not self.may_save or self._deleted or nothing:
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
        except FileGone:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._there_again.wait(), RETRY_S)
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            self.failed(error)
            await asyncio.sleep(RETRY_S)

    def failed(self, error: Exception) -> None:
        """Tell everybody in the document why it is not saved."""
        message = f"The document could not be saved: {reason_of(error)}"
        room = self._link.scope.room
        if self._replica.complain(f"saves {room}", f"Room {room}: {message}"):
            self._failed = True
            self._tell("ERROR", message)

    def between_saves(self) -> asyncio.Lock:
        """A context in which no save is under way."""
        return self._lock

    async def close(self) -> None:
        """Write what is not written yet, if this replica is the saver, and note that all of it
        is."""
        unsaved = self._schedule.due() is not None
        if self._deleted or not self.may_save or (self.reconciler.disk is None and not unsaved):
            return
        try:
            if self._gone_from is not None and not await self._is_there():
                return  # its users know
            if unsaved and self._autosaves():
                await self.save()
            elif await self.reconciler.holds_document():
                await self._link.flush(REQUEST_TIMEOUT_S)
                await self.reconciler.mark(self._link.replicator.offset)
        except Exception as error:  # noqa: BLE001 (whatever it is, the room is closed)
            self._replica.complain(
                "saves closing",
                f"Room {self._link.scope.room} was not saved when it was closed; its edits are in "
                f"the log and are saved when it is opened again: {reason_of(error)}",
            )

    # -- saving ----------------------------------------------------------------------------

    async def save(self, *, anew: bool = False) -> None:
        """Write the file, unless it holds the document's content already.

        Args:
            anew: whether it is written also where it was deleted.

        Raises:
            NotTheSaver: if another replica has become the saver.
            FileGone: if the file was deleted.
            Exception: what the contents manager raises.
        """
        async with self._lock:
            if self._link.broken:
                raise NotTheSaver("the document is being opened anew")
            try:
                await self._save_over_whatever_is_there()
            except FileGone:
                self.file_gone()
                if not anew:
                    raise
                await self._save_anew()

    async def _save_over_whatever_is_there(self) -> None:
        """Write the file that is there, also if others write it at the same time."""
        for pause_s in (*AGAIN_S, None):
            try:
                await self._save_over()
                return
            except FileChanged:
                if pause_s is None:
                    raise
                await asyncio.sleep(random.uniform(0.0, pause_s))

    async def _save_over(self) -> None:
        """Write the file that was compared with the document."""
        if self._deleted:
            raise FileGone("the file was deleted")
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

    async def _save_anew(self) -> None:
        """Write a file that was deleted, because somebody asks for it."""
        if not self._deleted and self._gone_from is not None:
            # It may have been renamed just now, on a server that is about to say so.
            await asyncio.sleep(max(0.0, self._gone_from + GONE_S - loop_time()))
            with contextlib.suppress(FileGone):
                await self._save_over()
                return
        if not self.may_save:
            raise NotTheSaver("another server saves this document now")
        if self._deleted:
            if await self._is_there():
                raise SaveFailed(_TAKEN)
            await self._file.take_path()
            self._deleted = False
        self._schedule.taken()
        await self._write_if_changed(anew=True)
        told, self._gone_from, self._gone_told = self._gone_told, None, False
        self._there_again.set()
        if told:
            self._tell("INFO", "The file was deleted, and is saved again.")

    async def _is_there(self) -> bool:
        try:
            await self._file.stat()
        except FileGone:
            return False
        except Exception:  # noqa: BLE001 (it is there; whoever reads it meets what is wrong)
            pass
        return True

    async def _write_if_changed(self, *, anew: bool = False) -> None:
        """Write what the file does not hold; `anew`: to a file that is not there."""
        offset, changes = self._link.replicator.offset, self.reconciler.snapshots.changes
        content, vector = await self.reconciler.snapshots.moment(flaws := Flaws())
        fingerprint = await self.reconciler.snapshots.digest(content)
        if anew or not self.reconciler.holds(fingerprint):
            noted = not await self._claim(fingerprint, vector, anew=anew)
            if noted:
                content, vector, _ = await self.reconciler.edits.leave()
                fingerprint = await self.reconciler.snapshots.digest(content)
            try:
                if self.reconciler.disk is None and not anew:
                    raise NotTheSaver("the file may be another one now")
                state = await self._file.write(content, None if anew else self.reconciler.disk)
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
            # The others are told only where they were told that it could not be saved.
            (self._tell if self._failed else self._teller.here)("INFO", "Content saved.")
            self._failed = False
        if self._document.dirty:
            self._document.dirty = False
        await self._link.flush(REQUEST_TIMEOUT_S)
        if changes == self.reconciler.snapshots.changes:
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
            await self._repair(replace_foreign)
        if not flaws.unshown:
            self._unshown_from = None
        elif self._unshown_from is None:
            self._unshown_from = loop_time()
            asyncio.get_running_loop().call_later(COMPLETE_S, self.marked)
        elif loop_time() - self._unshown_from >= COMPLETE_S and self.may_save:
            # Whoever makes a cell step by step has had the time to.
            self._unshown_from = None
            await self._repair(complete)

    async def _repair(self, how: Callable[[YNotebook], Iterator[None]]) -> None:
        """Repair some of a notebook's cells with each turn of the event loop. Where this replica is
        not the saver any more, another one goes on."""
        if isinstance(self._document, YNotebook):
            for _ in how(self._document):
                await asyncio.sleep(0)
                if not self.may_save:
                    return

    async def _claim(self, fingerprint: str, vector: bytes, *, anew: bool = False) -> bool:
        """Make sure right before writing that this is the saver, and say what it is writing: if
        it dies now, its successor must not take the new file for somebody else's. Return whether
        it could be said.

        Args:
            fingerprint: the digest of what is written.
            vector: the state vector of the document that holds it.
            anew: whether no file is there.

        Raises:
            NotTheSaver: if another replica is the saver.
        """
        if self._replica.connected:
            await self._link.tick()
        if not self.may_save or (self.reconciler.disk is None and not anew):
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
        if self._deleted:
            return
        if not self.may_save or self.reconciler.disk is None:
            # Told only once: whoever saves next, perhaps this replica, looks at the file anew.
            self.reconciler.forget_file()
            return
        try:
            async with self._lock:
                # What it holds then is read as what it should hold, and is no change.
                if await self._file.finish():
                    self._link.log.warning(
                        "%s: another program died while it wrote; the file is whole again",
                        self._file.path,
                    )
                await self.reconciler.merge_foreign_change()
                await self._schedule_if_unsaved()
        except NotTheSaver as error:
            self._link.log.info("%s: %s", self._file.path, error)
            self.reconciler.forget_file()
        except FileGone:
            self.file_gone()
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            message = (
                "the file was changed and cannot be compared with the document yet: "
                f"{reason_of(error)}"
            )
            if self._replica.complain(
                f"saves {self._link.scope.room}", f"Room {self._link.scope.room}: {message}"
            ):
                self._tell("ERROR", message)
            self.reconciler.forget_file()
            self._wake.set()

    async def _take_over(self) -> None:
        try:
            await self.reconciler.take_over()
        except FileGone:
            self.file_gone()
            raise
        self.file_there()
        await self._schedule_if_unsaved()

    async def _schedule_if_unsaved(self) -> None:
        if self._delay_s is not None and not await self.reconciler.holds_document():
            self._schedule.changed(loop_time())
            self._wake.set()
