"""A client that means harm delays nobody else by more than half a second, and leaves nothing."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from support.attackers import Attack, attackers
from support.conflicts import insertions
from support.fixtures import start_pair
from support.hostile import (
    BINARY,
    PING,
    QUESTION,
    TEXT,
    awareness,
    frame,
    state_vector,
    sync,
    updates,
)
from support.latency import Health, Latency, memory_of
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer

DOCUMENT_BYTES = 3_000_000
SECONDS = 6.0
MOST_MEMORY = 400_000_000
SEED = 20_261_127


def questions() -> Attack:
    return Attack(1, False, frame(QUESTION) * 10_000)


def questions_read() -> Attack:
    return Attack(1, True, frame(QUESTION) * 10_000)


def different_questions() -> Attack:
    chance = random.Random(SEED)
    vectors = [state_vector(20, chance.randrange(1, 2**31)) for _ in range(5000)]
    return Attack(1, True, b"".join(frame(sync(0, vector)) for vector in vectors))


def questions_of_fifty() -> Attack:
    return Attack(50, True, different_questions().block)


def edits() -> Attack:
    return Attack(1, True, b"".join(map(frame, (sync(2, one) for one in updates(20_000)))))


def edits_of_fifty() -> Attack:
    return Attack(50, True, edits().block)


def large_edits() -> Attack:
    return Attack(1, True, frame(sync(2, updates(1, text="x" * 5_000_000)[0])))


def cursor_moves() -> Attack:
    return Attack(1, True, b"".join(frame(awareness([7], clock)) for clock in range(1, 20_000)))


def cursor_moves_of_fifty() -> Attack:
    return Attack(50, True, cursor_moves().block)


def many_cursors() -> Attack:
    thousands = (range(n * 1000, n * 1000 + 1000) for n in range(1, 50))
    return Attack(1, True, b"".join(frame(awareness(one, 1, "{}")) for one in thousands))


def a_huge_cursor() -> Attack:
    return Attack(1, True, frame(awareness([7], 1, '{"a": "' + "x" * 5_000_000 + '"}')))


def giant_state_vectors() -> Attack:
    return Attack(1, True, frame(sync(0, state_vector(2_000_000))))


def crowds() -> Attack:
    """Ten thousand insertions of as many people at one place, again and again."""
    clients = (range(first, first + 10_000) for first in range(5_000_000, 5_200_000, 10_000))
    crowds = (insertions(some, left=lambda _: None) for some in clients)
    return Attack(1, True, b"".join(frame(sync(2, one)) for one in crowds))


def small_crowds() -> Attack:
    """Forty insertions at one place in each message, which nobody has to try."""
    clients = (range(first, first + 40) for first in range(5_000_000, 5_200_000, 40))
    crowds = (insertions(some, left=lambda _: None) for some in clients)
    return Attack(1, True, b"".join(frame(sync(2, one)) for one in crowds))


def text_frames() -> Attack:
    return Attack(1, True, frame(b"hello", TEXT) * 10_000)


def pings() -> Attack:
    return Attack(1, False, frame(b"x" * 125, PING) * 10_000)


def fragments() -> Attack:
    pieces = frame(QUESTION[:2], BINARY, final=False) + frame(QUESTION[2:], 0)
    return Attack(1, True, pieces * 10_000)


def empty_messages() -> Attack:
    return Attack(1, True, frame(b"") * 30_000)


def garbage() -> Attack:
    chance = random.Random(SEED)
    return Attack(
        1, True, b"".join(frame(chance.randbytes(chance.randrange(60))) for _ in range(20_000))
    )


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
    crowds,
    small_crowds,
    text_frames,
    pings,
    fragments,
    empty_messages,
    garbage,
]


async def victim(server: JupyterProcess, folder: Path) -> Session:
    (folder / "victim.txt").write_text("v" * DOCUMENT_BYTES)
    return await server.session("victim.txt", "text", "file")


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_delays_nobody_else(
    make_server: MakeServer,
    redis_server: RedisServer,
    shared_folder: Path,
    tmp_path: Path,
    attack: Callable[[], Attack],
):
    write_notebook(shared_folder / "bystander.ipynb", [""])
    a, b = servers = await start_pair(make_server, redis_server, watched=True)
    session, bystander = await victim(a, shared_folder), await a.session("bystander.ipynb")
    pids = a.pid, b.pid
    async with (
        RtcClient(a, bystander, name="eve") as eve,
        RtcClient(b, bystander, name="joe") as joe,
        # Somebody honest has the attacked document open.
        RtcClient(b, session, name="bob") as bob,
    ):
        latency = Latency(eve, joe, servers=servers)
        what = await asyncio.to_thread(attack)
        await until(lambda: latency.typed > 10, what="the first keystrokes")
        latency.reset()
        before, health = memory_of(a), Health(a)
        async with attackers(a, session, what, tmp_path, SECONDS) as outcome:
            await asyncio.sleep(SECONDS)
        await health.stop()
        await latency.stop()
        grown = health.memory - before
        print(
            f"{attack.__name__}: worst keystroke {latency.worst:.2f} s "
            f"({latency.worst_work:.2f} s of work), health {health.worst:.2f} s "
            f"({health.worst_work:.2f} s of work), memory {grown / 1e6:+.0f} MB, "
            f"{outcome.sent / 1e6:.0f} MB sent, closed {outcome.closed_with[:1]}"
        )
        latency.assert_nobody_waited("a keystroke")
        health.assert_nobody_waited("who asked for health")
        assert not health.others
        assert grown < MOST_MEMORY
        assert (a.pid, b.pid) == pids
        await equal([eve, joe])
        for client in (eve, joe, bob):
            client.assert_undisturbed()
            assert not client.closures
