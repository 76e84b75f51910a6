"""A browser that does not read costs nobody anything, and gets all of it when it reads again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import redis
from support.fixtures import start_pair
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

QUEUE_BYTES = 4_000_000
OUTPUT_BYTES = 2_000_000


async def test_a_browser_that_does_not_read_is_dropped_and_resyncs(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    write_notebook(shared_folder / "slow.ipynb", ["", ""])
    a, b = await start_pair(
        make_server,
        redis_server,
        config={"TeleportalExtension": {"client_queue_max_bytes": QUEUE_BYTES}},
    )
    session = await a.session("slow.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
        RtcClient(b, session, name="eve") as eve,
    ):
        assert eve._connection is not None
        eve._connection.transport.pause_reading()
        eve.write("from eve ", cell=1)
        for number in range(20):
            ann.set_output(0, f"{number:x}" * OUTPUT_BYTES)
            await equal([ann, bob], timeout=10)
        dropped = (await b.status())["counters"]
        assert dropped["slow_clients"] == 1
        assert "slow_clients" not in (await a.status())["counters"]
        assert b.grep("does not read")
        # Its socket is closed at the other end; a browser notices when it reads or writes again.
        eve._connection.transport.abort()
        await until(lambda: len(eve.closures) == 1, what="the lost connection")
        await eve.wait_synced()
        await equal([ann, bob, eve], timeout=10)
        assert not bob.closures
        eve.assert_undisturbed()


async def test_outputs_of_any_size_never_fill_a_subscription(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    """Redis cuts a subscriber off that has 32 MB waiting, or 8 MB for a minute."""
    write_notebook(shared_folder / "big.ipynb", [""])
    a, b = await start_pair(make_server, redis_server)
    session = await a.session("big.ipynb")
    most = 0
    client = redis.asyncio.Redis(port=redis_server.port)

    async def watch() -> None:
        nonlocal most
        while True:
            for one in await client.client_list(_type="pubsub"):
                most = max(most, int(one["omem"]))
            await asyncio.sleep(0.005)

    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        watching = asyncio.create_task(watch())
        for number in range(5):
            ann.set_output(0, f"{number:x}" * 20_000_000)
            await equal([ann, bob], timeout=20)
        watching.cancel()
    await client.aclose()
    assert most < 8_000_000
    for server in (a, b):
        assert not server.grep("cannot be reached"), server.log_tail()
