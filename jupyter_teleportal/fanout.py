"""From a room's document to its own clients."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from weakref import WeakSet

from pycrdt import Channel, TransactionEvent

from .client_messages import UPDATE, sync_message, together
from .protocol import EMPTY_UPDATE

MERGE_ABOVE_MESSAGES = 8

# Which client's message is being handled: a room's `serve` handles one client's in one task.
current_channel: ContextVar[Channel | None] = ContextVar("current_channel", default=None)


@contextmanager
def nobodys_message() -> Iterator[None]:
    """What happens in here is no client's doing, whosever message it was that led to it."""
    token = current_channel.set(None)
    try:
        yield
    finally:
        current_channel.reset(token)


@dataclass
class _Queue:
    """What waits for one client behind the message that is on its way to it."""

    messages: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    merge_above: int = MERGE_ABOVE_MESSAGES

    def take(self) -> bytes:
        """Take out what is to be sent next."""
        if len(self.messages) > self.merge_above:
            self.messages = deque(together(list(self.messages)))
            self.waiting_bytes = sum(map(len, self.messages))
            # Not again and again where there is nothing to merge.
            self.merge_above = max(MERGE_ABOVE_MESSAGES, 2 * len(self.messages))
        message = self.messages.popleft()
        self.waiting_bytes -= len(message)
        return message


Send = Callable[[Channel, bytes], Awaitable[None] | None]
"""Sends a message; returns what to wait for if the client's connection has not taken all of it."""


def _send_on(client: Channel, message: bytes) -> Awaitable[None]:
    return client.send(message)


class Fanout:
    """Sends each update of a document to all clients but the one that it came from.

    Each client gets its messages in order and waits for nobody else. Updates that gather while a
    client does not read go out as one message. A client for which more than `queue_max_bytes`
    wait, the message on its way to it not counted, does not read: it is dropped, and gets what it
    lacks when it connects again.
    """

    def __init__(
        self,
        clients: Collection[Channel],
        log: logging.Logger,
        *,
        queue_max_bytes: int,
        send: Send = _send_on,
        drop: Callable[[Channel], None] = lambda client: None,
        on_drop: Callable[[str], object] = lambda problem: None,
    ) -> None:
        """
        Args:
            clients: the room's clients, looked at anew for each message.
            log: where to log.
            queue_max_bytes: how much may wait for one client.
            send: sends a message.
            drop: ends a client's connection at once.
            on_drop: is told in words when a client was dropped.
        """
        self._clients = clients
        self._log = log
        self._queue_max_bytes = queue_max_bytes
        self._send_on = send
        self._drop = drop
        self._on_drop = on_drop
        self._queues: dict[Channel, _Queue] = {}
        self._dropped: WeakSet[Channel] = WeakSet()
        self._senders: set[asyncio.Task[None]] = set()

    def on_update(self, event: TransactionEvent) -> None:
        """Take an update of the document; the observer to register."""
        # Where nobody listens no bytes are made: of a large document that takes as long as reading.
        if self._clients and event.update != EMPTY_UPDATE:
            self.broadcast(sync_message(UPDATE, event.update), current_channel.get())

    def broadcast(self, message: bytes, author: Channel | None = None) -> None:
        """Send a y-websocket message to all clients but its author."""
        for client in list(self._clients):
            if client is not author and client not in self._dropped:
                self._send(client, message)

    def _send(self, client: Channel, message: bytes) -> None:
        queue = self._queues.get(client)
        if queue is None:
            self._send_at_once(client, message)
        elif queue.waiting_bytes + len(message) > self._queue_max_bytes:
            self._drop_slow(client, queue)
        else:
            queue.messages.append(message)
            queue.waiting_bytes += len(message)

    def _send_at_once(self, client: Channel, message: bytes) -> None:
        try:
            waiting = self._send_on(client, message)
        except Exception as error:  # noqa: BLE001 (one client's error is not the others')
            self._cannot_send(client, error)
            return
        if waiting is not None:
            queue = self._queues[client] = _Queue()
            sender = asyncio.ensure_future(self._send_on_from(client, queue, waiting))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    async def _send_on_from(
        self, client: Channel, queue: _Queue, waiting: Awaitable[None] | None
    ) -> None:
        """Wait for the message that is on its way, and send what gathers behind it."""
        try:
            while True:
                if waiting is not None:
                    await waiting
                if not queue.messages:
                    return
                message = queue.take()
                waiting = self._send_on(client, message)
        except Exception as error:  # noqa: BLE001 (one client's error is not the others')
            self._cannot_send(client, error)
        finally:
            self._queues.pop(client, None)

    def _cannot_send(self, client: Channel, error: Exception) -> None:
        # The client's own serve task ends with the same error, and it resyncs.
        self._log.info("A client of room %s cannot be sent to: %s", client.path, error)

    def _drop_slow(self, client: Channel, queue: _Queue) -> None:
        self._dropped.add(client)
        queue.messages.clear()
        self._on_drop(
            f"A client of room {client.path} does not read: more than {self._queue_max_bytes} "
            "bytes waited for it. It is disconnected, and gets what it lacks when it connects again"
        )
        self._drop(client)
