"""From a room's document to its own clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from pycrdt import Channel, TransactionEvent

from ..core.authors import current_channel
from ..core.crdt import EMPTY_UPDATE
from ..core.messages import sync_message, together
from ..core.update_walk import UPDATE
from .turns import ClientTurns

MERGE_ABOVE_MESSAGES = 8
ANSWER_KEPT_S = 1.0


@dataclass
class _Queue:
    """What waits for one client behind the message that is on its way to it."""

    messages: deque[bytes] = field(default_factory=deque)
    answer: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    merge_above: int = MERGE_ABOVE_MESSAGES
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __bool__(self) -> bool:
        return bool(self.answer or self.messages)

    def take(self) -> bytes:
        """Take out what is to be sent next: what is left of an answer comes before what was said
        after it."""
        if self.answer:
            return self.answer.popleft()
        if len(self.messages) > self.merge_above:
            self.messages = deque(together(list(self.messages)))
            self.waiting_bytes = sum(map(len, self.messages))
            # Not again and again where there is nothing to merge.
            self.merge_above = max(MERGE_ABOVE_MESSAGES, 2 * len(self.messages))
        message = self.messages.popleft()
        self.waiting_bytes -= len(message)
        return message


@dataclass(frozen=True)
class _Question:
    state: bytes
    answer: Callable[[bytes], list[bytes]]
    failed: Callable[[Exception], Awaitable[None]]


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

    Questions of clients for what they lack (`ask`) are answered in the same order. There is one
    answer on its way to a client at most, and the next one is made only when the client has taken
    that: of questions that wait, the newest counts. So what waits for a client is bounded by
    `queue_max_bytes` and one document.
    """

    def __init__(
        self,
        clients: Collection[Channel],
        log: logging.Logger,
        *,
        queue_max_bytes: int,
        turns: ClientTurns,
        send: Send = _send_on,
        drop: Callable[[Channel], None] = lambda client: None,
        on_drop: Callable[[str], object] = lambda problem: None,
    ) -> None:
        """
        Args:
            clients: the room's clients, looked at anew for each message.
            log: where to log.
            queue_max_bytes: how much may wait for one client.
            turns: the turns in which clients are answered.
            send: sends a message.
            drop: ends a client's connection at once.
            on_drop: is told in words when a client was dropped.
        """
        self._clients = clients
        self._log = log
        self._queue_max_bytes = queue_max_bytes
        self._turns = turns
        self._send_on = send
        self._drop = drop
        self._on_drop = on_drop
        self._queues: dict[Channel, _Queue] = {}
        self._dropped: WeakSet[Channel] = WeakSet()
        self._senders: set[asyncio.Task[None]] = set()
        self._questions: dict[Channel, _Question] = {}
        self._answering: set[Channel] = set()
        self._last_answer: tuple[bytes, list[bytes]] | None = None

    def on_update(self, event: TransactionEvent) -> None:
        """Take an update of the document; the observer to register."""
        self._last_answer = None
        # Where nobody listens no bytes are made: of a large document that takes as long as reading.
        if self._clients and event.update != EMPTY_UPDATE:
            self.broadcast(sync_message(UPDATE, event.update), current_channel.get())

    def broadcast(self, message: bytes, author: Channel | None = None) -> None:
        """Send a y-websocket message to all clients but its author."""
        for client in list(self._clients):
            if client is not author and client not in self._dropped:
                self.send(client, message)

    def ask(
        self,
        client: Channel,
        state: bytes,
        answer: Callable[[bytes], list[bytes]],
        failed: Callable[[Exception], Awaitable[None]],
    ) -> None:
        """Send a client what it lacks, when it has taken what was sent to it before. If it has
        asked already and has no answer yet, this question takes the place of that one.

        Args:
            client: who asks.
            state: the client's state vector.
            answer: returns the messages for a state vector.
            failed: is told if `answer` raises.
        """
        self._questions[client] = _Question(state, answer, failed)
        if client not in self._answering:
            self._answering.add(client)
            self._run(self._answer(client))

    async def _answer(self, client: Channel) -> None:
        try:
            while client in self._questions and self._listens(client):
                if (queue := self._queues.get(client)) is not None:
                    await queue.empty.wait()
                    continue
                await self._turns.enter(client)
                if client not in self._queues and self._listens(client):
                    await self._answer_now(client, self._questions.pop(client))
        finally:
            self._answering.discard(client)
            self._questions.pop(client, None)

    async def _answer_now(self, client: Channel, question: _Question) -> None:
        began = time.perf_counter()
        try:
            messages = self._answer_to(question)
        except Exception as error:  # noqa: BLE001 (whoever has asked is told)
            await question.failed(error)
            return
        for message in messages:
            queue = self._queues.get(client)
            if queue is None:
                self._send_at_once(client, message)
            else:
                queue.answer.append(message)
        self._turns.spend(client, time.perf_counter() - began)

    def _answer_to(self, question: _Question) -> list[bytes]:
        """The answer, made once for all who ask the same in a moment without an edit: many do when
        a server comes back."""
        if self._last_answer is not None and self._last_answer[0] == question.state:
            return self._last_answer[1]
        messages = question.answer(question.state)
        last = self._last_answer = (question.state, messages)

        def forget() -> None:
            if self._last_answer is last:
                self._last_answer = None

        asyncio.get_running_loop().call_later(ANSWER_KEPT_S, forget)
        return messages

    def _listens(self, client: Channel) -> bool:
        return client in self._clients and client not in self._dropped

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)

    def send(self, client: Channel, message: bytes) -> None:
        """Send a y-websocket message to one client, after what was sent to it before."""
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
            self._run(self._send_on_from(client, queue, waiting))

    async def _send_on_from(
        self, client: Channel, queue: _Queue, waiting: Awaitable[None] | None
    ) -> None:
        """Wait for the message that is on its way, and send what gathers behind it."""
        try:
            while True:
                if waiting is not None:
                    await waiting
                if not queue:
                    return
                message = queue.take()
                waiting = self._send_on(client, message)
        except Exception as error:  # noqa: BLE001 (one client's error is not the others')
            self._cannot_send(client, error)
        finally:
            self._queues.pop(client, None)
            queue.empty.set()

    def _cannot_send(self, client: Channel, error: Exception) -> None:
        # The client's own serve task ends with the same error, and it resyncs.
        self._log.info("A client of room %s cannot be sent to: %s", client.path, error)

    def _drop_slow(self, client: Channel, queue: _Queue) -> None:
        self._dropped.add(client)
        queue.messages.clear()
        queue.answer.clear()
        self._on_drop(
            f"A client of room {client.path} does not read: more than {self._queue_max_bytes} "
            "bytes waited for it. It is disconnected, and gets what it lacks when it connects again"
        )
        self._drop(client)
