"""Awareness across replicas: whose cursor is where, and who is there at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pycrdt import Awareness, create_awareness_message

from ..core.awareness_updates import MARK, AwarenessEntry, awareness_entries, awareness_update
from ..core.crdt import apply_awareness
from ..core.envelopes import AwarenessEnvelope, AwarenessQuery, Envelope
from ..core.errors import CodecError

State = dict[str, Any]

GONE_REMEMBERED = 64
REPLICA_CLIENTS_MAX = 1000
CLIENTS_MAX = 5000
"""So many clients of one other replica, and of all, are shown in one room."""
PUBLISH_S = 0.02


@dataclass(frozen=True)
class Sink:
    """A channel to publish awareness to.

    Attributes:
        publish: sends an envelope to the other replicas.
        visible: what of a state may be seen there; None: all of it.
    """

    publish: Callable[[Envelope], None]
    visible: Callable[[State], State] | None = None


class AwarenessBridge:
    """Couples one room's awareness to a channel.

    It publishes the states of this replica's own clients, and hands those of other replicas'
    clients to its own. A state belongs to the replica that published it last, and goes when that
    replica goes.
    """

    def __init__(
        self,
        awareness: Awareness,
        replica: str,
        sinks: Sequence[Sink],
        broadcast: Callable[[bytes], None],
    ) -> None:
        """
        Args:
            awareness: the room's awareness.
            replica: this replica's id.
            sinks: where to publish.
            broadcast: sends a y-websocket message to this replica's clients.
        """
        self._awareness = awareness
        self._replica = replica
        self._sinks = sinks
        self._broadcast = broadcast
        self._owners: dict[int, str] = {}
        self._gone: deque[int] = deque(maxlen=GONE_REMEMBERED)
        self._claimed: deque[int] = deque(maxlen=GONE_REMEMBERED)
        """This replica's clients that others have spoken for."""
        self._unpublished: set[int] = set()
        self._published_at = -PUBLISH_S
        self._publishing: asyncio.TimerHandle | None = None
        self._subscription = awareness.observe(self._on_change)

    def close(self) -> None:
        """Stop publishing, and take this replica's clients off the other replicas' screens."""
        self._awareness.unobserve(self._subscription)
        self._publish_states(self._own_clients(), gone=True)

    def announce(self) -> None:
        """Tell the others about this replica's clients and ask them for theirs."""
        self._publish_states(self._own_clients())
        for sink in self._sinks:
            sink.publish(AwarenessQuery(self._replica))

    def received(self, envelope: AwarenessEnvelope | AwarenessQuery) -> None:
        """Take a message of another replica.

        Raises:
            ForeignBytes: if its update cannot be read.
        """
        if envelope.replica == self._replica:
            return
        if isinstance(envelope, AwarenessQuery):
            self._publish_states(self._own_clients())
            return
        taken, over = self._acceptable(awareness_entries(envelope.update), envelope.replica)
        update = awareness_update(taken)
        before = set(self._awareness.states)
        changed = set(apply_awareness(self._awareness, update, self))
        for client in changed:
            if client in self._awareness.states:
                self._owners[client] = envelope.replica
            else:
                self._owners.pop(client, None)
                self._gone.append(client)
        if changed & (before | set(self._awareness.states)):
            self._broadcast(create_awareness_message(update))
        if over:
            raise CodecError(
                f"{over} clients of replica {envelope.replica[:40]!r} are not shown: more than "
                f"{REPLICA_CLIENTS_MAX} of one server, or {CLIENTS_MAX} of all"
            )

    def _acceptable(
        self, entries: Sequence[AwarenessEntry], replica: str
    ) -> tuple[list[AwarenessEntry], int]:
        """Those entries that `replica` may publish here, marked with it, and how many are too
        many. A replica speaks for its own clients: what it says of this one's is passed over, and
        it does not make those of a third one leave."""
        own = set(self._own_clients())
        room = min(
            REPLICA_CLIENTS_MAX - sum(owner == replica for owner in self._owners.values()),
            CLIENTS_MAX - len(self._owners),
        )
        taken, over = [], 0
        for entry in entries:
            owner = self._owners.get(entry.client)
            if entry.client in own:
                if entry.state is not None:
                    self._claimed.append(entry.client)
            elif entry.state is None:
                if owner in (None, replica):
                    taken.append(entry)
            elif owner is None and room <= 0:
                over += 1
            else:
                room -= owner is None
                taken.append(entry._replace(state={**entry.state, MARK: {"replica": replica}}))
        return taken, over

    def replica_of(self, client: int) -> str | None:
        """The other replica that a client is on; None if it is on none."""
        return self._owners.get(client)

    def snapshot(self) -> bytes | None:
        """A y-websocket message with all states, for a client that has just come.

        It also says who has gone: a client that has only lost its connection finds itself among
        them and announces itself anew, where its old state, sent again under the same clock, would
        be no news to anybody.
        """
        states = self._awareness.states
        clients = [client for client, state in states.items() if state]
        clients += [client for client in set(self._gone) if client not in states]
        if not clients:
            return None
        return create_awareness_message(self._awareness.encode_awareness_update(clients))

    def remove_clients(self, clients: set[int]) -> None:
        """Clients of this replica have disconnected."""
        gone = [client for client in clients if client in self._awareness.states]
        if gone:
            self._gone.extend(gone)
            self._awareness.remove_awareness_states(gone, "disconnected")
            self._broadcast(create_awareness_message(self._encode(gone, gone=True)))
        if not clients.isdisjoint(self._claimed):
            # They have moved to another replica before they were gone from here.
            self._claimed.clear()
            for sink in self._sinks:
                sink.publish(AwarenessQuery(self._replica))

    def replica_left(self, replica: str) -> None:
        """Another replica is dead; its clients are gone with it."""
        gone = [client for client, owner in self._owners.items() if owner == replica]
        for client in gone:
            del self._owners[client]
        there = [client for client in gone if client in self._awareness.states]
        if there:
            self._gone.extend(there)
            self._awareness.remove_awareness_states(there, self)
            self._broadcast(create_awareness_message(self._encode(there, gone=True)))

    def _on_change(self, topic: str, change: tuple[dict[str, Any], Any]) -> None:
        clients, origin = change
        if topic != "update" or origin is self:
            return
        changed = [
            client
            for kind in ("added", "updated", "removed")
            for client in clients[kind]
            # A client that moved to this replica is this replica's from now on.
            if origin not in ("timeout", "local") or client not in self._owners
        ]
        if origin != "local":
            for client in changed:
                self._owners.pop(client, None)
        self._publish_states(changed)

    def _own_clients(self) -> list[int]:
        return [client for client in self._awareness.states if client not in self._owners]

    def _publish_states(self, clients: list[int], *, gone: bool = False) -> None:
        """Publish the states of `clients`: at once, but not more often than every `PUBLISH_S`, for
        of what a cursor does in between only the last counts."""
        self._unpublished.update(clients)
        if gone:
            self._publish_now(gone=True)
            return
        if self._publishing is not None or not self._unpublished:
            return
        loop = asyncio.get_running_loop()
        due = self._published_at + PUBLISH_S
        if loop.time() >= due:
            self._publish_now()
        else:
            self._publishing = loop.call_at(due, self._publish_now)

    def _publish_now(self, *, gone: bool = False) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        # A server's own state is empty unless an extension uses it.
        telling = [
            client for client in self._unpublished if self._awareness.states.get(client, True)
        ]
        self._unpublished.clear()
        if not telling:
            return
        self._published_at = asyncio.get_running_loop().time()
        for sink in self._sinks:
            update = self._encode(telling, gone=gone, visible=sink.visible)
            sink.publish(AwarenessEnvelope(self._replica, update))

    def _encode(
        self,
        clients: list[int],
        *,
        gone: bool = False,
        visible: Callable[[State], State] | None = None,
    ) -> bytes:
        """An awareness update of `clients`: as disconnected, or as far as they are visible."""
        states = self._awareness.states
        shown = {client: states[client] for client in clients if client in states}
        try:
            for client, state in shown.items():
                if gone:
                    del states[client]
                elif visible is not None:
                    states[client] = visible(state)
            return self._awareness.encode_awareness_update(clients)
        finally:
            states.update(shown)
