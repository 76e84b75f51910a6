"""What a document's saver is told of its room: when it is open, shared, and whose lease it has."""

from __future__ import annotations

import asyncio
import contextlib

from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.document_file import DocumentFile
from ..core.envelopes import Envelope, Notice, SaveReply, SaveRequest
from ..core.errors import LogChanged, TransportError
from ..core.log_effects import Phase
from ..sync.room_link import RoomLink
from ..transports.base import TransportState
from .save_requests import SaveRequests
from .saver import DELETED_KEEP_S, Saver
from .telling import NOTICE, Teller


class DocumentSaving:
    """The saver's side of one document's room.

    Attributes:
        requests: saves because somebody asks for it.
        task: saves the document when it is due, while the room is open.
    """

    def __init__(
        self,
        link: RoomLink,
        document: YBaseDoc,
        file: DocumentFile,
        saver: Saver,
        *,
        teller: Teller,
    ) -> None:
        """
        Args:
            link: the room's link.
            document: the room's document.
            file: the document's file.
            saver: the document's saver.
            teller: tells the users what happened to the file.
        """
        self.requests = SaveRequests(link, saver, teller)
        self.task: asyncio.Task[None] | None = None
        self._link = link
        self._document = document
        self._file = file
        self._saver = saver
        self._reconciler = saver.reconciler
        self._teller = teller
        self._degraded = ""
        self._state_changed = False

    # -- life ------------------------------------------------------------------------------

    async def opened(self) -> None:
        """The room is open."""
        try:
            await self._saver.opened()
        except TransportError as error:
            self._link.complain(f"The file is compared with the document later: {error}")
        self._reconciler.contents.forget()
        self.share_path()
        self.task = asyncio.create_task(self._saver.run())

    async def closing(self) -> None:
        """The room is about to be closed: save what is not saved yet."""
        link, timing = self._link, self._link.replica.timing
        if link.broken:
            if self.task is not None:
                self.task.cancel()
            return
        if link.replica.connected:
            # If the log was lost just now, this replica may be the only one that can put it back.
            looking = link.spawn(link.tick())
            await asyncio.wait({looking}, timeout=timing.stop_timeout_s / 5)
        if self.task is not None:
            try:
                # Not between writing the file and noting it.
                async with self._saver.between_saves():
                    self.task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await self.task
            finally:
                # Also where a save takes longer than there is time.
                self.task.cancel()
            await self._saver.close()
        if link.shared and link.lease.own_last and link.compactor.has_entries:
            await link.flush(timing.stop_timeout_s / 2)
            await link.checkpoints.write()

    async def leaving(self) -> None:
        """The room's lease is about to be given back. A deleted document's log is not kept for
        long; whoever still has it open puts it back."""
        if self._saver.file_deleted and self._link.shared:
            await self.let_log_expire()

    async def let_log_expire(self) -> None:
        """The document has ended: see that its log is not kept for long."""
        link = self._link
        try:
            if (log := link.replicator.log) is not None:
                await link.replica.transport.expire_room(link.scope, log, DELETED_KEEP_S)
        except LogChanged:
            pass  # it is another document's by now
        except TransportError as error:
            link.complain(f"The log of a deleted document is left behind: {error}")

    # -- the lease -------------------------------------------------------------------------

    @property
    def claims_first(self) -> bool:
        """Whether the file holds what this replica has written and nobody else knows of."""
        return self._reconciler.unnoted

    def lease_changed(self) -> None:
        """The lease is held by somebody else than before."""
        self._saver.look_again()
        self.share_path()

    def lease_answered(self) -> None:
        """The transport was asked for the lease, whatever it has answered."""
        if self._link.replicator.settled and self._link.shared:
            self._reconciler.outage_ended()
            self._recovered()
        self._saver.poke()

    def share_path(self) -> None:
        """Write the file's path into the shared state, where browsers follow it. One server does,
        and only where it is another one."""
        joined = self._link.replicator.lineage is not None
        if joined and self._saver.may_save and self._document.path != self._file.path:
            self._document.path = self._file.path

    # -- outages ---------------------------------------------------------------------------

    def transport_changed(self, state: TransportState) -> None:
        """The transport is about to be left, or followed again."""
        if state is TransportState.CONNECTED:
            self._saver.look_again()
            return
        if self._link.replicator.phase is Phase.LIVE and not self._link.refused:
            self._reconciler.outage_begins()
        if state is TransportState.DEGRADED:
            self._saver.cut_off()
            self._tell_degraded("Redis is away", "is back")

    def cut_off(self) -> None:
        """The transport refuses the room from now on, as if it were away."""
        if self._link.replicator.phase is Phase.LIVE:
            self._reconciler.outage_begins()
        self._saver.cut_off()
        refused = self._link.refused
        self._tell_degraded(f"Redis refuses this document ({refused})", "takes it again")

    def taken_again(self) -> None:
        """The transport does not refuse the room any more."""
        self._saver.look_again()

    def _tell_degraded(self, what: str, cured: str) -> None:
        if self._degraded:
            return
        self._degraded = cured
        saved = "they are" if self._saver.may_save else "the file is not"
        self._teller.show(
            "WARNING",
            f"{what}: edits stay on this server until it {cured}; {saved} saved from here "
            "meanwhile.",
        )

    def _recovered(self) -> None:
        if self._degraded:
            self._teller.show("INFO", f"Redis {self._degraded}: edits are shared again.")
            self._degraded = ""

    # -- what others say -------------------------------------------------------------------

    def received(self, envelope: Envelope) -> None:
        """Take a message of another replica about saving."""
        if isinstance(envelope, SaveRequest) and envelope.replica != self._link.replica.id:
            self.requests.asked(envelope)
        elif isinstance(envelope, SaveReply):
            self.requests.answered(envelope)
        elif isinstance(envelope, Notice) and envelope.name == NOTICE:
            self._teller.heard(envelope.replica, envelope.details)

    def state_changed(self) -> None:
        """The document's shared state has changed. Within its observer nothing can be read."""
        if not self._state_changed:
            self._state_changed = True
            asyncio.get_running_loop().call_soon(self._look_at_mark)

    def _look_at_mark(self) -> None:
        self._state_changed = False
        if not self._link.room.closed and not self._link.broken and self._document.dirty:
            # The mark goes with the next save, even if that has nothing to write.
            self._saver.marked()
