"""When a checkpoint of one room's log is written, and when its history has to go."""

from __future__ import annotations

from ..core.errors import LogFull, ShareFull, TransportError
from .compaction import Compactor
from .live_doc import LiveDoc
from .room import Room


class Checkpoints:
    """Writes one room's checkpoints.

    Attributes:
        compactor: keeps the log short.
    """

    def __init__(self, room: Room, live: LiveDoc) -> None:
        self.compactor = Compactor(room.replica.transport, room.scope, room.replica.timing)
        self._room = room
        self._replicator = room.replicator
        self._live = live

    def write_if_due(self) -> None:
        """The room's lease is held here: write a checkpoint, if enough has happened."""
        if self.compactor.due and self._replicator.settled:
            self.compactor.begun()
            # In the background: the lease and the heartbeat must not wait for it.
            self._room.background.spawn(self._write_between_edits())

    async def _write_between_edits(self) -> None:
        """Write a checkpoint at the first moment at which nothing is on its way to the log."""
        if await self._room.flush(self._room.replica.timing.join_timeout_s):
            await self.write()

    async def write_unless_it_stands(self) -> None:
        """Write a checkpoint, unless the one for the log as it is now was written here."""
        log, offset = self._replicator.log, self._replicator.offset
        if log is None or not self.compactor.stands(log, offset):
            await self.write()

    async def write(self) -> None:
        """Let one update stand for the whole log as it is now.

        Not while the document holds what the log does not: nobody who follows the log would read
        that in a checkpoint, and who joins later would have it, should this replica be gone.
        """
        replicator = self._replicator
        log, offset = replicator.log, replicator.offset
        if (
            self._room.broken
            or log is None
            or not replicator.settled
            or replicator.outdated
            or replicator.held
        ):
            return
        try:
            await self.compactor.compact(log, offset, self._live.doc.get_update())
        except TransportError as error:
            self._room.complain(f"No checkpoint was written: {error}")

    async def make_room(self, full: LogFull) -> bool:
        """The log is full, or all of the share's: forget its history; return whether that could
        be done."""
        log, offset = self._replicator.log, self._replicator.offset
        if log is None or self._replicator.outdated or self._room.broken:
            return False
        try:
            of_share = isinstance(full, ShareFull)
            return await self.compactor.make_room(log, offset, only_if_smaller=of_share)
        except TransportError as error:
            self._room.complain(f"Its log is full, and cannot be made shorter: {error}")
            return False
