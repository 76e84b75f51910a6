"""The link of a document: a room that has a file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Array, Awareness, Text, XmlFragment

from ..core.content import SeedContent, apply_content, digest, document_of, observe, without_undo
from ..core.document_file import DocumentFile
from ..core.envelopes import Envelope, SaveReply, SaveRequest
from ..core.errors import DocumentBroken, LogChanged, TransportError
from ..core.merging import merge
from ..core.reading import read
from ..core.replicator import Phase
from ..core.values import LeaseView, Scope
from ..sync.cluster import Replica
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop
from ..transports.base import TransportState
from .save_requests import SaveRequests
from .saver import DELETED_KEEP_S, Saver


class DocumentLink(RoomLink):
    """Couples a document's room to the transport, and to its file by a `Saver`."""

    def __init__(
        self,
        replica: Replica,
        scope: Scope,
        document: YBaseDoc,
        file_type: str,
        file: DocumentFile,
        *,
        awareness: Awareness,
        broadcast: Callable[[bytes], None],
        writable: bool,
        save_delay_s: float | None,
        tell: Callable[[str, str], None],
    ) -> None:
        super().__init__(
            replica,
            scope,
            document.ydoc,
            awareness=awareness,
            broadcast=broadcast,
            writable=writable,
        )
        self.document = document
        self.file = file
        self._file_type = file_type
        self._awareness = awareness
        self._tell = tell
        self.saver = Saver(
            self,
            document,
            file_type,
            file,
            delay_s=save_delay_s,
            autosaves=self._autosaves,
            tell=tell,
        )
        self.reconciler = self.saver.reconciler
        self.save_requests = SaveRequests(self, self.saver)
        without_undo(document)
        # This takes the place of upstream's observers, which save on every replica.
        self._state_changed = False
        observe(document, self.saver.changed, self._on_state)
        self._saving: asyncio.Task[None] | None = None
        self._degraded = ""
        self._crossing: list[bytes] = []
        self._crossed: Any = None
        self._kept = ""

    async def open(self) -> None:
        await super().open()
        try:
            await self.saver.opened()
        except TransportError as error:
            self.complain(f"The file is compared with the document later: {error}")
        self.reconciler.forget_loaded()
        self.share_path()
        self._saving = asyncio.create_task(self.saver.run())

    async def aclose(self) -> None:
        if self._closed:
            return
        if self.broken:
            if self._saving is not None:
                self._saving.cancel()
            await super().aclose()
            return
        if self.replica.connected:
            # If the log was lost just now, this replica may be the only one that can put it back.
            looking = self.spawn(self.tick())
            await asyncio.wait({looking}, timeout=self.replica.timing.stop_timeout_s / 5)
        if self._saving is not None:
            try:
                # Not between writing the file and noting it.
                async with self.saver.between_saves():
                    self._saving.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await self._saving
            finally:
                # Also where a save takes longer than there is time.
                self._saving.cancel()
            await self.saver.close()
        if self.shared and self.lease.own_last and self.compactor.has_entries:
            await self.flush(self.replica.timing.stop_timeout_s / 2)
            await self.checkpoint()
        await super().aclose()

    async def load_content(self) -> SeedContent:
        # The history goes on if it can: where the file was changed since, that is found out later.
        return await self.reconciler.history()

    def provided(self, seed: SeedContent) -> None:
        self.reconciler.loaded(seed)

    def lease_changed(self) -> None:
        self.saver.look_again()
        self.share_path()

    def share_path(self) -> None:
        """Write the file's path into the shared state, where browsers follow it. One server does,
        and only where it is another one."""
        joined = self.replicator.lineage is not None
        if joined and self.saver.may_save and self.document.path != self.file.path:
            self.document.path = self.file.path

    def transport_changed(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            super().transport_changed(state)
            self.saver.look_again()
        else:
            if self.replicator.phase is Phase.LIVE and not self.refused:
                self.reconciler.outage_begins()
            super().transport_changed(state)
            if state is TransportState.DEGRADED:
                self.saver.cut_off()
                self._tell_degraded("Redis is away", "is back")

    def cut_off(self) -> None:
        if self.replicator.phase is Phase.LIVE:
            self.reconciler.outage_begins()
        self.saver.cut_off()
        self._tell_degraded(f"Redis refuses this document ({self.refused})", "takes it again")

    def log_lost(self, offset: str) -> None:
        self.spawn(self.reconciler.log_lost(offset))

    async def before_put_back(self) -> None:
        await self.reconciler.restore_crossings()

    def taken_again(self) -> None:
        self.saver.look_again()

    def _tell_degraded(self, what: str, cured: str) -> None:
        if self._degraded:
            return
        self._degraded = cured
        saved = "they are" if self.saver.may_save else "the file is not"
        self._tell(
            "WARNING",
            f"{what}: edits stay on this server until it {cured}; {saved} saved from here "
            "meanwhile.",
        )

    def _recovered(self) -> None:
        if self._degraded:
            self._tell("INFO", f"Redis {self._degraded}: edits are shared again.")
            self._degraded = ""

    @property
    def claims_first(self) -> bool:
        return super().claims_first or self.reconciler.unnoted

    def lease_answered(
        self, offset_then: str, outcome: LeaseView | TransportError, asked_at: float
    ) -> None:
        super().lease_answered(offset_then, outcome, asked_at)
        if self.replicator.settled and self.shared:
            self.reconciler.outage_ended()
            self._recovered()
        self.saver.poke()

    def received(self, envelope: Envelope) -> None:
        if isinstance(envelope, SaveRequest) and envelope.replica != self.replica.id:
            self.save_requests.asked(envelope)
        elif isinstance(envelope, SaveReply):
            self.save_requests.answered(envelope)

    async def deleted(self) -> None:
        """The document was deleted: nothing of it is shared or saved any more."""
        self.saver.ended()
        self.replicator.writable = False
        self._tell("WARNING", "The file was deleted; what is written here is not saved.")
        try:
            if (log := self.replicator.log) is not None:
                await self.replica.transport.expire_room(self.scope, log, DELETED_KEEP_S)
        except LogChanged:
            pass  # it is another document's by now
        except TransportError as error:
            self.complain(f"The log of a deleted document is left behind: {error}")

    async def removed(self, keep: Callable[[Any], Awaitable[str]]) -> None:
        """This server has lost the document's share for good: nothing more of it is shared, or
        saved to its folder. What the file does not hold is kept.

        Args:
            keep: writes a content to where its user still may, and returns the path.
        """
        self.saver.ended()
        self.replicator.writable = False
        saved = kept = ""
        # Where it cannot be read, nothing is known to be saved.
        with contextlib.suppress(Exception):
            saved = (await self.reconciler.load())[0].digest
        content = read(self.document)
        if digest(content) != saved:
            try:
                kept = f"; what was not saved is in {await keep(content)}"
            except Exception as error:  # noqa: BLE001 (what the contents manager raises)
                kept = f"; what was not saved could not be kept: {error}"
        message = f"You are no longer a member of {self.scope.share}{kept}"
        self.log.warning("%s: %s", self.file.path, message)
        self._tell("ERROR", message)

    async def abandon(self, updates: tuple[bytes, ...]) -> None:
        content = read(document_of(self._file_type, *updates))
        saved, _ = await self.file.load()
        if content not in (read(document_of(self._file_type)), saved):
            await self._keep_copy(content)

    async def before_convert(self, lineage: str, updates: tuple[bytes, ...]) -> None:
        self._crossing, self._crossed = [], None
        base, ours = self.reconciler.base, self.replicator.lineage
        if ours is None or not self.replicator.writable:
            return
        content = read(self.document)
        if base is None:
            # Which edits are this document's own cannot be told, so all of it is kept.
            size = sum(map(len, updates))
            theirs = await off_loop(size, lambda: read(document_of(self._file_type, *updates)))
            if content != theirs:
                await self._keep_copy(content)
            self._crossed = content
            return
        document = SeedContent(ours, self.doc.get_update(), content, base)
        self._crossing = await self.reconciler.crossing(lineage, list(updates), document)
        self._crossed = content

    def convert(self, updates: tuple[bytes, ...]) -> None:
        ours = read(self.document)
        # What was typed since it was brought over, or kept, nobody else has.
        base = self._crossed
        # What may fail does so before anything is changed.
        theirs = read(document_of(self._file_type, *updates))
        now = read(document_of(self._file_type, *updates, *self._crossing))
        if base is not None and digest(ours) != digest(base):
            now = merge(self._file_type, base, ours, now)
        self._kept = ""
        self._applying = True
        try:
            # One transaction, so that clients see one change and never both contents at once.
            with self.doc.transaction():
                self._clear()
                for update in updates:
                    self._apply_one(update, None)
                for update in self._crossing:
                    self.take_in(update)
                apply_content(self.document, now)
        except DocumentBroken:
            raise
        except Exception as error:
            # It is neither the one nor the other document now.
            self.replicator.door.broken = True
            raise DocumentBroken(f"it could not become the others' document: {error!r}") from error
        finally:
            self._applying = False
        self.log.warning(
            "Room %s was opened while the transport was away; it has joined the others' document, "
            "and what was written here was merged into it",
            self.scope.room,
        )
        self.saver.converted(theirs)

    async def _keep_copy(self, content: Any) -> None:
        """Keep what is about to be replaced in the document or the log; once, if that is tried
        again.

        Raises:
            TransportError: if it cannot be kept; then nothing may be replaced.
        """
        fingerprint = await off_loop(self.content_bytes, digest, content)
        if fingerprint == self._kept:
            return
        try:
            copy = await self.file.keep_copy(content)
        except Exception as error:
            failed = (
                "What was written here cannot be kept in a copy, so it does not give way to the "
                f"others' document yet: {error or type(error).__name__}"
            )
            room = self.scope.room
            if self.replica.complain(f"saves {room}", f"Room {room}: {failed}"):
                self._tell("ERROR", failed)
            raise TransportError(failed) from error
        self._kept = fingerprint
        message = (
            f"What was written here while Redis was away could not be merged; it is in {copy}."
        )
        self.log.warning("%s: %s", self.file.path, message)
        self._tell("WARNING", message)

    def _clear(self) -> None:
        """Delete this document's own sequences: merged with the log's they would stand beside
        them. Maps need no such thing, there the later of two values counts."""
        for name in list(self.doc.keys()):
            root = self.doc[name]
            if isinstance(root, Array | Text):
                root.clear()
            elif isinstance(root, XmlFragment):
                del root.children[:]

    def _autosaves(self) -> bool:
        states = [state for state in self._awareness.states.values() if state]
        return not states or any(state.get("autosave", True) for state in states)

    def _on_state(self) -> None:
        # Within the observer nothing can be read.
        if not self._state_changed:
            self._state_changed = True
            asyncio.get_running_loop().call_soon(self._look_at_mark)

    def _look_at_mark(self) -> None:
        self._state_changed = False
        if not self._closed and not self.broken and self.document.dirty:
            # The mark goes with the next save, even if that has nothing to write.
            self.saver.marked()
