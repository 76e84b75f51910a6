"""The link: what couples one room on one replica to the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from pycrdt import Awareness, Doc

from ..core.envelopes import (
    AwarenessEnvelope,
    AwarenessQuery,
    EntryEnvelope,
    Notice,
    decode_envelope,
    inflated_within,
)
from ..core.errors import CodecError, TransportError, TransportRefused
from ..core.log_effects import Phase
from ..core.replicator import Replicator
from ..core.values import LeaseView, Scope, offset_key
from ..transports.base import MISSED, TransportState, loop_time
from .awareness import AwarenessBridge, Sink
from .checkpoints import Checkpoints
from .cluster import LeaseQuestion, Replica
from .effects import Effects
from .file_side import Empty
from .later_formats import LaterFormats
from .lease_keeper import LeaseKeeper
from .live_doc import LiveDoc
from .peers import Peers
from .room import Room

INFLATE_HERE_BYTES = 256 * 1024


class RoomLink:
    """Couples a room's document and awareness to the transport.

    It puts the room's parts together, and hands on to them what comes from the transport and with
    each heartbeat.

    Attributes:
        room: what its parts share. Where the room has a file, its `content` and `saver` are set
            before it is opened.
        live: the room's document.
        replicator: decides how it follows the log.
        lease: what is known of the room's lease.
        peers: the other replicas of the room.
        checkpoints: writes its checkpoints.
        awareness: whose cursor is where, if the room has any.
    """

    def __init__(
        self,
        replica: Replica,
        scope: Scope,
        doc: Doc[Any],
        *,
        awareness: Awareness | None = None,
        broadcast: Callable[[bytes], None] | None = None,
        writable: bool = True,
    ) -> None:
        """
        Args:
            replica: this replica.
            scope: the room.
            doc: the room's document. Changes made to it from now on are shared.
            awareness: the room's awareness, if it has one.
            broadcast: sends a y-websocket message to the room's clients on this replica.
            writable: whether changes made here may be shared.
        """
        self.replica = replica
        self.scope = scope
        self.doc = doc
        self.log = replica.log
        written = LaterFormats(replica, scope.share).written
        self.replicator = Replicator(replica.new_sender(), writable, written)
        self.room = room = Room(
            replica,
            scope,
            self.replicator,
            cut_off=self._cut_off,
            taken_again=self._taken_again,
        )
        self.live = LiveDoc(room, doc)
        room.content = Empty(self.live.apply)
        self.lease_keeper = LeaseKeeper(room)
        self.lease = self.lease_keeper.lease
        self.checkpoints = Checkpoints(room, self.live)
        self.compactor = self.checkpoints.compactor
        self.peers = Peers(room, self.lease, self.checkpoints)
        self.effects = Effects(
            room,
            self.live,
            checkpoints=self.checkpoints,
            lease_keeper=self.lease_keeper,
            peers=self.peers,
        )
        room.perform = self.effects.perform
        self.complain = room.complain
        self.publish = room.channel.publish
        self.flush = room.flush
        self._opened = False
        self.awareness: AwarenessBridge | None = None
        if awareness is not None and broadcast is not None:
            self.awareness = AwarenessBridge(awareness, replica.id, [Sink(self.publish)], broadcast)
        replica.links[scope] = self

    # -- how the room is doing -------------------------------------------------------------

    @property
    def refused(self) -> str:
        """Why the transport refuses this room although it can be reached; empty, if it does
        not."""
        return self.room.refusals.reason

    @property
    def shared(self) -> bool:
        """Whether the transport can be reached and takes what is asked of it for this room.
        Otherwise the room has an outage, be it one of its own."""
        return self.room.refusals.shared

    @property
    def trouble(self) -> str:
        """Why the room is not shared now; empty, if it is."""
        if not self.replica.connected:
            return self.replica.transport.problem or "the transport cannot be reached"
        if self.refused:
            return self.refused
        away = self._opened and self.replicator.phase is Phase.AWAY
        return "its log cannot be followed" if away else ""

    @property
    def broken(self) -> bool:
        """Whether the CRDT library has panicked in the document, which nothing touches any more."""
        return self.room.broken

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background, for as long as the link lives."""
        return self.room.background.spawn(work)

    def _cut_off(self) -> None:
        self.lease_keeper.cut_off()
        self.room.saver.cut_off()
        self.room.changes.set()

    def _taken_again(self) -> None:
        self.lease_keeper.taken_again()
        self.room.saver.taken_again()

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Join the room: afterwards the document holds the log and the log what the room held.

        If the transport is away, or does not answer in time, the document holds its own content
        and is shared later.

        Raises:
            Exception: whatever loading the content raises.
        """
        replicator, room = self.replicator, self.room
        try:
            await self.replica.transport.subscribe(self.scope, self._on_message)
        except TransportError as error:
            # While the transport is away it says so itself, and subscribes when it is back.
            if self.replica.connected:
                self.complain(f"The others' edits come late, because messages do not: {error}")
        if self.replica.connected:
            room.perform(replicator.connected())
            if self.awareness is not None:
                self.awareness.announce()
            await room.changes.until(self._joined, self.replica.timing.join_timeout_s)
        if self.effects.load_error is not None:
            raise self.effects.load_error
        if replicator.lineage is None:
            seed = await room.content.load()
            if replicator.lineage is None:
                room.perform(replicator.disconnected())
                self.effects.provide(seed)
                self.log.warning(
                    "Room %s is open on this server alone; it is shared when the transport %s",
                    self.scope.room,
                    "takes it" if self.refused else "is back",
                )
        self._opened = True
        self.live.opened()
        if self.replica.connected:
            await self.tick()
        await room.saver.opened()

    def _joined(self) -> bool:
        replicator = self.replicator
        local = not replicator.writable and replicator.lineage is not None
        return (
            replicator.settled
            or replicator.phase is Phase.AWAY
            or local
            or self.effects.load_error is not None
        )

    async def aclose(self) -> None:
        """Share what is not shared yet, give the lease back, and let go of the room."""
        room = self.room
        if not room.closed:
            await room.saver.closing()
        if room.closed:
            return
        room.close()
        if self.awareness is not None:
            self.awareness.close()
        if self.replica.connected and self.replicator.log is not None:
            if not room.broken:
                await room.flush(self.replica.timing.stop_timeout_s / 2)
            await room.saver.leaving()
            # Where the room was opened again meanwhile, the lease is its new link's.
            if self.replica.links.get(self.scope) is self:
                await self.lease_keeper.give_back()
        if self.replica.links.get(self.scope) is self:
            del self.replica.links[self.scope]
            room.complaints.forget()
            await self.replica.transport.unsubscribe(self.scope)
        self.live.close()
        await room.channel.drain()
        await room.background.aclose()

    # -- events ----------------------------------------------------------------------------

    def _on_message(self, message: bytes) -> None:
        if message is MISSED:
            return  # the next heartbeat shows what the log has more
        try:
            envelope = decode_envelope(message)
        except CodecError as error:
            self._pass_over(error)
            return
        if isinstance(envelope, EntryEnvelope):
            size = None if envelope.payload is None else len(envelope.payload)
            if envelope.payload is not None:
                # What inflates to more is read from the log, in a thread.
                small = inflated_within([envelope.payload], INFLATE_HERE_BYTES)
                if small is None or small[0] is not envelope.payload:
                    envelope = replace(envelope, payload=small[0] if small else None)
            self.compactor.appended(envelope.offset, size)
            self.room.perform(self.replicator.entry(envelope))
            self.live.take_in_later()
            return
        self.peers.heard(envelope)
        if isinstance(envelope, AwarenessEnvelope | AwarenessQuery):
            if self.awareness is not None:
                try:
                    self.awareness.received(envelope)
                except CodecError as error:
                    self._pass_over(error)
        elif not isinstance(envelope, Notice):
            self.room.saver.received(envelope)
        elif envelope.replica == self.replica.id:
            pass
        elif envelope.name == "released":
            self.lease.released()
            self.room.background.spawn_once("tick", self.tick)
        else:
            self.peers.noticed(envelope.name, envelope.replica)
            self.room.saver.received(envelope)

    def _pass_over(self, error: CodecError) -> None:
        self.replica.complain(
            f"envelopes {self.scope.room}",
            f"Room {self.scope.room}: messages on its channel that cannot be read are passed over "
            f"(edits come by the log all the same): {error}",
        )

    def transport_changed(self, state: TransportState) -> None:
        self.room.saver.transport_changed(state)
        if state is TransportState.CONNECTED:
            self.lease_keeper.hold_off()
            self.room.perform(self.replicator.connected())
            if self.awareness is not None:
                self.awareness.announce()
            self.spawn(self.tick())
        else:
            self.effects.disconnected()

    def replica_left(self, replica: str) -> None:
        self.peers.left(replica)
        if self.awareness is not None:
            self.awareness.replica_left(replica)

    async def tick(self) -> None:
        """Renew or try for the lease, and see on the way whether the log has gone on."""
        question, asked_at = self.lease_question(), loop_time()
        if question is not None:
            outcome = await self.lease_keeper.ask(question.wish)
            question.answered(outcome, asked_at)

    def lease_question(self) -> LeaseQuestion | None:
        """What to ask with the next heartbeat; nothing for a room that is being closed, or it
        would take the lease again that is being given back."""
        if self.room.closed:
            return None
        answered = partial(self._lease_answered, self.replicator.offset)
        return LeaseQuestion(self.lease_keeper.wish(), answered)

    def _lease_answered(
        self, offset_then: str, outcome: LeaseView | TransportError, asked_at: float
    ) -> None:
        """Take the answer to a question that was asked when the room's offset was
        `offset_then`."""
        if isinstance(outcome, TransportError):
            self._lease_failed(outcome)
        else:
            self.lease_keeper.observed(outcome, asked_at)
            if not self.room.closed:
                self._look_around(offset_then, outcome)
        self.room.saver.lease_answered()

    def _lease_failed(self, error: TransportError) -> None:
        if isinstance(error, TransportRefused):
            self.room.refusals.refuse("lease", str(error))
        elif self.replica.connected:
            self.complain(f"The room cannot be followed: {error}")
        if self.replica.connected and self.replicator.phase is Phase.AWAY:
            self.room.perform(self.replicator.connected())

    def _look_around(self, offset_then: str, view: LeaseView) -> None:
        """What there is to look after with each heartbeat."""
        replicator, room = self.replicator, self.room
        self.lease_keeper.look_after(view)
        self.peers.look_after_waiting()
        self.live.take_in_later()
        self.lease_keeper.look_at_others(offset_then, view)
        if effects := replicator.observed(view.log, view.tail, offset_then):
            room.perform(effects)
        if replicator.intake.unread and not replicator.outdated:
            for problem in replicator.intake.pass_over_unread():
                room.complaints.problem(problem)
        if replicator.settled:
            self.effects.settled()
            room.refusals.take("log")
        if replicator.settled and not replicator.outdated and self.shared:
            self.peers.mended()
            room.complaints.settle()
        if self.lease.held(loop_time()):
            self.checkpoints.write_if_due()

    async def catch_up(self, timeout_s: float) -> None:
        """Wait until the document holds what the log holds now.

        Raises:
            TransportError: if the transport cannot say where the log ends.
        """
        offset_then = self.replicator.offset
        view = await self.lease_keeper.hold(want=self.lease_keeper.wanted)
        self.room.perform(self.replicator.observed(view.log, view.tail, offset_then))
        tail = offset_key(view.tail)

        def caught_up() -> bool:
            # Where the log has lost something, all of it is being read.
            reads = self.replicator.phase is Phase.JOINING
            return not reads and offset_key(self.replicator.offset) >= tail

        await self.room.changes.until(caught_up, timeout_s)
