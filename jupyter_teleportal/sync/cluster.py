"""One server's part in the cluster: its transport, its heartbeat, and the links of its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.errors import TransportError
from ..core.leases import Membership
from ..core.schedule import SavePace
from ..core.settings import Timing
from ..core.values import LeaseView, LeaseWish, Scope
from ..transports.base import SyncTransport, TransportState, loop_time
from .complaints import Complaints
from .save_turns import SaveTurns
from .trial import Trials

_ROOMS_AT_ONCE = 25


@dataclass(frozen=True)
class LeaseQuestion:
    """A question about a room's lease.

    Attributes:
        wish: what is asked.
        answered: to be called with the answer, and with the time of the event loop at which it was
            asked.
    """

    wish: LeaseWish
    answered: Callable[[LeaseView | TransportError, float], None]


class Linked(Protocol):
    """What a replica asks of whatever is linked to it."""

    scope: Scope

    def transport_changed(self, state: TransportState) -> None: ...

    def replica_left(self, replica: str) -> None: ...

    def lease_question(self) -> LeaseQuestion | None:
        """What to ask with the next heartbeat, where there is a lease."""
        ...

    async def tick(self) -> None:
        """What to do with each heartbeat, where there is none."""
        ...

    async def aclose(self) -> None: ...


class Replica:
    """One process in the cluster.

    Attributes:
        id: new at each start.
        session: the cluster's session id, as far as known; this replica's proposal before that.
        complaints: what is wrong now, by subject, for the status.
        counters: how often something was passed over or went wrong, by name, for the status.
        trials: tries what takes long to merge in another process.
        turns: the turns in which this replica's documents are saved.
        formats: by share, the highest format of payloads that a server that lives says it writes.
    """

    def __init__(
        self,
        transport: SyncTransport,
        *,
        timing: Timing | None = None,
        log: logging.Logger | None = None,
        session: str | None = None,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.transport = transport
        self.timing = timing or Timing()
        self.log = log or logging.getLogger(__name__)
        self.session = session or str(uuid.uuid4())
        self.membership = Membership(self.id, self.timing.dead_after_s)
        self.links: dict[Scope, Linked] = {}
        self.trials = Trials()
        self.turns = SaveTurns(SavePace(self.timing.save_ceiling_s))
        self.complaints = Complaints(self.log)
        self.counters = self.complaints.counters
        self.complain = self.complaints.complain
        self.settle = self.complaints.settle
        self.formats: dict[str, int] = {}
        self._session_listeners: list[Callable[[str], None]] = []
        self._grant_listeners: list[Callable[[frozenset[str]], None]] = []
        self._beating: asyncio.Task[None] | None = None
        self._senders = 0
        self._tasks: set[asyncio.Task[None]] = set()
        transport.watch(self._on_transport)

    def on_session(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the cluster's session id whenever it turns out to be another."""
        self._session_listeners.append(listener)

    def on_granted(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call `listener` with the shares that this server's account reaches, whenever whoever has
        given it the account says so."""
        self._grant_listeners.append(listener)

    @property
    def connected(self) -> bool:
        return self.transport.state is TransportState.CONNECTED

    def new_sender(self) -> str:
        """A name for the author of log entries, unique to one opening of one room."""
        self._senders += 1
        return f"{self.id}.{self._senders}"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self) -> None:
        """Connect the transport and begin the heartbeat, unless that is done."""
        if self._beating is not None:
            return
        await self.transport.start()
        if self.connected:
            await self.beat()
        else:
            self._tell_outage()
        self._beating = asyncio.create_task(self._beat_for_ever(), name="teleportal-heartbeat")

    async def aclose(self) -> None:
        """Close all links, say goodbye and close the transport, within the timing's deadline."""
        deadline = asyncio.get_running_loop().time() + self.timing.stop_timeout_s
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
        # What waits for a transport that does not answer ends when that is closed, so some of the
        # time is left for this.
        links_timeout_s = 0.8 * self.timing.stop_timeout_s
        late = await self._finish(
            [link.aclose() for link in list(self.links.values())], links_timeout_s
        )
        if late:
            self.log.warning(
                "%d documents could not be closed within %.1f s; what they had not yet shared "
                "is in their clients, and is shared when those connect again",
                late,
                links_timeout_s,
            )
        left = deadline - asyncio.get_running_loop().time()
        if self.connected and await self._finish([self._farewell()], left / 2):
            self.log.info("The other servers notice in %.0f s", self.timing.dead_after_s)
        for task in list(self._tasks):
            task.cancel()
        await self.transport.aclose()

    async def _farewell(self) -> None:
        try:
            await self.transport.farewell(self.id)
        except TransportError as error:
            self.complain("farewells", f"The other servers could not be told goodbye: {error}")

    async def _finish(self, work: list[Coroutine[Any, Any, None]], timeout_s: float) -> int:
        """Do all of `work`; return how much of it was not done in time and is given up."""
        if not work:
            return 0
        tasks = [asyncio.ensure_future(one) for one in work]
        done, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        for task in done:
            if (error := task.exception()) is not None:
                self.complain("errors closing", f"A document was not closed well: {error}", error)
        return len(late)

    async def beat(self) -> None:
        """One heartbeat: tell that this replica lives, and learn who else does, and whether this
        server still has its shares."""
        await self._look_at_grants()
        try:
            view = await self.transport.heartbeat(
                self.id,
                self.session,
                forget_s=10 * self.timing.dead_after_s,
                keep_s=self.timing.history_keep_s,
            )
        except TransportError as error:
            self.complain("heartbeat", f"The heartbeat failed: {error}")
            return
        if view.refused:
            self.complain(
                "heartbeat",
                f"The heartbeat is refused, so others take this server for dead: {view.refused}",
            )
        else:
            self.settle("heartbeat")
        if view.session != self.session:
            self.session = view.session
            for listener in self._session_listeners:
                listener(view.session)
        joined, left = self.membership.observed(view.ages_s)
        for replica in sorted(joined):
            self.log.info("Replica %s is there", replica)
        for replica in sorted(left):
            self.log.info("Replica %s has gone", replica)
            for link in list(self.links.values()):
                try:
                    link.replica_left(replica)
                except Exception as error:  # noqa: BLE001 (one room's error is not the others')
                    room = link.scope.room or ""
                    self.complain(
                        f"errors {room}",
                        f"Room {room}: it did not take in that a server has gone",
                        error,
                    )

    async def _look_at_grants(self) -> None:
        try:
            granted = await self.transport.granted()
        except TransportError:
            return  # the heartbeat, which comes next, says so
        if granted is not None:
            for listener in self._grant_listeners:
                listener(granted)

    async def _beat_for_ever(self) -> None:
        due = loop_time()
        while True:
            due = max(due + self.timing.heartbeat_interval_s, loop_time())
            await asyncio.sleep(due - loop_time())
            if not self.connected:
                self._tell_outage()
                continue
            try:
                await self._beat_and_ask()
            except Exception as error:  # noqa: BLE001 (whatever it is, the heart goes on)
                self.complain(
                    "errors heartbeat", "A heartbeat went wrong; the next one tries again", error
                )

    async def _beat_and_ask(self) -> None:
        """A heartbeat, and with it what the rooms ask. Many rooms are asked for some at a time,
        within half of the interval, so that neither this process nor Redis is busy with them for
        long enough to be noticed."""
        links = list(self.links.values())
        some = [links[n : n + _ROOMS_AT_ONCE] for n in range(0, len(links), _ROOMS_AT_ONCE)]
        # One pipeline: the transport sends together what is asked for together.
        await asyncio.gather(self.beat(), *(self._ask(first) for first in some[:1]))
        for others in some[1:]:
            await asyncio.sleep(self.timing.heartbeat_interval_s / 2 / len(some))
            self.spawn(self._ask(others))

    async def _ask(self, links: Sequence[Linked]) -> None:
        questions: list[LeaseQuestion] = []
        ticks: list[Coroutine[Any, Any, None]] = []
        for link in links:
            if self.links.get(link.scope) is not link:
                continue  # closed meanwhile
            if (question := link.lease_question()) is not None:
                questions.append(question)
            else:
                ticks.append(link.tick())
        if questions:
            ticks.append(self._ask_for_leases(questions))
        for outcome in await asyncio.gather(*ticks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.complain(
                    "errors heartbeat", "A heartbeat went wrong; the next one tries again", outcome
                )

    async def _ask_for_leases(self, questions: Sequence[LeaseQuestion]) -> None:
        asked_at = loop_time()
        outcomes: Sequence[LeaseView | TransportError]
        try:
            outcomes = await self.transport.hold_leases(
                [question.wish for question in questions],
                self.id,
                ttl_s=self.timing.lease_ttl_s,
                keep_s=self.timing.history_keep_s,
            )
        except TransportError as error:
            outcomes = [error] * len(questions)
        for question, outcome in zip(questions, outcomes, strict=True):
            try:
                question.answered(outcome, asked_at)
            except Exception as error:  # noqa: BLE001 (one room's error is not the others')
                self.complain(
                    f"errors {question.wish.scope.room}",
                    f"Room {question.wish.scope.room}: a heartbeat went wrong; the next one tries "
                    "again",
                    error,
                )

    def _tell_outage(self) -> None:
        why = self.transport.problem or "it cannot be reached"
        self.complain(
            "transport",
            f"Nothing can be shared, so edits stay on this server; it is tried again: {why}",
            told=True,
        )

    def _on_transport(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            self.settle("transport")
        elif state is TransportState.DEGRADED and self._beating is not None:
            self._tell_outage()
        if state is TransportState.CONNECTED and self._beating is not None:
            # Others take this replica for dead, and it may not know the cluster's session.
            self.spawn(self.beat())
        for link in list(self.links.values()):
            try:
                link.transport_changed(state)
            except Exception as error:  # noqa: BLE001 (one room's error is not the others')
                room = link.scope.room or ""
                self.complain(
                    f"errors {room}",
                    f"Room {room}: it did not take in that the transport is {state.value}; its "
                    "next heartbeat looks again",
                    error,
                )
