"""A room's live `Doc`: what comes into it and goes out of it, and how large it is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from pycrdt import Doc, TransactionEvent

from ..core.authors import current_channel, nobodys_message
from ..core.completeness import Waiting
from ..core.crdt import EMPTY_UPDATE, NOTHING
from ..core.errors import DocumentBroken, ForeignBytes
from ..core.messages import sync_message
from ..core.update_walk import STEP2, UPDATE, read_update
from ..transports.base import loop_time
from .room import Room
from .threads import LARGE_BYTES, WALK_HERE_BYTES, off_loop

LEARN_BLOCKS = 2000
MEASURE_S = 10.0
GROWS_BYTES = 16 * 1024 * 1024
LARGE_UPDATE_BYTES = 16 * 1024 * 1024


class LiveDoc:
    """A room's document.

    Attributes:
        doc: the document. Changes made to it are shared.
        content_bytes: bytes of all updates that it has taken: it is no larger than that.
    """

    def __init__(self, room: Room, doc: Doc[Any]) -> None:
        self.doc = doc
        self.content_bytes = 0
        self._room = room
        self._replicator = room.replicator
        self._replicator.door.known.state = doc.get_state
        self._applying = False
        self._opened = False
        self._begun_bytes = 0
        self._begun: tuple[list[bytes], bytes] | None = None
        self._measured_at = -MEASURE_S
        self._lacking: Waiting[bytes] = Waiting()
        self._subscription = doc.observe(self._on_update)

    def opened(self) -> None:
        """The room is open: clients read the document and write in it from now on."""
        self._opened = True
        self._begun_bytes = self.content_bytes

    def close(self) -> None:
        """Let go of the document."""
        self.doc.unobserve(self._subscription)

    # -- what is changed here --------------------------------------------------------------

    def _on_update(self, event: TransactionEvent) -> None:
        # Of what comes from the log no bytes are made here: that takes as long as applying it.
        if self._applying or self._replicator.door.broken:
            return
        update = event.update
        if update != EMPTY_UPDATE:
            self.content_bytes += len(update)
            if current_channel.get() is None and len(update) <= WALK_HERE_BYTES:
                self._learn_own(update)
            self._room.perform(self._replicator.local_update(update))

    def _learn_own(self, update: bytes) -> None:
        """Note what the server itself has changed, on which clients' updates may build."""
        try:
            self._replicator.door.learn(read_update(update))
        except ForeignBytes as error:
            self._room.complain(
                f"This server has made a change that the others do not take: {error}"
            )

    async def learn_seed(self, update: bytes) -> None:
        """Note what the document begins with, on which clients' updates may build."""
        blocks = await off_loop(len(update), read_update, update)
        for first in range(0, len(blocks), LEARN_BLOCKS):
            try:
                self._replicator.door.learn(blocks[first : first + LEARN_BLOCKS])
            except ForeignBytes as error:
                self._room.complain(f"The file holds what other servers do not take: {error}")
                return
            await asyncio.sleep(0)

    # -- what comes from the log -----------------------------------------------------------

    def apply(self, updates: tuple[bytes, ...], offsets: tuple[str, ...] = ()) -> None:
        """Apply updates that were checked and are in the log already, where `offsets` says.

        Raises:
            DocumentBroken: if the CRDT library has panicked.
        """
        opening = not self._opened and sum(map(len, updates)) >= LARGE_BYTES
        empty = opening and self.doc.get_state() == NOTHING
        if opening:
            # For an observer, even one that does not look, pycrdt makes bytes of all of it.
            self.doc.unobserve(self._subscription)
        taken: list[bytes] = []
        self._applying = True
        try:
            with self.doc.transaction():
                for update, offset in zip_longest(updates, offsets):
                    if len(update) > LARGE_UPDATE_BYTES:
                        self._room.replica.log.warning(
                            "Room %s: applying an update of %.0f MB",
                            self._room.scope.room,
                            len(update) / 1e6,
                        )
                    if self.apply_one(update, offset):
                        taken.append(update)
        finally:
            self._applying = False
            if opening and not self._replicator.door.broken:
                self._subscription = self.doc.observe(self._on_update)
        self.content_bytes += sum(map(len, taken))
        if empty:
            self._begun = taken, self.doc.get_state()

    def apply_one(self, update: bytes, offset: str | None = None) -> bool:
        """Apply an update, which is in the log at `offset`; return whether the document took it.

        Raises:
            DocumentBroken: if the CRDT library has panicked.
        """
        try:
            self._replicator.door.apply(self.doc, update)
        except DocumentBroken:
            raise
        except ForeignBytes as error:
            if offset is None:
                self._pass_over(update, error)
            else:
                self._room.complaints.problem(self._replicator.intake.quarantine(offset, error))
            return False
        return True

    @contextlib.contextmanager
    def becoming(self) -> Iterator[None]:
        """In this context the document becomes the log's: one change for the clients, and none
        that is shared."""
        self._applying = True
        try:
            with self.doc.transaction():
                yield
        finally:
            self._applying = False

    # -- what comes from elsewhere ---------------------------------------------------------

    def take_in(self, update: bytes) -> bool:
        """Apply a foreign update that is in no log yet, as a change made here; return whether the
        document took it. If not, that is said. If it builds on what has not come from the log, it
        is applied when that has.

        Raises:
            DocumentBroken: if the CRDT library has panicked.
        """
        try:
            self._replicator.door.allow(update)
            part, lacks = self._replicator.door.sift(update)
        except DocumentBroken:
            raise
        except ForeignBytes as error:
            self._pass_over(update, error)
            return False
        if lacks is not None:
            name = hashlib.sha256(update).hexdigest()
            self._lacking.add(name, update, lacks, len(update))
        if part == EMPTY_UPDATE:
            return True
        try:
            return self.apply_one(part)
        except DocumentBroken as error:
            self._room.broke(error)
            raise

    def take_in_later(self) -> None:
        """Take in what has waited for what has come from the log."""
        if not self._lacking:
            return
        if not self._replicator.door.broken:
            self._replicator.door.known.look()
            for update in self._lacking.ready(self._replicator.door.known):
                with nobodys_message(), contextlib.suppress(DocumentBroken):
                    self.take_in(update)

    async def try_out(self, update: bytes) -> bool:
        """Try a foreign update that is in no log yet, if to merge it might take long; return
        whether it may be taken in. If not, that is said."""
        door = self._replicator.door
        try:
            if door.is_dear(await off_loop(len(update), read_update, update)):
                await self._room.replica.trials.let_in(door, self.doc, update)
        except ForeignBytes as error:
            self._pass_over(update, error)
            return False
        return True

    def _pass_over(self, update: bytes, error: ForeignBytes) -> None:
        self._room.complain(f"An update of {len(update)} bytes is passed over: {error}")

    # -- what clients ask ------------------------------------------------------------------

    def admits(self, size: int, most: int) -> bool:
        """Whether a client's update of `size` bytes leaves the document within `most` bytes. One
        that was larger when it was opened may be edited, and grow by `GROWS_BYTES`."""
        most = max(most, self._begun_bytes + GROWS_BYTES)
        if self.content_bytes + size > most and loop_time() - self._measured_at > MEASURE_S:
            # What has been deleted since counts there too. To measure takes long.
            self._measured_at = loop_time()
            self.content_bytes = len(self.doc.get_update())
        return self.content_bytes + size <= most

    def answer(self, state: bytes) -> list[bytes]:
        """Return the messages that bring a client with the state vector `state` what it lacks.

        To make one update of a large document takes pycrdt longest of all. The first client is
        sent those that the document began with, and what came after them.
        """
        begun, self._begun = self._begun, None
        if begun is None or state != NOTHING:
            return [sync_message(STEP2, self.doc.get_update(state))]
        updates, since = begun
        first = [sync_message(UPDATE, update) for update in updates]
        return [*first, sync_message(STEP2, self.doc.get_update(since))]
