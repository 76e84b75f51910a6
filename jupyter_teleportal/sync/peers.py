"""What the replicas of one room ask each other for: to put back what the log has lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.envelopes import Envelope, Notice
from ..core.errors import LogChanged, TransportError
from ..core.leases import Lease
from ..core.log_effects import Gapped
from ..transports.base import loop_time
from .checkpoints import Checkpoints
from .room import Room

MEND_S = 0.5
ANSWER_S = 0.5
PEERS_MAX = 1000


class Peers:
    """The other replicas of one room.

    Attributes:
        known: those that have been heard.
    """

    def __init__(self, room: Room, lease: Lease, checkpoints: Checkpoints) -> None:
        """
        Args:
            room: the room.
            lease: what is known of its lease: a checkpoint is its holder's to write.
            checkpoints: writes the room's checkpoints.
        """
        self.known: set[str] = set()
        self._room = room
        self._own = room.replica.id
        self._replicator = room.replicator
        self._lease = lease
        self._checkpoints = checkpoints
        self._gapped_since: float | None = None
        self._holder_answered = False
        self._lacking: set[str] = set()
        self._waited_since: dict[str, float] = {}
        self._put_back_asked = False
        self._held_said = -MEND_S
        self._putting_back: asyncio.Task[None] | None = None

    def heard(self, envelope: Envelope) -> None:
        """A message has come from another replica, or from this one."""
        if envelope.replica != self._own and len(self.known) < PEERS_MAX:
            self.known.add(envelope.replica)

    def left(self, replica: str) -> None:
        """Another replica is dead."""
        self.known.discard(replica)

    def noticed(self, name: str, replica: str) -> None:
        """Another replica says something about the room. A name that is not known here is a later
        version's."""
        if name == "incomplete" and self._replicator.lineage is not None:
            self._asked_to_put_back()
        elif name == "unseeded":
            self._room.background.spawn_once("holder", self._answer_holder)
        elif name == "lacking":
            self._lacking.add(replica)
            self._room.changes.set()
        elif name == "holding":
            self._holder_answered = True
            self._room.changes.set()

    def _say(self, name: str) -> None:
        self._room.channel.publish(Notice(self._own, name, {}))

    # -- what others ask for ---------------------------------------------------------------

    def _asked_to_put_back(self) -> None:
        """All who ask are served by one look at the log: one after the other
        they would keep this server and the transport busy for as long as somebody asks."""
        self._put_back_asked = True
        # Everybody hears the answer, and asks again before long.
        if loop_time() - self._held_said >= MEND_S / 2:
            self._held_said = loop_time()
            self._say("holding")
        if self._putting_back is None or self._putting_back.done():
            self._putting_back = self._room.background.spawn(self._put_back())

    async def _put_back(self) -> None:
        """Somebody cannot join, because the log lacks something: see that it holds all of it, and
        let a checkpoint stand for what came before."""
        while self._put_back_asked:
            self._put_back_asked = False
            self._room.perform(self._replicator.reconcile())
            flushed = await self._room.flush(self._room.replica.timing.join_timeout_s)
            if flushed and self._lease.holder in (None, self._own):
                await self._checkpoints.write_unless_it_stands()
            await asyncio.sleep(MEND_S)

    async def _answer_holder(self) -> None:
        """Another replica looks for this document: put its log back, if it is lost."""
        replicator = self._replicator
        if replicator.lineage is None or not replicator.writable or not self._room.shared:
            self._say("lacking")
            return
        self._say("holding")
        self._room.perform(replicator.reconcile())

    # -- what this replica asks for --------------------------------------------------------

    async def hold_document(self) -> bool:
        """Whether another replica holds this document, whose log was lost. It puts that back when
        it is asked, and has to come first: two histories of one document cannot be merged."""
        question = Notice(self._own, "unseeded", {})
        self._holder_answered = False
        self._lacking.clear()
        transport = self._room.replica.transport
        try:
            others = await transport.publish(self._room.scope, question.encode()) - 1
        except TransportError as error:
            self._room.complain(f"The other servers cannot be asked for the document: {error}")
            return False
        await self._room.changes.until(
            lambda: self._holder_answered or len(self._lacking) >= others, ANSWER_S
        )
        return self._holder_answered

    def ask_for_lost(self) -> None:
        """Ask the others to put back what the log has lost, and say so."""
        self._room.complain(
            "The log has lost entries; the other servers are asked to put them back"
        )
        self._say("incomplete")

    async def gather(self, enough: Callable[[], bool]) -> None:
        """Ask the others for what the log lacks, and wait for it until it is `enough` or they
        have had their time."""
        self._say("incomplete")
        await self._room.changes.until(enough, MEND_S)

    async def mend(self, gap: Gapped) -> None:
        """Ask the others to put back what the log lacks. Where nobody answers for as long as a
        replica may be silent, nobody lives who could."""
        now = loop_time()
        if self._gapped_since is None:
            self._gapped_since = now
        self._room.complain(
            "The log has lost entries; the other servers are asked to put them back"
        )
        silent = now - self._gapped_since > self._room.replica.timing.dead_after_s
        if silent and self._replicator.writable and not self._holder_answered:
            self._gapped_since = None
            await self._begin_anew(gap)
        else:
            self._holder_answered = False
            self._say("incomplete")
            await asyncio.sleep(MEND_S)
        self._room.perform(self._replicator.look_again())

    async def _begin_anew(self, gap: Gapped) -> None:
        self._room.complain("The log has lost entries that nobody has; it begins anew")
        transport = self._room.replica.transport
        try:
            await self._room.content.abandon(gap.updates)
            await transport.expire_room(self._room.scope, gap.log, 0, tail=gap.tail)
        except LogChanged:
            pass  # somebody else has begun it anew, or put something back
        except TransportError as error:
            self._room.complain(f"The log cannot be begun anew: {error}")

    def mended(self) -> None:
        """The log lacks nothing."""
        self._gapped_since = None

    def look_after_waiting(self) -> None:
        """What lacks something waits for as long as a replica may be silent; then nobody lives who
        has it."""
        held, now = self._replicator.held, loop_time()
        since = {offset: self._waited_since.get(offset, now) for offset in held}
        if set(since) - set(self._waited_since):
            self._say("incomplete")
        self._waited_since = since
        limit = now - self._room.replica.timing.dead_after_s
        if vain := [offset for offset, began in since.items() if began < limit]:
            self._room.perform(self._replicator.intake.give_up(vain))
