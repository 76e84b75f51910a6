"""What a member of a share has written into its keys keeps nobody from working and saving."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import redis
    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer

PREFIX = "teleportal:sync:default:"
FAR = 2**53 - 1
TIMES = {"heartbeat_interval_s": 0.5, "dead_after_s": 1.5, "lease_ttl_s": 2}
SAVED_WITHIN_S = 3 * TIMES["lease_ttl_s"] + 10
"""Twice the lease until the forged one is let go, once more for whom it may have been; and what a
busy machine needs."""
LEASES = {
    "of a server that is not there": ("forged", {"px": 15_000}),
    "that does not end": ("forged", {}),
    "of the server itself, with a far fence": (None, {"px": 15_000}),
}


def as_member(redis_server: RedisServer) -> redis.Redis:
    return redis_server.cli(username=redis_server.ACCOUNT, password=redis_server.PASSWORD)


async def saver_of(server: JupyterProcess, session: Session) -> str:
    rooms = (await server.status())["rooms"]
    (saver,) = [room["saver"] for room in rooms if room["room"] == session.room_id]
    return str(saver)


@pytest.mark.parametrize("lease", LEASES)
async def test_a_forged_lease_delays_saving_and_no_more(
    make_server: MakeServer, confined_redis: RedisServer, shared_folder: Path, lease: str
):
    file = shared_folder / "doc.ipynb"
    write_notebook(file, ["start"])
    servers = a, b = await start_pair(
        make_server, confined_redis, config={"TeleportalExtension": TIMES}
    )
    session = await a.session("doc.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, await b.session("doc.ipynb"), name="bob") as bob,
    ):
        ann.write(" of ann")
        await until(lambda: file_sources(file) == ["start of ann"], 15, what="the first save")
        holder, more = LEASES[lease]
        name = holder or await saver_of(a, session)
        with as_member(confined_redis) as member:
            room = f"{PREFIX}{{{session.room_id}}}"
            member.set(f"{room}:saver", f"{name} {FAR}", **more)
            member.hset(f"{room}:saved", "fence", str(FAR))
            member.hset(f"{PREFIX}about", "epoch", str(FAR))
        bob.write(" of bob")
        await equal([ann, bob])
        await until(
            lambda: file_sources(file) == ["start of ann of bob"],
            SAVED_WITHIN_S,
            what="the next save",
        )

        async def one_saver() -> bool:
            savers = {await saver_of(server, session) for server in servers}
            replicas = {(await server.status())["replica"] for server in servers}
            return len(savers) == 1 and savers <= replicas

        await until(one_saver, SAVED_WITHIN_S, what="one saver")
        for client in (ann, bob):
            client.assert_undisturbed()
    assert not [name for name in os.listdir(shared_folder) if "conflict" in name]


async def test_keys_of_the_wrong_kind_in_a_room_that_nobody_has_opened_yet(
    make_server: MakeServer, confined_redis: RedisServer, shared_folder: Path
):
    names = [
        f"{key}-{kind}"
        for key in ("log", "checkpoint", "saved", "saver")
        for kind in ("string", "hash", "stream", "zset")
    ]
    for name in names:
        write_notebook(shared_folder / f"{name}.ipynb", ["start"])
    a, b = await start_pair(make_server, confined_redis)
    with as_member(confined_redis) as member:
        for name in names:
            key, kind = name.split("-")
            session = await a.session(f"{name}.ipynb")
            at = f"{PREFIX}{{{session.room_id}}}:{key}"
            if kind == "string":
                member.set(at, "forged")
            elif kind == "hash":
                member.hset(at, "forged", "forged")
            elif kind == "stream":
                member.xadd(at, {"forged": "forged"})
            else:
                member.zadd(at, {"forged": 1})
    async with AsyncExitStack() as stack:
        for name in names:
            path = f"{name}.ipynb"
            ann = await stack.enter_async_context(
                RtcClient(a, await a.session(path), name=f"ann {name}")
            )
            bob = await stack.enter_async_context(
                RtcClient(b, await b.session(path), name=f"bob {name}")
            )
            ann.write(" of ann")
            await until(lambda bob=bob: bob.sources == ["start of ann"], 20, what=name)
            bob.write(" of bob")
            await equal([ann, bob])
            await until(
                lambda path=path: file_sources(shared_folder / path) == ["start of ann of bob"],
                20,
                what=f"the file of {name}",
            )
            ann.assert_undisturbed()
            bob.assert_undisturbed()
        for server in (a, b):

            async def well(server: JupyterProcess = server) -> bool:
                health = await server.call("GET", "/api/teleportal/health")
                return bool(health["status"] == "ok")

            await until(well, 20, what="that all is well")
    assert not [name for name in os.listdir(shared_folder) if "conflict" in name]
