"""From a room's document to its own clients."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pycrdt import Channel, TransactionEvent, create_update_message, merge_updates

from .protocol import EMPTY_UPDATE

MERGE_ABOVE_UPDATES = 8

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


class Fanout:
    """Sends each update of a document to all clients but the one that it came from.

    Each client gets its messages in order and waits for nobody else. Updates that gather before
    they are sent go out as one message.
    """

    def __init__(self, clients: Iterable[Channel], log: logging.Logger) -> None:
        """
        Args:
            clients: the room's clients, looked at anew for each message.
            log: where to log.
        """
        self._clients = clients
        self._log = log
        self._updates: deque[tuple[bytes, Channel | None]] = deque()
        self._wake = asyncio.Event()
        self._waiting: dict[Channel, deque[bytes]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    def on_update(self, event: TransactionEvent) -> None:
        """Take an update of the document; the observer to register."""
        if event.update != EMPTY_UPDATE:
            self._updates.append((event.update, current_channel.get()))
            self._wake.set()

    def broadcast(self, message: bytes, author: Channel | None = None) -> None:
        """Send a y-websocket message to all clients but its author."""
        for client in list(self._clients):
            if client is author:
                continue
            waiting = self._waiting.get(client)
            if waiting is not None:
                waiting.append(message)
                continue
            self._waiting[client] = deque((message,))
            sender = asyncio.ensure_future(self._send(client))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._updates:
                update, author = self._take()
                self.broadcast(create_update_message(update), author)

    def _take(self) -> tuple[bytes, Channel | None]:
        update, author = self._updates.popleft()
        if len(self._updates) < MERGE_ABOVE_UPDATES:
            return update, author
        updates = [update]
        while self._updates and self._updates[0][1] is author:
            updates.append(self._updates.popleft()[0])
        return (merge_updates(*updates) if len(updates) > 1 else update), author

    async def _send(self, client: Channel) -> None:
        waiting = self._waiting[client]
        try:
            while waiting:
                await client.send(waiting.popleft())
        except Exception as error:  # noqa: BLE001 (one client's error is not the others')
            # The client's own serve task ends with the same error, and it resyncs.
            self._log.info("A client of room %s cannot be sent to: %s", client.path, error)
        finally:
            del self._waiting[client]
