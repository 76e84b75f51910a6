"""Connections to Redis, and what remains in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

ROOMS = 300
CONNECTIONS_PER_SERVER = 3
PREFIX = "teleportal:sync:"
# What a share keeps for good: which file has which id, and what the share is.
KEPT_OF_A_SHARE = ("files", "paths", "about")


def connections(redis_server: RedisServer) -> list[dict[str, str]]:
    """All connections but our own."""
    with redis_server.cli() as client:
        return [entry for entry in client.client_list() if entry["name"] != "test"]


async def test_connections_do_not_grow_with_rooms(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    for number in range(ROOMS):
        (shared_folder / f"{number}.txt").write_text(f"file {number}\n")
    a, b = await start_pair(make_server, redis_server, probe=True)
    most = 0

    async def open_on(server: JupyterProcess, numbers: range) -> None:
        nonlocal most
        for number in numbers:
            document = {"path": f"{number}.txt", "content_type": "file", "file_format": "text"}
            reply = await server.call(
                "POST", "/api/probe/document", body={**document, "create": True}, timeout=60
            )
            assert reply["source"] == f"file {number}\n"
            if number % 25 == 0:
                most = max(most, len(connections(redis_server)))

    await asyncio.gather(
        open_on(a, range(0, ROOMS, 2)),
        open_on(a, range(1, ROOMS, 2)),
        open_on(b, range(0, ROOMS, 2)),
        open_on(b, range(1, ROOMS, 2)),
    )
    assert len((await a.status())["rooms"]) == ROOMS
    assert len((await b.status())["rooms"]) == ROOMS
    # A document in use among all of them.
    async with (
        RtcClient(a, await a.session("7.txt", "text", "file"), name="ann") as ann,
        RtcClient(b, await b.session("7.txt", "text", "file"), name="bob") as bob,
    ):
        await ann.type_text("typed", hz=20)
        await equal([ann, bob], timeout=2)
    present = connections(redis_server)
    assert 2 <= len(present) <= 2 * CONNECTIONS_PER_SERVER, present
    assert most <= 2 * CONNECTIONS_PER_SERVER


async def test_closed_rooms_leave_nothing_for_good(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    a, b = await start_pair(
        make_server, redis_server, config={"YDocExtension": {"document_cleanup_delay": 0.3}}
    )
    names = [f"closed-{number}.ipynb" for number in range(5)]
    for name in names:
        write_notebook(shared_folder / name, ["x"])
        async with (
            RtcClient(a, await a.session(name), name="ann") as ann,
            RtcClient(b, await b.session(name), name="bob") as bob,
        ):
            ann.write("1")
            bob.write("2")
            await equal([ann, bob])
            path = shared_folder / name
            await until(lambda path=path: file_sources(path) == ann.sources, what="the save")

    async def closed_everywhere() -> bool:
        return not (await a.status())["rooms"] and not (await b.status())["rooms"]

    await until(closed_everywhere, what="closed rooms", poll=0.1)

    def without_expiry() -> list[str]:
        with redis_server.cli() as client:
            return sorted(
                key.decode() for key in client.scan_iter(count=1000) if client.pttl(key) == -1
            )

    allowed = {f"{PREFIX}default:{name}" for name in KEPT_OF_A_SHARE}

    def only_what_is_documented() -> bool:
        # Session and replicas are of the cluster, which is still up.
        kept = set(without_expiry()) - {f"{PREFIX}session", f"{PREFIX}replicas"}
        return kept <= allowed

    try:
        await until(only_what_is_documented, timeout=10, what="expiries")
    except AssertionError as error:
        raise AssertionError(f"{error}; kept for good: {without_expiry()}") from None

    # And the documents open again as they were.
    async with RtcClient(b, await b.session(names[0]), name="bob") as bob:
        assert sorted(bob.sources[0]) == ["1", "2", "x"]
