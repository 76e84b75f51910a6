"""A member of a share that means harm, with its account in Redis, delays no other document."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.fixtures import start_pair
from support.latency import Health, Latency, memory_of
from support.members import ATTACKS, member
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

SECONDS = 6.0
MOST_MEMORY = 1_000_000_000


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_member_delays_no_other_document(
    make_server: MakeServer, confined_redis: RedisServer, shared_folder: Path, attack: str
):
    write_notebook(shared_folder / "bystander.ipynb", [""])
    (shared_folder / "victim.txt").write_text("v" * 10_000)
    a, b = servers = await start_pair(make_server, confined_redis, watched=True)
    victim = await a.session("victim.txt", "text", "file")
    bystander = await a.session("bystander.ipynb")
    pids = a.pid, b.pid
    async with (
        RtcClient(a, bystander, name="eve") as eve,
        RtcClient(b, bystander, name="joe") as joe,
        RtcClient(a, victim, name="ann"),
        RtcClient(b, victim, name="bob"),
    ):
        latency = Latency(eve, joe, servers=servers)
        await until(lambda: latency.typed > 10, what="the first keystrokes")
        latency.reset()
        before = max(map(memory_of, servers))
        health = [Health(server) for server in servers]
        async with member(confined_redis, attack, victim.room_id) as rounds:
            await asyncio.sleep(SECONDS)
        # What is left of it.
        await asyncio.sleep(1)
        for one in health:
            await one.stop()
        await latency.stop()
        grown = max(one.memory for one in health) - before
        print(
            f"{attack}: {rounds[0]} rounds, worst keystroke {latency.worst:.2f} s "
            f"({latency.worst_work:.2f} s of work), "
            f"health {max(one.worst for one in health):.2f} s "
            f"({max(one.worst_work for one in health):.2f} s of work), memory {grown / 1e6:+.0f} MB"
        )
        latency.assert_nobody_waited("a keystroke")
        for one in health:
            one.assert_nobody_waited("who asked for health")
            assert not one.others
        assert grown < MOST_MEMORY
        assert (a.pid, b.pid) == pids
        await equal([eve, joe])
        for client in (eve, joe):
            client.assert_undisturbed()
            assert not client.closures
