"""A client that means harm delays nobody else by more than half a second, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from support.hostile import (
    BINARY,
    PING,
    QUESTION,
    TEXT,
    Hostile,
    awareness,
    frame,
    state_vector,
    sync,
    updates,
)
from support.latency import Latency
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.jupyter_process import JupyterProcess, Session

DOCUMENT_BYTES = 3_000_000
SECONDS = 6.0
# docs/guarantees.md has what was measured, each attack alone on a quiet machine: below 0.5 s. Here
# other tests run beside it, so these bounds tell a standstill (seconds, gigabytes) from a busy one.
MOST_WAIT_S = 2.0
MOST_MEMORY = 400_000_000
SEED = 20_261_127


def rss(server: JupyterProcess) -> int:
    assert server.pid is not None
    return int(psutil.Process(server.pid).memory_info().rss)


class Health:
    """Asks a server for its health all the time.

    Attributes:
        worst: the longest time until an answer, in seconds.
        answers: the answers that were other than ok.
    """

    def __init__(self, server: JupyterProcess) -> None:
        self.server = server
        self.worst = 0.0
        self.memory = 0
        self.others: list[str] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            reply = await self.server.request("GET", "/api/teleportal/health", timeout=60)
            self.worst = max(self.worst, time.monotonic() - began)
            self.memory = max(self.memory, rss(self.server))
            if reply.json() != {"status": "ok"}:
                self.others.append(reply.text)
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


Attack = tuple[int, bool, bytes]
"""How many connections, whether they read, and what each of them sends over and over again."""


def questions() -> Attack:
    return 1, False, frame(QUESTION) * 10_000


def questions_read() -> Attack:
    return 1, True, frame(QUESTION) * 10_000


def different_questions() -> Attack:
    chance = random.Random(SEED)
    vectors = [state_vector(20, chance.randrange(1, 2**31)) for _ in range(5000)]
    return 1, True, b"".join(frame(sync(0, vector)) for vector in vectors)


def questions_of_fifty() -> Attack:
    return 50, True, different_questions()[2]


def edits() -> Attack:
    return 1, True, b"".join(map(frame, (sync(2, one) for one in updates(20_000))))


def edits_of_fifty() -> Attack:
    return 50, True, edits()[2]


def large_edits() -> Attack:
    return 1, True, frame(sync(2, updates(1, text="x" * 5_000_000)[0]))


def cursor_moves() -> Attack:
    return 1, True, b"".join(frame(awareness([7], clock)) for clock in range(1, 20_000))


def cursor_moves_of_fifty() -> Attack:
    return 50, True, cursor_moves()[2]


def many_cursors() -> Attack:
    return (
        1,
        True,
        b"".join(frame(awareness(range(n * 1000, n * 1000 + 1000), 1, "{}")) for n in range(1, 50)),
    )


def a_huge_cursor() -> Attack:
    return 1, True, frame(awareness([7], 1, '{"a": "' + "x" * 5_000_000 + '"}'))


def giant_state_vectors() -> Attack:
    return 1, True, frame(sync(0, state_vector(2_000_000)))


def text_frames() -> Attack:
    return 1, True, frame(b"hello", TEXT) * 10_000


def pings() -> Attack:
    return 1, False, frame(b"x" * 125, PING) * 10_000


def fragments() -> Attack:
    pieces = frame(QUESTION[:2], BINARY, final=False) + frame(QUESTION[2:], 0)
    return 1, True, pieces * 10_000


def empty_messages() -> Attack:
    return 1, True, frame(b"") * 30_000


def garbage() -> Attack:
    chance = random.Random(SEED)
    return 1, True, b"".join(frame(chance.randbytes(chance.randrange(60))) for _ in range(20_000))


ATTACKS = [
    questions,
    questions_read,
    different_questions,
    questions_of_fifty,
    edits,
    edits_of_fifty,
    large_edits,
    cursor_moves,
    cursor_moves_of_fifty,
    many_cursors,
    a_huge_cursor,
    giant_state_vectors,
    text_frames,
    pings,
    fragments,
    empty_messages,
    garbage,
]


async def victim(server: JupyterProcess, folder: Path) -> Session:
    (folder / "victim.txt").write_text("v" * DOCUMENT_BYTES)
    return await server.session("victim.txt", "text", "file")


@contextlib.asynccontextmanager
async def attackers(
    server: JupyterProcess, session: Session, attack: Attack, seconds: float = SECONDS
) -> AsyncIterator[list[Hostile]]:
    """The attack goes on inside; its threads leave the event loop of the test alone."""
    count, reads, block = attack
    hostile = [Hostile.of(server, session, reads=reads) for _ in range(count)]

    def begin() -> None:
        for one in hostile:
            one.connect()
        for one in hostile:
            one.flood(block, seconds)

    try:
        await asyncio.to_thread(begin)
        yield hostile
    finally:
        for one in hostile:
            await asyncio.to_thread(one.close)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_delays_nobody_else(
    servers: tuple[JupyterProcess, JupyterProcess],
    shared_folder: Path,
    attack: Callable[[], Attack],
):
    write_notebook(shared_folder / "bystander.ipynb", [""])
    a, b = servers
    session, bystander = await victim(a, shared_folder), await a.session("bystander.ipynb")
    pids = a.pid, b.pid
    async with (
        RtcClient(a, bystander, name="eve") as eve,
        RtcClient(b, bystander, name="joe") as joe,
        # Somebody honest has the attacked document open.
        RtcClient(b, session, name="bob") as bob,
    ):
        latency = Latency(eve, joe)
        block = await asyncio.to_thread(attack)
        await until(lambda: latency.typed > 10, what="the first keystrokes")
        latency.worst, before = 0.0, rss(a)
        health = Health(a)
        async with attackers(a, session, block) as hostile:
            await asyncio.sleep(SECONDS)
            worst, grown = latency.worst, health.memory - before
            sent = sum(one.sent for one in hostile)
        await health.stop()
        await latency.stop()
        print(
            f"{attack.__name__}: worst keystroke {worst:.2f} s, health {health.worst:.2f} s, "
            f"memory {grown / 1e6:+.0f} MB, {sent / 1e6:.0f} MB sent, "
            f"closed {[one.closed_with for one in hostile if one.closed_with][:1]}"
        )
        assert worst < MOST_WAIT_S, f"a keystroke waited for {worst:.2f} s"
        assert not health.others
        assert grown < MOST_MEMORY
        assert (a.pid, b.pid) == pids
        await equal([eve, joe])
        for client in (eve, joe, bob):
            client.assert_undisturbed()
            assert not client.closures
