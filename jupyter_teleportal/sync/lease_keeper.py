"""The lease of one room: who may have it when, and what the transport has said of it."""

from __future__ import annotations

from ..core.envelopes import Notice
from ..core.errors import TransportError, TransportRefused
from ..core.leases import Lease
from ..core.values import LeaseView, LeaseWish, offset_key
from ..transports.base import loop_time
from .room import Room


class LeaseKeeper:
    """Tries for one room's lease, renews it and gives it back.

    Attributes:
        lease: what is known of it.
    """

    def __init__(self, room: Room) -> None:
        timing = room.replica.timing
        self.lease = Lease(room.replica.id, timing.lease_ttl_s, timing.lease_margin_s)
        self._room = room
        self._replica = room.replica
        self._hold_off_until = 0.0
        self._vacant_since: float | None = None
        self._others_append = False
        self._tail_then: str | None = None

    # -- whether this replica wants it -----------------------------------------------------

    @property
    def claims_first(self) -> bool:
        """Whether this replica may try for the lease at once after an outage."""
        return self.lease.own_last or self._room.saver.claims_first

    @property
    def wanted(self) -> bool:
        """Whoever held the lease before comes first: it may have written the file, and knows."""
        replicator = self._room.replicator
        if self._room.broken or not replicator.writable or replicator.outdated:
            return False
        if "log" in self._room.refusals:
            # Whoever cannot follow the document does not begin to save it for the others, and
            # leaves that to them, if they can follow it.
            return self.lease.own_last and not self._others_append
        if self.claims_first:
            return True
        # Where the lease is gone because the transport was emptied, its holder renews it first.
        return self.lease.holder is None and loop_time() >= self._hold_off_until

    def hold_off(self) -> None:
        """Leave the lease to whoever may have saved meanwhile."""
        if self._room.replicator.lineage is not None and not self.claims_first:
            self._hold_off_until = loop_time() + self._replica.timing.lease_ttl_s

    def cut_off(self) -> None:
        """The transport refuses the room from now on."""
        self._others_append, self._tail_then = False, None

    def taken_again(self) -> None:
        """The transport does not refuse the room any more."""
        self._vacant_since = None
        self.hold_off()

    def appended(self) -> None:
        """The log has taken what was appended here; nobody else has done that."""
        self._tail_then = None

    # -- what is asked and answered --------------------------------------------------------

    def wish(self) -> LeaseWish:
        """What to ask the transport."""
        return LeaseWish(self._room.scope, self.wanted)

    async def ask(self, wish: LeaseWish) -> LeaseView | TransportError:
        """Ask the transport by itself, instead of with the heartbeat; return its answer, of which
        nothing is noted yet."""
        try:
            return await self._hold(self._replica.id, want=wish.want)
        except TransportError as error:
            return error

    async def hold(self, *, want: bool) -> LeaseView:
        """Renew or try for the lease, or give it back; return what it is now.

        Raises:
            TransportError: if the transport does not say.
        """
        asked_at = loop_time()
        try:
            view = await self._hold(self._replica.id, want=want)
        except TransportRefused as error:
            self._room.refusals.refuse("lease", str(error))
            raise
        self.observed(view, asked_at)
        return view

    async def _hold(self, replica: str, *, want: bool) -> LeaseView:
        timing = self._replica.timing
        return await self._replica.transport.hold_lease(
            self._room.scope,
            replica,
            want=want,
            ttl_s=timing.lease_ttl_s,
            keep_s=timing.history_keep_s,
        )

    def observed(self, view: LeaseView, asked_at: float) -> None:
        """Take an answer to a question that was asked at `asked_at`."""
        if view.refused:
            self._room.refusals.refuse("lease", view.refused)
        else:
            self._room.refusals.take("lease")
        if self.lease.observed(view, asked_at) and not self._room.closed:
            self._room.saver.lease_changed()

    async def give_back(self) -> None:
        """Give the lease back, if it is this replica's."""
        if not self.lease.own_last:
            return
        try:
            await self.hold(want=False)
            self._room.channel.publish(Notice(self._replica.id, "released", {}))
        except TransportError as error:
            self._room.complain(f"Another server saves it only when the lease has expired: {error}")

    # -- whether its holder is there -------------------------------------------------------

    def look_after(self, view: LeaseView) -> None:
        """See whether whoever holds the lease, or held it last, is there."""
        self._look_for_impostor()
        self._look_for_holder(view)

    def _look_for_impostor(self) -> None:
        """A lease is held by who is alive. Whoever only says so is let go; should that one be
        alive after all, it has time to take the lease back first."""
        members = self._replica.membership
        # Whoever is not seen itself does not see who else is there.
        if members.own in members.ages_s and self.lease.abandoned(members.alive, loop_time()):
            holder = str(self.lease.holder)
            self._replica.complain(
                f"forged_leases {self._room.scope.room}",
                f"Room {self._room.scope.room}: {holder[:40]!r} is said to save the file, and no "
                "such server is there; another one saves it",
            )
            self._hold_off_until = loop_time() + self._replica.timing.lease_ttl_s
            self._room.background.spawn(self._let_go(holder))

    async def _let_go(self, holder: str) -> None:
        try:
            await self._hold(holder, want=False)
        except TransportError as error:
            self._room.complain(f"The file is not saved from here: {error}")

    def _look_for_holder(self, view: LeaseView) -> None:
        """While no lease can be had, whoever held it last is gone if it does not renew it."""
        if not self._room.refusals or view.holder is not None or self.lease.own_last:
            self._vacant_since = None
        elif self._vacant_since is None:
            self._vacant_since = loop_time()
        elif (
            self.lease.last_holder is not None
            and loop_time() - self._vacant_since > self._replica.timing.lease_ttl_s
        ):
            self.lease.last_holder = None
            self._room.saver.lease_changed()

    def look_at_others(self, offset_then: str, view: LeaseView) -> None:
        """While the log is refused here: what others append is read here now and then, so that
        both may be the same.

        Args:
            offset_then: the room's offset when the transport was asked.
            view: its answer.
        """
        if "log" in self._room.refusals:
            known = min(offset_then, self._tail_then or offset_then, key=offset_key)
            self._others_append |= offset_key(view.tail) > offset_key(known)
            self._tail_then = self._tail_then or view.tail
