"""The link: what couples one room on one replica to the transport."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any

from pycrdt import Awareness, Doc, TransactionEvent

from ..core import replicator as protocol
from ..core.authors import current_channel, nobodys_message
from ..core.completeness import Waiting
from ..core.content import SeedContent
from ..core.crdt import EMPTY_UPDATE, NOTHING, Door, merge
from ..core.envelopes import (
    AwarenessEnvelope,
    AwarenessQuery,
    EntryEnvelope,
    Envelope,
    Notice,
    decode_envelope,
    encode_payload,
    inflated_within,
)
from ..core.errors import (
    CodecError,
    DocumentBroken,
    ForeignBytes,
    LogChanged,
    LogFull,
    ShareFull,
    TransportError,
    TransportRefused,
)
from ..core.leases import Lease
from ..core.messages import sync_message
from ..core.replicator import Effect, Phase, Replicator, admitted
from ..core.schedule import RetryPace
from ..core.update_walk import STEP2, UPDATE, read_update
from ..core.values import Appended, LeaseView, LeaseWish, Scope, offset_key
from ..transports.base import MISSED, TransportState, loop_time
from .awareness import AwarenessBridge, Sink
from .cluster import LeaseQuestion, Replica
from .compaction import Compactor
from .log_reading import read_entries
from .threads import LARGE_BYTES, off_loop

WALK_ALONE_BYTES = 64 * 1024
"""From so many bytes on foreign updates are walked over in a thread."""
INFLATE_HERE_BYTES = 256 * 1024
LEARN_BLOCKS = 2000
LINGER_S = 0.05
MEND_S = 0.5
ANSWER_S = 0.5
MEASURE_S = 10.0
PEERS_MAX = 1000
SAID_WITHIN_BEATS = 3
"""Within so many heartbeats a server learns which formats the others of a share write."""
GROWS_BYTES = 16 * 1024 * 1024
LARGE_UPDATE_BYTES = 16 * 1024 * 1024


class RoomLink:
    """Couples a room's document and awareness to the transport.

    Subclasses say where the content comes from when nobody has seeded the room (`load_content`),
    what to do with a document of another lineage (`convert`), and what the lease is good for
    (`lease_changed`).

    Attributes:
        content_bytes: bytes of all updates that the document has taken: it is no larger than that.
        on_broken: called once when the document cannot be used any more and has to be opened anew.
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
        self.replicator = Replicator(replica.new_sender(), writable, self._written)
        self.replicator.door.known.state = doc.get_state
        timing = replica.timing
        self.lease = Lease(replica.id, timing.lease_ttl_s, timing.lease_margin_s)
        self.peers: set[str] = set()
        self._hold_off_until = 0.0
        self._publishing: set[asyncio.Task[None]] = set()
        self.compactor = Compactor(replica.transport, scope, timing)
        self.content_bytes = 0
        self._begun_bytes = 0
        self._measured_at = -MEASURE_S
        self._applying = False
        self._opened = False
        self._begun: tuple[list[bytes], bytes] | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._appending: set[asyncio.Future[Appended]] = set()
        self._changed = asyncio.Event()
        self._load_error: Exception | None = None
        self._gapped_since: float | None = None
        self._refusals: dict[str, str] = {}
        self._making_room = False
        self._retries = RetryPace()
        self._attempt_began: float | None = None
        self._vacant_since: float | None = None
        self._others_append = False
        self._tail_then: str | None = None
        self._holder_answered = False
        self._lacking: set[str] = set()
        self._told_broken = False
        self._format_spoken = 0
        self._unread_since: float | None = None
        self._waited_since: dict[str, float] = {}
        self._lacking_others: Waiting[bytes] = Waiting()
        self.on_broken: Callable[[], object] = lambda: None
        self._put_back_asked = False
        self._held_said = -MEND_S
        self._putting_back: asyncio.Task[None] | None = None
        self._asked: set[str] = set()
        self._being_done: set[str] = set()
        self._subscription = doc.observe(self._on_update)
        self.awareness: AwarenessBridge | None = None
        if awareness is not None and broadcast is not None:
            self.awareness = AwarenessBridge(awareness, replica.id, [Sink(self.publish)], broadcast)
        replica.links[scope] = self

    # -- for subclasses --------------------------------------------------------------------

    async def load_content(self) -> SeedContent:
        """Return what a new log begins with. A room without a file begins empty."""
        return SeedContent("empty", EMPTY_UPDATE, None, None)

    def provided(self, seed: SeedContent) -> None:
        """The document begins with this seed, unless another replica comes first."""

    async def before_convert(self, lineage: str, updates: tuple[bytes, ...]) -> None:
        """The document is about to be converted, unless the log turns out to be another one again:
        the log's lineage is `lineage`, its whole content `updates`.

        Raises:
            TransportError: if it has to wait until the transport answers.
        """

    def convert(self, updates: tuple[bytes, ...]) -> None:
        """Make the document the log's, whose whole content is `updates`."""
        self.apply(updates)

    def lease_changed(self) -> None:
        """The lease is held by somebody else than before."""

    def log_lost(self, offset: str) -> None:
        """The log has lost the entry at `offset`, and perhaps more before it."""

    async def before_put_back(self) -> None:
        """What the log has lost, or all of it, is about to be put back from here."""

    def cut_off(self) -> None:
        """The transport refuses the room from now on, as if it were away."""

    def taken_again(self) -> None:
        """The transport does not refuse the room any more."""

    def received(self, envelope: Envelope) -> None:
        """Take a message that is neither an entry nor about awareness."""

    @property
    def claims_first(self) -> bool:
        """Whether this replica may try for the lease at once after an outage."""
        return self.lease.own_last

    @property
    def wants_lease(self) -> bool:
        """Whoever held the lease before comes first: it may have written the file, and knows."""
        replicator = self.replicator
        if self.broken or not replicator.writable or replicator.outdated:
            return False
        if "log" in self._refusals:
            # Whoever cannot follow the document does not begin to save it for the others, and
            # leaves that to them, if they can follow it.
            return self.lease.own_last and not self._others_append
        if self.claims_first:
            return True
        # Where the lease is gone because the transport was emptied, its holder renews it first.
        return self.lease.holder is None and loop_time() >= self._hold_off_until

    # -- whether the transport takes the room ----------------------------------------------

    @property
    def refused(self) -> str:
        """Why the transport refuses this room although it can be reached; empty, if it does
        not."""
        return next(iter(self._refusals.values()), "")

    @property
    def shared(self) -> bool:
        """Whether the transport can be reached and takes what is asked of it for this room.
        Otherwise the room has an outage, be it one of its own."""
        return self.replica.connected and not self._refusals

    @property
    def trouble(self) -> str:
        """Why the room is not shared now; empty, if it is."""
        if not self.replica.connected:
            return self.replica.transport.problem or "the transport cannot be reached"
        if self.refused:
            return self.refused
        away = self._opened and self.replicator.phase is Phase.AWAY
        return "its log cannot be followed" if away else ""

    def _written(self, format: int, now: bool) -> bool:
        """Whether a server that is alive, or has been since this room was opened, says that it
        writes `format`. Until all can have learnt of it, it may be so, unless that has to be known
        `now`. One server after the other may say so; who waits for it waits once."""
        said = self.replica.formats.get(self.scope.share, 0)
        self._format_spoken = max(self._format_spoken, said)
        if self._format_spoken >= format or now:
            return self._format_spoken >= format
        if self._unread_since is None:
            self._unread_since = loop_time()
        waited_s = loop_time() - self._unread_since
        return waited_s < SAID_WITHIN_BEATS * self.replica.timing.heartbeat_interval_s

    def _refuse(self, what: str, reason: str) -> None:
        """The transport refuses the room: `what` is "lease" or "log"."""
        if not self._closed:
            self.complain(
                "The transport refuses it, so edits stay on this server; it is saved as in an "
                f"outage, and sharing is tried again: {reason}"
            )
        self._stand_alone(what, reason)

    def _stand_alone(self, what: str, reason: str) -> None:
        """The room has an outage of its own."""
        was_shared = self.shared
        self._refusals[what] = reason
        if was_shared and not self._closed:
            self._others_append, self._tail_then = False, None
            self.cut_off()
            self._changed.set()

    def _take(self, what: str) -> None:
        """The transport has taken what it had refused before."""
        if self._refusals.pop(what, None) is None or not self.shared or self._closed:
            return
        self._vacant_since = None
        self._hold_off()
        self.taken_again()

    def _hold_off(self) -> None:
        """Leave the lease to whoever may have saved meanwhile."""
        if self.replicator.lineage is not None and not self.claims_first:
            self._hold_off_until = loop_time() + self.replica.timing.lease_ttl_s

    def _look_for_holder(self, view: LeaseView) -> None:
        """While no lease can be had, whoever held it last is gone if it does not renew it."""
        if not self._refusals or view.holder is not None or self.lease.own_last:
            self._vacant_since = None
        elif self._vacant_since is None:
            self._vacant_since = loop_time()
        elif (
            self.lease.last_holder is not None
            and loop_time() - self._vacant_since > self.replica.timing.lease_ttl_s
        ):
            self.lease.last_holder = None
            self.lease_changed()

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Join the room: afterwards the document holds the log and the log what the room held.

        If the transport is away, or does not answer in time, the document holds its own content
        and is shared later.

        Raises:
            Exception: whatever `load_content` raises.
        """
        try:
            await self.replica.transport.subscribe(self.scope, self._on_message)
        except TransportError as error:
            # While the transport is away it says so itself, and subscribes when it is back.
            if self.replica.connected:
                self.complain(f"The others' edits come late, because messages do not: {error}")
        if self.replica.connected:
            self._perform(self.replicator.connected())
            if self.awareness is not None:
                self.awareness.announce()
            await self._wait(self._joined, self.replica.timing.join_timeout_s)
        if self._load_error is not None:
            raise self._load_error
        if self.replicator.lineage is None:
            seed = await self.load_content()
            if self.replicator.lineage is None:
                self._perform(self.replicator.disconnected())
                self._provide(seed)
                self.log.warning(
                    "Room %s is open on this server alone; it is shared when the transport %s",
                    self.scope.room,
                    "takes it" if self.refused else "is back",
                )
        self._opened = True
        self._begun_bytes = self.content_bytes
        if self.replica.connected:
            await self.tick()

    def _joined(self) -> bool:
        replicator = self.replicator
        local = not replicator.writable and replicator.lineage is not None
        return (
            replicator.settled
            or replicator.phase is Phase.AWAY
            or local
            or self._load_error is not None
        )

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the log holds everything that was changed here; return whether it does.
        Without the transport there is nothing to wait for."""
        replicator = self.replicator
        await self._wait(
            lambda: replicator.settled or not replicator.writable or not self.shared,
            timeout_s,
        )
        return replicator.settled or not replicator.writable

    async def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = loop_time() + timeout_s
        while not condition():
            left = deadline - loop_time()
            if left <= 0:
                return False
            self._changed.clear()
            # Before Python 3.12 `wait_for` swallows a cancellation that meets the event.
            change = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({change}, timeout=left)
            finally:
                change.cancel()
        return True

    async def aclose(self) -> None:
        """Share what is not shared yet, give the lease back, and let go of the room."""
        if self._closed:
            return
        self._closed = True
        if self.awareness is not None:
            self.awareness.close()
        if self.replica.connected and self.replicator.log is not None:
            if not self.broken:
                await self.flush(self.replica.timing.stop_timeout_s / 2)
            await self._release()
        if self.replica.links.get(self.scope) is self:
            del self.replica.links[self.scope]
            self.replica.complaints.forget_room(self.scope.room or "")
            await self.replica.transport.unsubscribe(self.scope)
        self.doc.unobserve(self._subscription)
        if self._publishing:
            await asyncio.wait(list(self._publishing), timeout=1)
        under_way: list[asyncio.Future[Any]] = [*self._tasks, *self._appending]
        for work in under_way:
            work.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _release(self) -> None:
        # Where the room was opened again meanwhile, the lease is its new link's.
        if not self.lease.own_last or self.replica.links.get(self.scope) is not self:
            return
        try:
            await self._hold_lease(want=False)
            self.publish(Notice(self.replica.id, "released", {}))
        except TransportError as error:
            self.complain(f"Another server saves it only when the lease has expired: {error}")

    # -- events ----------------------------------------------------------------------------

    def _on_update(self, event: TransactionEvent) -> None:
        # Of what comes from the log no bytes are made here: that takes as long as applying it.
        if self._applying or self.replicator.door.broken:
            return
        update = event.update
        if update != EMPTY_UPDATE:
            self.content_bytes += len(update)
            if current_channel.get() is None and len(update) < WALK_ALONE_BYTES:
                self._learn_own(update)
            self._perform(self.replicator.local_update(update))

    def _learn_own(self, update: bytes) -> None:
        """Note what the server itself has changed, on which clients' updates may build."""
        try:
            self.replicator.door.learn(read_update(update))
        except ForeignBytes as error:
            self.complain(f"This server has made a change that the others do not take: {error}")

    async def _learn_seed(self, update: bytes) -> None:
        blocks = await off_loop(len(update), read_update, update)
        for first in range(0, len(blocks), LEARN_BLOCKS):
            try:
                self.replicator.door.learn(blocks[first : first + LEARN_BLOCKS])
            except ForeignBytes as error:
                self.complain(f"The file holds what other servers do not take: {error}")
                return
            await asyncio.sleep(0)

    def _on_message(self, message: bytes) -> None:
        if message is MISSED:
            return  # the next heartbeat shows what the log has more
        try:
            envelope = decode_envelope(message)
        except CodecError as error:
            self._pass_over(error)
            return
        if (
            envelope.replica != self.replica.id
            and not isinstance(envelope, EntryEnvelope)
            and len(self.peers) < PEERS_MAX
        ):
            self.peers.add(envelope.replica)
        if isinstance(envelope, EntryEnvelope):
            size = None if envelope.payload is None else len(envelope.payload)
            if envelope.payload is not None:
                # What inflates to more is read from the log, in a thread.
                small = inflated_within([envelope.payload], INFLATE_HERE_BYTES)
                if small is None or small[0] is not envelope.payload:
                    envelope = replace(envelope, payload=small[0] if small else None)
            self.compactor.appended(envelope.offset, size)
            self._perform(self.replicator.entry(envelope))
            self._take_in_later()
        elif isinstance(envelope, AwarenessEnvelope | AwarenessQuery):
            if self.awareness is not None:
                try:
                    self.awareness.received(envelope)
                except CodecError as error:
                    self._pass_over(error)
        elif isinstance(envelope, Notice):
            if envelope.replica != self.replica.id:
                self._noticed(envelope.name, envelope.replica)
        else:
            self.received(envelope)

    def _noticed(self, name: str, replica: str) -> None:
        """Another replica says something about the room. A name that is not known here is a later
        version's."""
        if name == "incomplete" and self.replicator.lineage is not None:
            self._asked_to_put_back()
        elif name == "unseeded":
            self._spawn_once("holder", self._answer_holder)
        elif name == "lacking":
            self._lacking.add(replica)
            self._changed.set()
        elif name == "holding":
            self._holder_answered = True
            self._changed.set()
        elif name == "released":
            self.lease.released()
            self._spawn_once("tick", self.tick)

    def _asked_to_put_back(self) -> None:
        """All who ask are served by one look at the log: one after the other
        they would keep this server and the transport busy for as long as somebody asks."""
        self._put_back_asked = True
        # Everybody hears the answer, and asks again before long.
        if loop_time() - self._held_said >= MEND_S / 2:
            self._held_said = loop_time()
            self.publish(Notice(self.replica.id, "holding", {}))
        if self._putting_back is None or self._putting_back.done():
            self._putting_back = self.spawn(self._put_back())

    async def _put_back(self) -> None:
        """Somebody cannot join, because the log lacks something: see that it holds all of it, and
        let a checkpoint stand for what came before."""
        while self._put_back_asked:
            self._put_back_asked = False
            self._perform(self.replicator.reconcile())
            if await self.flush(self.replica.timing.join_timeout_s) and self.lease.holder in (
                None,
                self.replica.id,
            ):
                log, offset = self.replicator.log, self.replicator.offset
                if log is None or not self.compactor.stands(log, offset):
                    await self.checkpoint()
            await asyncio.sleep(MEND_S)

    async def gather(self, enough: Callable[[], bool]) -> None:
        """Ask the others for what the log lacks, and wait for it until it is `enough` or they
        have had their time."""
        self.publish(Notice(self.replica.id, "incomplete", {}))
        await self._wait(enough, MEND_S)

    def _pass_over(self, error: CodecError) -> None:
        self.replica.complain(
            f"envelopes {self.scope.room}",
            f"Room {self.scope.room}: messages on its channel that cannot be read are passed over "
            f"(edits come by the log all the same): {error}",
        )

    def transport_changed(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            self._hold_off()
            self._perform(self.replicator.connected())
            if self.awareness is not None:
                self.awareness.announce()
            self.spawn(self.tick())
        else:
            # What was read again and again has nothing to do with what is read after an outage.
            self._retries = RetryPace()
            self._perform(self.replicator.disconnected())

    def replica_left(self, replica: str) -> None:
        self.peers.discard(replica)
        if self.awareness is not None:
            self.awareness.replica_left(replica)

    async def tick(self) -> None:
        """Renew or try for the lease, and see on the way whether the log has gone on."""
        question, asked_at = self.lease_question(), loop_time()
        if question is None:
            return
        try:
            outcome: LeaseView | TransportError = await self.replica.transport.hold_lease(
                self.scope,
                self.replica.id,
                want=question.wish.want,
                ttl_s=self.replica.timing.lease_ttl_s,
                keep_s=self.replica.timing.history_keep_s,
            )
        except TransportError as error:
            outcome = error
        question.answered(outcome, asked_at)

    def lease_question(self) -> LeaseQuestion | None:
        """What to ask with the next heartbeat; nothing for a room that is being closed, or it
        would take the lease again that is being given back."""
        if self._closed:
            return None
        wish = LeaseWish(self.scope, self.wants_lease)
        return LeaseQuestion(wish, partial(self.lease_answered, self.replicator.offset))

    def lease_answered(
        self, offset_then: str, outcome: LeaseView | TransportError, asked_at: float
    ) -> None:
        """Take the answer to a question that was asked when the room's offset was
        `offset_then`."""
        if isinstance(outcome, TransportError):
            if isinstance(outcome, TransportRefused):
                self._refuse("lease", str(outcome))
            elif self.replica.connected:
                self.complain(f"The room cannot be followed: {outcome}")
            if self.replica.connected and self.replicator.phase is Phase.AWAY:
                self._perform(self.replicator.connected())
            return
        self._observed(outcome, asked_at)
        if self._closed:
            return
        self._look_after_lease()
        self._look_for_holder(outcome)
        self._look_after_waiting()
        self._take_in_later()
        if "log" in self._refusals:
            # What others append is read here now and then, so that both may be the same.
            known = min(offset_then, self._tail_then or offset_then, key=offset_key)
            self._others_append |= offset_key(outcome.tail) > offset_key(known)
            self._tail_then = self._tail_then or outcome.tail
        if effects := self.replicator.observed(outcome.log, outcome.tail, offset_then):
            self._perform(effects)
        if self.replicator.unread and not self.replicator.outdated:
            for problem in self.replicator.pass_over_unread():
                self._tell_problem(problem)
        if self.replicator.settled:
            self._attempt_began = None
            self._take("log")
        if self.replicator.settled and not self.replicator.outdated and self.shared:
            self._gapped_since = None
            self.replica.settle(f"rooms {self.scope.room}")
        if self.lease.held(loop_time()) and self.compactor.due and self.replicator.settled:
            self.compactor.begun()
            # In the background: the lease and the heartbeat must not wait for it.
            self.spawn(self._checkpoint_between_edits())

    def _look_after_waiting(self) -> None:
        """What lacks something waits for as long as a replica may be silent; then nobody lives who
        has it."""
        held, now = self.replicator.held, loop_time()
        since = {offset: self._waited_since.get(offset, now) for offset in held}
        if set(since) - set(self._waited_since):
            self.publish(Notice(self.replica.id, "incomplete", {}))
        self._waited_since = since
        limit = now - self.replica.timing.dead_after_s
        if vain := [offset for offset, began in since.items() if began < limit]:
            self._perform(self.replicator.give_up(vain))

    def _look_after_lease(self) -> None:
        """A lease is held by who is alive. Whoever only says so is let go; should that one be
        alive after all, it has time to take the lease back first."""
        members = self.replica.membership
        # Whoever is not seen itself does not see who else is there.
        if members.own in members.ages_s and self.lease.abandoned(members.alive, loop_time()):
            holder = str(self.lease.holder)
            self.replica.complain(
                f"forged_leases {self.scope.room}",
                f"Room {self.scope.room}: {holder[:40]!r} is said to save the file, and no such "
                "server is there; another one saves it",
            )
            self._hold_off_until = loop_time() + self.replica.timing.lease_ttl_s
            self.spawn(self._let_go(holder))

    async def _let_go(self, holder: str) -> None:
        timing = self.replica.timing
        try:
            await self.replica.transport.hold_lease(
                self.scope,
                holder,
                want=False,
                ttl_s=timing.lease_ttl_s,
                keep_s=timing.history_keep_s,
            )
        except TransportError as error:
            self.complain(f"The file is not saved from here: {error}")

    async def catch_up(self, timeout_s: float) -> None:
        """Wait until the document holds what the log holds now.

        Raises:
            TransportError: if the transport cannot say where the log ends.
        """
        offset_then = self.replicator.offset
        view = await self._hold_lease(want=self.wants_lease)
        self._perform(self.replicator.observed(view.log, view.tail, offset_then))
        tail = offset_key(view.tail)

        def caught_up() -> bool:
            # Where the log has lost something, all of it is being read.
            reads = self.replicator.phase is Phase.JOINING
            return not reads and offset_key(self.replicator.offset) >= tail

        await self._wait(caught_up, timeout_s)

    async def _hold_lease(self, *, want: bool) -> Any:
        asked_at = loop_time()
        try:
            view = await self.replica.transport.hold_lease(
                self.scope,
                self.replica.id,
                want=want,
                ttl_s=self.replica.timing.lease_ttl_s,
                keep_s=self.replica.timing.history_keep_s,
            )
        except TransportRefused as error:
            self._refuse("lease", str(error))
            raise
        self._observed(view, asked_at)
        return view

    def _observed(self, view: LeaseView, asked_at: float) -> None:
        if view.refused:
            self._refuse("lease", view.refused)
        else:
            self._take("lease")
        if self.lease.observed(view, asked_at) and not self._closed:
            self.lease_changed()

    async def _checkpoint_between_edits(self) -> None:
        """Write a checkpoint at the first moment at which nothing is on its way to the log."""
        if await self.flush(self.replica.timing.join_timeout_s):
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Let one update stand for the whole log as it is now.

        Not while the document holds what the log does not: nobody who follows the log would read
        that in a checkpoint, and who joins later would have it, should this replica be gone.
        """
        replicator = self.replicator
        log, offset = replicator.log, replicator.offset
        if (
            self.broken
            or log is None
            or not replicator.settled
            or replicator.outdated
            or replicator.held
        ):
            return
        try:
            await self.compactor.compact(log, offset, self.doc.get_update())
        except TransportError as error:
            self.complain(f"No checkpoint was written: {error}")

    # -- effects ---------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        if self.replicator.door.broken:
            return
        try:
            self._carry_out(effects)
        except DocumentBroken as error:
            self.broke(error)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case protocol.Apply() | protocol.Convert():
                    if not self._take_from_log(effect):
                        break
                case protocol.Read():
                    self.spawn(self._read(effect))
                case protocol.Append(log, updates):
                    self._append(effect, log, merge(updates))
                case protocol.AppendState(log, since):
                    self._append_state(effect, log, self.doc.get_update(since))
                case protocol.Seed(_, update):
                    self.spawn(self._seed(effect, update or self.doc.get_update()))
                case protocol.LoadContent():
                    self.spawn(self._load())
                case protocol.Gapped():
                    self.spawn(self._mend(effect))
                case protocol.Linger():
                    self.spawn(self._linger())
                case protocol.Problem() | protocol.Quarantined():
                    self._tell_problem(effect)
        self._changed.set()

    def _take_from_log(self, effect: protocol.Apply | protocol.Convert) -> bool:
        """Bring into the document what the log says; return whether that was done. If not, the
        document does not follow the log until it is."""
        try:
            with nobodys_message():
                if isinstance(effect, protocol.Apply):
                    self.apply(effect.updates, effect.offsets)
                else:
                    self.convert(effect.updates)
        except DocumentBroken:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is about this room alone)
            self.replicator.failed(effect)
            self._cannot_follow(error)
            return False
        return True

    def _cannot_follow(self, error: Exception) -> None:
        """What the log says does not come into the document. The next tick tries again; until then
        it is as if the transport refused the room."""
        reason = f"what others have written cannot be taken over: {error!r}"
        self.replica.complain(
            f"errors {self.scope.room}",
            f"Room {self.scope.room}: edits stay on this server, which is tried again: {reason}",
            error,
        )
        self._stand_alone("log", reason)

    def _tell_problem(self, problem: protocol.Problem | protocol.Quarantined) -> None:
        if isinstance(problem, protocol.Problem):
            self.complain(problem.message)
        else:
            subject = f"quarantined {self.scope.room}"
            self.replica.complain(subject, f"Room {self.scope.room}: {problem.message}")

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
        self.replica.complain(
            f"errors {self.scope.room}",
            f"Room {self.scope.room}: the document is closed on this server and read again from "
            f"its log when a browser connects, without what has caused this: {error}",
            error,
        )
        self.replicator.disconnected()
        self._changed.set()
        self.on_broken()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background, for as long as the link lives."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _spawn_once(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what others ask for: once for all who ask while it is being done."""
        self._asked.add(what)
        if what in self._being_done:
            return

        async def do() -> None:
            try:
                while what in self._asked:
                    self._asked.discard(what)
                    await work()
            finally:
                self._being_done.discard(what)

        self._being_done.add(what)
        self.spawn(do())

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._went_wrong(error)

    def _went_wrong(self, error: BaseException) -> None:
        self.replica.complain(
            f"errors {self.scope.room}",
            f"Room {self.scope.room}: something went wrong ({error!r}); the room reads its log "
            "again",
            error,
        )
        # Whichever effect it was about is over; the next tick begins anew.
        self._perform(self.replicator.disconnected())

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
                        self.log.warning(
                            "Room %s: applying an update of %.0f MB",
                            self.scope.room,
                            len(update) / 1e6,
                        )
                    if self._apply_one(update, offset):
                        taken.append(update)
        finally:
            self._applying = False
            if opening and not self.broken:
                self._subscription = self.doc.observe(self._on_update)
        self.content_bytes += sum(map(len, taken))
        if empty:
            self._begun = taken, self.doc.get_state()

    def _apply_one(self, update: bytes, offset: str | None) -> bool:
        """Apply an update; return whether the document took it."""
        try:
            self.replicator.door.apply(self.doc, update)
        except DocumentBroken:
            raise
        except ForeignBytes as error:
            if offset is None:
                self.complain(f"An update of {len(update)} bytes is passed over: {error}")
            else:
                self._tell_problem(self.replicator.quarantine(offset, error))
            return False
        return True

    def take_in(self, update: bytes) -> bool:
        """Apply a foreign update that is in no log yet, as a change made here; return whether the
        document took it. If not, that is said. If it builds on what has not come from the log, it
        is applied when that has.

        Raises:
            DocumentBroken: if the CRDT library has panicked.
        """
        try:
            self.replicator.door.allow(update)
            part, lacks = self.replicator.door.sift(update)
        except DocumentBroken:
            raise
        except ForeignBytes as error:
            self.complain(f"An update of {len(update)} bytes is passed over: {error}")
            return False
        if lacks is not None:
            name = hashlib.sha256(update).hexdigest()
            self._lacking_others.add(name, update, lacks, len(update))
        if part == EMPTY_UPDATE:
            return True
        try:
            return self._apply_one(part, None)
        except DocumentBroken as error:
            self.broke(error)
            raise

    async def try_out(self, update: bytes) -> bool:
        """Try a foreign update that is in no log yet, if to merge it might take long; return
        whether it may be taken in. If not, that is said."""
        door = self.replicator.door
        try:
            if door.is_dear(await off_loop(len(update), read_update, update)):
                await self.replica.trials.let_in(door, self.doc, update)
        except ForeignBytes as error:
            self.complain(f"An update of {len(update)} bytes is passed over: {error}")
            return False
        return True

    def _take_in_later(self) -> None:
        """Take in what has waited for what has come from the log."""
        if not self._lacking_others:
            return
        if not self.broken:
            self.replicator.door.known.look()
            for update in self._lacking_others.ready(self.replicator.door.known):
                with nobodys_message(), contextlib.suppress(DocumentBroken):
                    self.take_in(update)

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

    async def _read(self, effect: protocol.Read) -> None:
        # To read all of a log takes time. Somebody may make it necessary all the time, by writing
        # into the log's id or announcing offsets that it does not have, and a log that is full
        # makes it so whenever it is tried again.
        if pause_s := self._retries.pause(loop_time()):
            await asyncio.sleep(pause_s)
            if not self.replicator.waits_for(effect):
                return
        began = self._attempt_began = loop_time()
        try:
            read = await self.replica.transport.read_log(self.scope, effect.log, effect.after)
        except TransportError as error:
            self._failed(effect, error)
            return
        if self.replicator.lost_by(read) is not None:
            await self.before_put_back()
        if self._closed:
            return
        fresh = self.replicator.lineage is None and not read.contiguous
        entries, door = await read_entries(
            read, self.doc, self.replicator.door, self.replica.trials, fresh=fresh
        )
        if self._closed or (fresh and self.replicator.lineage is not None):
            return
        tail = read.tail
        if read.contiguous:
            # Others wait for what this room takes in at once; the rest is read again.
            read = replace(read, entries=read.entries[: len(entries)])
        self.compactor.read(read)
        if self.replicator.converts(read):
            known = admitted(entries, Door())
            try:
                await self.before_convert(
                    protocol.lineage_of(read.log or ""),
                    tuple(one.update for one in known if one.error is None and one.lacks is None),
                )
            except TransportError as error:
                self._failed(effect, error)
                return
            except DocumentBroken:
                raise
            except Exception as error:  # noqa: BLE001 (whatever it is, nothing was changed)
                self._perform(self.replicator.failed(effect))
                self._cannot_follow(error)
                return
            if self._closed:
                return
        misses, lost = self.replicator.misses(read), self.replicator.lost_by(read)
        if lost is not None:
            self.log_lost(lost)
        effects = self.replicator.read_done(effect, read, entries, door)
        self._perform(effects)
        if effect.log is None or not read.contiguous or "log" in self._refusals:
            # What it takes here is the longer part of it.
            self._retries.took(began, loop_time())
        if read.tail != tail:
            await asyncio.sleep(0)
            self._perform(self.replicator.observed(read.log, tail, read.tail))
        misses = misses or (not read.contiguous and bool(self.replicator.held))
        if misses and not self._closed:
            self.complain("The log has lost entries; the other servers are asked to put them back")
            self.publish(Notice(self.replica.id, "incomplete", {}))

    def _append_state(self, effect: protocol.AppendState, log: str, update: bytes) -> None:
        if update == EMPTY_UPDATE:
            skip = self.replicator.nothing_to_append
            asyncio.get_running_loop().call_soon(lambda: self._perform(skip(effect)))
        else:
            self._append(effect, log, update)

    def _append(
        self, effect: protocol.Append | protocol.AppendState, log: str, update: bytes
    ) -> None:
        sender, transport = self.replicator.sender, self.replica.transport
        size = 0

        async def append_large() -> Appended:
            nonlocal size
            payload = await asyncio.to_thread(encode_payload, update)
            size = len(payload)
            return await transport.append_log(self.scope, log, sender, payload)

        def done(appending: asyncio.Future[Appended]) -> None:
            self._appended(effect, size, appending)

        if len(update) < LARGE_BYTES:
            # Sent here and now; only the answer is waited for.
            payload = encode_payload(update)
            size = len(payload)
            appended = transport.append_log(self.scope, log, sender, payload)
        else:
            appended = append_large()
        appending = asyncio.ensure_future(appended)
        self._appending.add(appending)
        appending.add_done_callback(done)

    def _appended(
        self,
        effect: protocol.Append | protocol.AppendState,
        size: int,
        appending: asyncio.Future[Appended],
    ) -> None:
        self._appending.discard(appending)
        if appending.cancelled():
            return
        error = appending.exception()
        if error is None:
            self._attempt_began = None
            # Nobody else has done that.
            self._tail_then = None
            appended = appending.result()
            # The announcement of a large one does not say how large it is.
            self.compactor.appended(appended.offset, size)
            self._perform(self.replicator.append_done(effect, appended))
        elif isinstance(error, TransportError):
            self._failed(effect, error)
        else:
            self._went_wrong(error)

    async def _seed(self, effect: protocol.Seed, update: bytes) -> None:
        transport = self.replica.transport
        sender = self.replicator.sender
        try:
            payload = await off_loop(len(update), encode_payload, update)
            await self.before_put_back()
            seeded = await transport.seed_log(self.scope, effect.lineage, sender, payload)
        except TransportError as error:
            self._failed(effect, error)
        else:
            self._perform(self.replicator.seed_done(effect, seeded))

    async def _load(self) -> None:
        if await self._held_elsewhere():
            self._perform(self.replicator.look_again())
            return
        try:
            seed = await self.load_content()
        except Exception as error:  # noqa: BLE001 (raised again to whoever opens the room)
            self._load_error = error
            self._changed.set()
            return
        self._provide(seed)

    def _provide(self, seed: SeedContent) -> None:
        effects = self.replicator.provide(seed.lineage, seed.update)
        if effects:
            self.provided(seed)
        self._perform(effects)
        if effects:
            self.spawn(self._learn_seed(seed.update))

    async def _held_elsewhere(self) -> bool:
        """Whether another replica holds this document, whose log was lost. It puts that back when
        it is asked, and has to come first: two histories of one document cannot be merged."""
        question = Notice(self.replica.id, "unseeded", {})
        self._holder_answered = False
        self._lacking.clear()
        try:
            others = await self.replica.transport.publish(self.scope, question.encode()) - 1
        except TransportError as error:
            self.complain(f"The other servers cannot be asked for the document: {error}")
            return False
        await self._wait(lambda: self._holder_answered or len(self._lacking) >= others, ANSWER_S)
        return self._holder_answered

    async def _answer_holder(self) -> None:
        """Another replica looks for this document: put its log back, if it is lost."""
        if self.replicator.lineage is None or not self.replicator.writable or not self.shared:
            self.publish(Notice(self.replica.id, "lacking", {}))
            return
        self.publish(Notice(self.replica.id, "holding", {}))
        self._perform(self.replicator.reconcile())

    async def _mend(self, gap: protocol.Gapped) -> None:
        """Ask the others to put back what the log lacks. Where nobody answers for as long as a
        replica may be silent, nobody lives who could."""
        now = loop_time()
        if self._gapped_since is None:
            self._gapped_since = now
        self.complain("The log has lost entries; the other servers are asked to put them back")
        silent = now - self._gapped_since > self.replica.timing.dead_after_s
        if silent and self.replicator.writable and not self._holder_answered:
            self._gapped_since = None
            self.complain("The log has lost entries that nobody has; it begins anew")
            try:
                await self.abandon(gap.updates)
                await self.replica.transport.expire_room(self.scope, gap.log, 0, tail=gap.tail)
            except LogChanged:
                pass  # somebody else has begun it anew, or put something back
            except TransportError as error:
                self.complain(f"The log cannot be begun anew: {error}")
        else:
            self._holder_answered = False
            self.publish(Notice(self.replica.id, "incomplete", {}))
            await asyncio.sleep(MEND_S)
        self._perform(self.replicator.look_again())

    async def abandon(self, updates: tuple[bytes, ...]) -> None:
        """The log is about to be dropped, of which `updates` can be read."""

    async def _linger(self) -> None:
        await asyncio.sleep(LINGER_S)
        self._perform(self.replicator.lingered())

    def _failed(self, effect: Effect, error: TransportError) -> None:
        if isinstance(error, LogFull):
            # A heartbeat may have tried again before there is room.
            if not self._making_room:
                self._making_room = True
                self.spawn(self._make_room(error))
        elif isinstance(error, TransportRefused):
            self._refuse("log", str(error))
        elif self.replica.connected and not isinstance(error, LogChanged):
            self.complain(f"Sharing is interrupted and tried again: {error}")
        changed, full = isinstance(error, LogChanged), isinstance(error, LogFull)
        self._perform(self.replicator.failed(effect, changed=changed, full=full))

    async def _make_room(self, error: LogFull) -> None:
        """The log is full, or all of the share's: see whether its history can go. Only if it
        cannot, the transport refuses the room."""
        log, offset = self.replicator.log, self.replicator.offset
        began = loop_time() if self._attempt_began is None else self._attempt_began
        made = False
        if log is None or self.replicator.outdated or self.broken:
            self._making_room = False
        else:
            try:
                of_share = isinstance(error, ShareFull)
                made = await self.compactor.make_room(log, offset, only_if_smaller=of_share)
            except TransportError as failure:
                self.complain(f"Its log is full, and cannot be made shorter: {failure}")
            finally:
                self._making_room = False
        self._retries.took(began, loop_time())
        if not made and self.replica.connected:
            self._refuse("log", str(error))
        away = self.replicator.phase is Phase.AWAY
        if made and away and not self._closed and self.replica.connected:
            self._perform(self.replicator.connected())

    def publish(self, envelope: Envelope) -> None:
        """Send `envelope` to all replicas of the room; a failure is logged and no more."""
        task = self.spawn(self._publish(envelope))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, envelope: Envelope) -> None:
        try:
            await self.replica.transport.publish(self.scope, envelope.encode())
        except TransportError as error:
            if self.replica.connected:
                self.complain(f"A message to the other servers is lost: {error}")

    def complain(self, message: str) -> None:
        self.replica.complain(f"rooms {self.scope.room}", f"Room {self.scope.room}: {message}")
