"""Servers die by `kill -9`."""

from __future__ import annotations

import asyncio
import string
import time
from typing import TYPE_CHECKING

from support.cluster import acknowledged, saver_of
from support.fixtures import start_pair
from support.notebooks import file_sources, is_subsequence, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

FAILOVER_SECONDS = 15


async def test_saver_is_killed_while_a_client_types_on_it(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "failover.ipynb"
    write_notebook(path, [""])
    session = await servers[0].session("failover.ipynb")
    bob = RtcClient(servers[1], session, name="bob")
    async with RtcClient(servers[0], session, name="first"), bob:
        saver, (other,) = await saver_of(servers, session.room_id)
        # A typist on the saver, whichever server that is; the tab knows both.
        async with (
            RtcClient([saver, other], session, name="ann") as ann,
            RtcClient(other, session, name="eve") as eve,
        ):
            text = (string.ascii_letters * 2)[:60]
            typing = asyncio.create_task(ann.type_text(text, hz=10))
            await until(lambda: len(eve.sources[0]) > 20, what="the first keystrokes")
            saver.kill()
            killed_at = time.monotonic()
            await typing
            await ann.wait_synced(timeout=10)
            assert ann.server is other
            await equal([ann, eve])
            assert ann.sources == [text]
            ann.assert_undisturbed()
            eve.assert_undisturbed()
            assert not eve.closures
            left = FAILOVER_SECONDS - (time.monotonic() - killed_at)
            now_saver, _ = await saver_of([other], session.room_id, timeout=left)
            assert now_saver is other
            left = FAILOVER_SECONDS - (time.monotonic() - killed_at)
            await until(lambda: file_sources(path) == [text], timeout=left, what="the saved file")


async def test_all_servers_are_killed_with_unsaved_edits(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "unsaved.ipynb"
    write_notebook(path, ["saved"])
    a, b = await start_pair(
        make_server, redis_server, config={"YDocExtension": {"document_save_delay": 7}}
    )
    session = await a.session("unsaved.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write(" and ann's edit")
        bob.insert_cell("bob's cell")
        await equal([ann, bob])
        await acknowledged(a, session.room_id)
        await acknowledged(b, session.room_id)
        a.kill()
        b.kill()
    assert file_sources(path) == ["saved"], "saved too early for this test"
    expected = ["saved and ann's edit", "bob's cell"]

    # A server that has never run before: all it can know comes from Redis.
    c = await make_server(redis_server=redis_server)
    async with RtcClient(c, await c.session("unsaved.ipynb"), name="eve") as eve:
        assert isinstance(eve.first_sync, dict)
        assert [cell["source"] for cell in eve.first_sync["cells"]] == expected
        # Nobody edits; the leases of the dead have to end first.
        await until(
            lambda: file_sources(path) == expected, timeout=15, what="the unsaved edits on disk"
        )
        assert eve.sources == expected
        eve.assert_undisturbed()


async def test_tab_survives_the_death_of_its_only_server(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "only.ipynb"
    write_notebook(path, [""])
    server = await make_server(redis_server=redis_server)
    async with RtcClient(server, await server.session("only.ipynb"), name="ann") as ann:
        await ann.type_text("before ", hz=50)
        server.kill()
        await ann.type_text("during ", hz=50)
        await server.start()
        await ann.wait_synced(timeout=10)
        await ann.type_text("after", hz=50)
        await until(
            lambda: file_sources(path) == ["before during after"],
            timeout=15,
            what="all keystrokes on disk",
        )
        assert is_subsequence("before during after", ann.sources[0])
        ann.assert_undisturbed()


async def test_frozen_saver_does_not_overwrite_its_successor(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "frozen.ipynb"
    write_notebook(path, [""])
    session = await servers[0].session("frozen.ipynb")
    async with RtcClient(servers[0], session), RtcClient(servers[1], session):
        saver, (other,) = await saver_of(servers, session.room_id)
        async with RtcClient(other, session, name="bob") as bob:
            async with RtcClient(saver, session, name="ann") as ann:
                ann.write("ann ")
                await equal([ann, bob])
            saver.freeze()
            try:
                await bob.type_text("typed while the saver is frozen", hz=20)
                await until(
                    lambda: file_sources(path) == bob.sources,
                    timeout=FAILOVER_SECONDS,
                    what="a save by the successor",
                )
            finally:
                saver.thaw()
            bob.write(", and after")
            await until(lambda: file_sources(path) == bob.sources, timeout=10, what="a last save")
            async with RtcClient(saver, session, name="eve") as eve:
                await equal([bob, eve])
                assert eve.sources == ["ann typed while the saver is frozen, and after"]
                assert file_sources(path) == eve.sources
