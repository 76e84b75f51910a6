"""Clients' questions for what they lack: one answer at a time, in order, within the bounds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from pycrdt import Awareness, Doc
from support.hostile import awareness
from support.waiting import until

from jupyter_teleportal.clients.fanout import Fanout
from jupyter_teleportal.clients.guard import Cursors
from jupyter_teleportal.clients.turns import ClientTurns
from jupyter_teleportal.core.client_limits import ClientLimits
from jupyter_teleportal.core.errors import OverLimits

QUESTIONS = 400
LARGE = b"L" * 1_000_000


class Client:
    """A client that takes what it is sent only when it is let."""

    path = "room"

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.takes: asyncio.Future[None] | None = None

    def reads(self) -> None:
        takes, self.takes = self.takes, None
        if takes is not None:
            takes.set_result(None)


class Room:
    def __init__(self, count: int = 1) -> None:
        self.clients = [Client() for _ in range(count)]
        self.answered: list[bytes] = []
        self.failures: list[Exception] = []
        self.fanout = Fanout(
            self.clients,  # type: ignore[arg-type]
            logging.getLogger(),
            queue_max_bytes=10_000_000,
            turns=ClientTurns(0.01),
            send=self._send,  # type: ignore[arg-type]
        )

    def _send(self, client: Client, message: bytes) -> Awaitable[None]:
        client.got.append(message)
        client.takes = asyncio.get_running_loop().create_future()
        return client.takes

    def answer(self, state: bytes) -> list[bytes]:
        self.answered.append(state)
        return [LARGE, b"rest"]

    async def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def ask(self, client: Client, state: bytes, answer: Any = None) -> None:
        self.fanout.ask(client, state, answer or self.answer, self.failed)  # type: ignore[arg-type]


async def test_of_questions_that_wait_the_newest_is_answered_when_the_answer_before_is_taken():
    room = Room()
    (client,) = room.clients
    for number in range(QUESTIONS):
        room.ask(client, b"%d" % number)
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert len(room.answered) == 1
    assert sum(map(len, client.got)) == len(LARGE)
    for _ in range(6):
        client.reads()
        await asyncio.sleep(0.01)
    assert len(room.answered) == 2
    assert room.answered[-1] == b"%d" % (QUESTIONS - 1)


async def test_what_is_said_after_an_answer_comes_after_it():
    room = Room()
    (client,) = room.clients
    room.ask(client, b"state")
    await until(lambda: client.got)
    room.fanout.broadcast(b"after")
    for _ in range(3):
        client.reads()
        await asyncio.sleep(0.01)
    assert client.got == [LARGE, b"rest", b"after"]


async def test_the_same_question_of_many_is_answered_once():
    room = Room(50)
    for client in room.clients:
        room.ask(client, b"state")
    await until(lambda: all(client.got for client in room.clients))
    assert len(room.answered) == 1


async def test_answers_take_turns():
    room, turn = Room(30), 0
    answered_in: list[int] = []

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def slow(state: bytes) -> list[bytes]:
        answered_in.append(turn)
        time.sleep(0.005)
        return [state]

    counting = asyncio.create_task(count())
    for number, client in enumerate(room.clients):
        room.ask(client, b"%d" % number, slow)
    await until(lambda: len(answered_in) == len(room.clients))
    counting.cancel()
    # A turn has 10 ms.
    assert max(map(answered_in.count, answered_in)) <= 3


async def test_nobody_answers_who_has_gone_and_an_error_is_told():
    room = Room(2)
    gone, there = room.clients
    room.ask(gone, b"state")
    room.clients.remove(gone)

    def fails(state: bytes) -> list[bytes]:
        raise ValueError("no")

    room.ask(there, b"other", fails)
    await until(lambda: room.failures)
    assert not gone.got
    assert not room.answered


async def test_a_flood_leaves_every_other_turn_to_whoever_types():
    turns = ClientTurns(0.01)
    handled = 0
    meanwhile: list[int] = []
    stop = False

    async def flood(client: object) -> None:
        nonlocal handled
        while not stop:
            await turns.enter(client)
            handled += 1
            time.sleep(0.01)  # noqa: ASYNC251 (it holds the loop, as handling a message does)
            turns.spend(client, 0.01)
            await asyncio.sleep(0)

    class Someone:
        pass

    floods = [asyncio.create_task(flood(Someone())) for _ in range(50)]
    typist = Someone()
    await asyncio.sleep(0.2)
    for _ in range(10):
        before = handled
        for _ in range(3):
            # A keystroke takes a few turns of the loop.
            await asyncio.sleep(0)
        await turns.enter(typist)
        turns.spend(typist, 0.0001)
        meanwhile.append(handled - before)
        await asyncio.sleep(0.02)
    stop = True
    await asyncio.gather(*floods)
    # Without turns it is three times fifty messages. The first has not typed before.
    assert sorted(meanwhile)[5] < 15, meanwhile


def test_cursors_of_one_connection_are_counted_for_as_long_as_it_lives():
    cursors = Cursors(ClientLimits(client_cursors_max=3, client_cursor_max_bytes=100))
    room, me = Awareness(Doc()), object()

    def send(*clients: int, state: str = "{}") -> None:
        cursors.check(me, awareness(clients, 1, state)[2:], room.meta)

    send(1)
    cursors.bring(me, [1])
    send(2, 3)
    with pytest.raises(OverLimits, match="client_cursors_max"):
        send(2, 3, 4)
    cursors.bring(me, [2, 3])
    send(1, 2, 3)
    with pytest.raises(OverLimits, match="client_cursors_max"):
        send(5)
    with pytest.raises(OverLimits, match="client_cursor_max_bytes"):
        send(1, state='{"a": "' + "x" * 110 + '"}')
    assert cursors.leave(me) == {1, 2, 3}
    send(7, 8, 9)
