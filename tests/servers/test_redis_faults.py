"""Redis is away, comes, goes and comes back."""

from __future__ import annotations

import asyncio
import string
from typing import TYPE_CHECKING

import pytest
from support.cluster import assert_no_out_of_band, transport_state, wait_connected
from support.fixtures import start_pair
from support.notebooks import file_sources, is_subsequence, write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient, equal
from support.tcp_proxy import TcpProxy
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess


SHARES = {"open": (), "under a confined account": ("default",)}


@pytest.fixture(params=SHARES)
def late_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that is not started yet."""
    server = RedisServer(tmp_path / "redis", shares=SHARES[request.param])
    yield server
    server.kill()


@pytest.fixture
def redis_server(late_redis: RedisServer) -> RedisServer:
    """One that is."""
    late_redis.start()
    return late_redis


async def not_connected(server: JupyterProcess) -> bool:
    return await transport_state(server) in ("degraded", "local")


async def test_redis_is_not_reachable_at_start(
    make_server: MakeServer, shared_folder: Path, late_redis: RedisServer
):
    path = shared_folder / "early.ipynb"
    write_notebook(path, ["start"])
    try:
        a = await make_server(redis_server=late_redis)
        assert await not_connected(a)
        session = await a.session("early.ipynb")
        async with RtcClient(a, session, name="ann") as ann:
            ann.write(" alone")
            assert (await ann.save())["status"] == "success"
            assert file_sources(path) == ["start alone"]

            late_redis.start()
            await wait_connected(a)
            b = await make_server(redis_server=late_redis)
            async with RtcClient(b, await b.session("early.ipynb"), name="bob") as bob:
                await ann.wait_synced()
                await equal([ann, bob])
                assert bob.sources == ["start alone"]
                bob.write(" together")
                await equal([ann, bob])
                assert ann.sources == ["start alone together"]
                ann.assert_undisturbed()
    finally:
        late_redis.kill()


async def test_document_opened_on_both_servers_while_redis_is_away(
    make_server: MakeServer, shared_folder: Path, late_redis: RedisServer
):
    sources = ["first", "second", "third"]
    write_notebook(shared_folder / "split.ipynb", sources, with_ids=False)
    try:
        a, b = await start_pair(make_server, late_redis)
        # Each server has its own id and its own history of this file so far.
        async with (
            RtcClient(a, await a.session("split.ipynb"), name="ann") as ann,
            RtcClient(b, await b.session("split.ipynb"), name="bob") as bob,
        ):
            assert ann.sources == bob.sources == sources
            late_redis.start()
            await wait_connected(a, b)
            # What a user sees who opens the document from now on, on either server.
            async with (
                RtcClient(a, await a.session("split.ipynb"), name="eve") as eve,
                RtcClient(b, await b.session("split.ipynb"), name="joe") as joe,
            ):
                await equal([eve, joe])
                assert eve.sources == sources
                eve.write(" edited", cell=1)
                await equal([eve, joe])
                assert joe.sources == ["first", "second edited", "third"]
                await until(
                    lambda: file_sources(shared_folder / "split.ipynb") == joe.sources,
                    what="the saved file",
                )
    finally:
        late_redis.kill()


async def type_through_a_fault(
    pair: tuple[JupyterProcess, JupyterProcess], path: Path, fault, repair
) -> None:
    """Two clients type before, during and after a fault; then nobody does anything."""
    write_notebook(path, ["", "", ""])
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    async with (
        RtcClient(pair[0], await pair[0].session(path.name), name="ann") as ann,
        RtcClient(pair[1], await pair[1].session(path.name), name="bob") as bob,
    ):
        await asyncio.gather(ann.type_text(lower, hz=50), bob.type_text(upper, hz=50))
        await equal([ann, bob])
        await fault()
        await asyncio.gather(
            ann.type_text(lower, cell=1, hz=10),
            bob.type_text(upper, cell=1, hz=10),
        )
        bob.insert_cell("inserted by bob", index=2)
        # Editing goes on for everyone, on their own server.
        assert not ann.closures
        assert not bob.closures
        await repair()
        await wait_connected(*pair)
        await equal([ann, bob], timeout=5)
        assert len(ann.sources) == 4
        for cell in (0, 1):
            assert is_subsequence(lower, ann.sources[cell]), ann.sources
            assert is_subsequence(upper, ann.sources[cell]), ann.sources
            assert len(ann.sources[cell]) == 52, ann.sources
        assert ann.sources[2] == "inserted by bob"
        await until(lambda: file_sources(path) == ann.sources, timeout=15, what="the saved file")
        await equal([ann, bob])
        ann.assert_undisturbed()
        bob.assert_undisturbed()


async def test_redis_is_cut_off_and_back(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    async with TcpProxy(redis_server.port) as proxy:
        pair = await start_pair(
            make_server, redis_server, redis_url=redis_server.url_at(proxy.port)
        )

        async def cut() -> None:
            await proxy.cut()
            for server in pair:
                await until(
                    lambda server=server: not_connected(server), what="a degraded server", poll=0.1
                )

        await type_through_a_fault(pair, shared_folder / "cut.ipynb", cut, proxy.heal)
        assert_no_out_of_band(*pair)


async def test_only_one_server_is_cut_off(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    async with TcpProxy(redis_server.port) as proxy:
        a = await make_server(redis_url=redis_server.url_at(proxy.port))
        b = await make_server(redis_server=redis_server)
        await type_through_a_fault((a, b), shared_folder / "one-cut.ipynb", proxy.cut, proxy.heal)


async def test_redis_stalls_and_goes_on(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    pair = await start_pair(make_server, redis_server)

    async def pause() -> None:
        redis_server.pause()

    async def resume() -> None:
        redis_server.resume()

    await type_through_a_fault(pair, shared_folder / "stall.ipynb", pause, resume)


async def test_redis_comes_back_empty(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    pair = await start_pair(make_server, redis_server)

    async def kill() -> None:
        redis_server.kill()

    async def start_empty() -> None:
        redis_server.restart(keep_data=False)

    await type_through_a_fault(pair, shared_folder / "emptied.ipynb", kill, start_empty)
