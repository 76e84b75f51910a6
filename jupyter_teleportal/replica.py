"""One server's part in the cluster: its transport, its heartbeat, and the links of its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from .errors import TransportError
from .membership import Membership
from .model import Scope
from .settings import Timing
from .transports.base import SyncTransport, TransportState


class Linked(Protocol):
    """What a replica asks of whatever is linked to it."""

    scope: Scope

    def transport_changed(self, state: TransportState) -> None: ...

    def replica_left(self, replica: str) -> None: ...

    async def tick(self) -> None: ...

    async def aclose(self) -> None: ...


class Replica:
    """One process in the cluster.

    Attributes:
        id: new at each start.
        session: the cluster's session id, as far as known; this replica's proposal before that.
        counters: how often something was passed over or went wrong, by name, for the status.
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
        self.counters: Counter[str] = Counter()
        self._session_listeners: list[Callable[[str], None]] = []
        self._beating: asyncio.Task[None] | None = None
        self._complaints: dict[str, str] = {}
        self._senders = 0
        self._tasks: set[asyncio.Task[None]] = set()
        transport.watch(self._on_transport)

    def on_session(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the cluster's session id whenever it turns out to be another."""
        self._session_listeners.append(listener)

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
        """Connect the transport and begin the heartbeat."""
        await self.transport.start()
        if self.connected:
            await self.beat()
        self._beating = asyncio.create_task(self._beat_for_ever(), name="teleportal-heartbeat")

    async def aclose(self) -> None:
        """Close all links, say goodbye and close the transport, within the timing's deadline."""
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
        closing = [asyncio.ensure_future(link.aclose()) for link in list(self.links.values())]
        if closing:
            _, late = await asyncio.wait(closing, timeout=self.timing.stop_timeout_s)
            if late:
                self.log.warning(
                    "%d documents could not be closed within %.0f s; what they had not yet shared "
                    "is in their clients",
                    len(late),
                    self.timing.stop_timeout_s,
                )
                for task in late:
                    task.cancel()
        if self.connected:
            try:
                await asyncio.wait_for(self.transport.farewell(self.id), 1)
            except (TransportError, asyncio.TimeoutError) as error:
                self.log.debug("No farewell: %s", error)
        await self.transport.aclose()

    async def beat(self) -> None:
        """One heartbeat: tell that this replica lives, and learn who else does."""
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
                link.replica_left(replica)

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.timing.heartbeat_interval_s)
            if not self.connected:
                continue
            try:
                # One pipeline: the transport sends together what is asked for together.
                await asyncio.gather(self.beat(), *(link.tick() for link in self.links.values()))
            except Exception:
                self.log.exception("A heartbeat went wrong; the next one tries again")

    def _on_transport(self, state: TransportState) -> None:
        for link in list(self.links.values()):
            link.transport_changed(state)

    def complain(self, subject: str, message: str) -> bool:
        """Log a warning, unless the same was said of `subject` the last time; return whether it
        was news."""
        self.counters[subject.split(" ")[0]] += 1
        if self._complaints.get(subject) == message:
            return False
        self._complaints[subject] = message
        self.log.warning("%s", message)
        return True

    def settle(self, subject: str) -> None:
        """`subject` is well again, so its next complaint is news."""
        self._complaints.pop(subject, None)
