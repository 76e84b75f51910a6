"""What the parts of one room's link share."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import DocumentBroken
from ..core.log_effects import Effect
from ..core.replicator import Replicator
from ..core.values import Scope
from .background import Background
from .changes import Changes
from .cluster import Replica
from .complaints import RoomComplaints
from .file_side import ContentSide, SaverSide, Unsaved
from .refusals import Refusals
from .room_channel import RoomChannel


class Room:
    """One room on this replica.

    Attributes:
        replica: this replica.
        scope: which room it is.
        replicator: decides how the room follows its log.
        perform: carries out what the replicator decides.
        background: what the room does beside.
        changes: set when something changes that somebody waits for.
        complaints: what is wrong with the room.
        refusals: what the transport refuses of it.
        channel: messages to the other replicas of the room.
        content: where its content comes from.
        saver: who saves what it holds.
        closed: whether it is closed, or being closed.
        on_broken: called once when the document cannot be used any more and has to be opened anew.
    """

    def __init__(
        self,
        replica: Replica,
        scope: Scope,
        replicator: Replicator,
        *,
        cut_off: Callable[[], None],
        taken_again: Callable[[], None],
    ) -> None:
        """
        Args:
            replica: this replica.
            scope: which room it is.
            replicator: decides how the room follows its log.
            cut_off: the transport refuses the room from now on, as if it were away.
            taken_again: the transport does not refuse the room any more.
        """
        self.replica = replica
        self.scope = scope
        self.replicator = replicator
        self.perform: Callable[[list[Effect]], None] = lambda effects: None
        self.background = Background(self.went_wrong)
        self.changes = Changes()
        self.complaints = RoomComplaints(replica.complaints, scope.room)
        self.complain = self.complaints.complain
        self.refusals = Refusals(replica, self.complaints, cut_off=cut_off, taken_again=taken_again)
        self.channel = RoomChannel(replica, scope, self.background, self.complaints)
        self.content: ContentSide
        self.saver: SaverSide = Unsaved()
        self.closed = False
        self.on_broken: Callable[[], object] = lambda: None
        self._told_broken = False

    def close(self) -> None:
        """The room is being closed: nobody is told of refusals any more."""
        self.closed = self.refusals.silent = True

    @property
    def shared(self) -> bool:
        """Whether the transport can be reached and takes what is asked of it for this room."""
        return self.refusals.shared

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the log holds everything that was changed here; return whether it does.
        Without the transport there is nothing to wait for."""
        replicator = self.replicator
        await self.changes.until(
            lambda: replicator.settled or not replicator.writable or not self.shared, timeout_s
        )
        return replicator.settled or not replicator.writable

    @property
    def broken(self) -> bool:
        """Whether the CRDT library has panicked in the document, which nothing touches any more."""
        return self.replicator.door.broken

    def broke(self, error: DocumentBroken) -> None:
        """The CRDT library has panicked in the document: let whoever has made the room see that it
        is opened anew. What made it panic is not let in again."""
        if self._told_broken:
            return
        self._told_broken = True
        self.complaints.fault(
            "the document is closed on this server and read again from its log when a browser "
            f"connects, without what has caused this: {error}",
            error,
        )
        self.replicator.disconnected()
        self.changes.set()
        self.on_broken()

    def went_wrong(self, error: BaseException) -> None:
        """Something that was done for the room has failed, which nobody expected."""
        self.complaints.fault(
            f"something went wrong ({error!r}); the room reads its log again", error
        )
        # Whichever effect it was about is over; the next tick begins anew.
        self.perform(self.replicator.disconnected())
