"""What two people see in their browsers when a server dies, or Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.cluster import transport_state, wait_connected
from support.lab_pair import two_pages
from support.notebooks import file_sources, write_notebook
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(240)

# JupyterLab's own message when its server is away; it says that it goes on trying.
CONNECTION_LOST = "JupyterLab will continue trying to reconnect"


async def test_a_server_is_killed_and_started_again(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    path = shared_folder / "killed.ipynb"
    write_notebook(path, ["ann", "bob"])
    async with two_pages(make_server, redis_server, "killed.ipynb", artefacts) as (ann, bob):
        await ann.type_at_end(0, " before")
        await bob.expect_cells("ann before", "bob")
        ann.server.kill()

        # At once: JupyterLab's message, some seconds later, takes the keys.
        await ann.page.keyboard.insert_text(" meanwhile")
        await bob.type_at_end(1, " goes on")
        await ann.expect_cells("ann before meanwhile", "bob")
        await bob.expect_cells("ann before", "bob goes on")
        await until(
            lambda: file_sources(path) == ["ann before", "bob goes on"],
            timeout=20,
            what="the survivor's save",
        )
        # Whom nobody can hear is not there, from dead_after_s and a heartbeat on.
        await expect(bob.page.locator(".jp-remote-cursor")).to_have_count(0, timeout=15_000)
        await asyncio.gather(ann.shoot("killed"), bob.shoot("killed"))
        assert await bob.dialogs() == []

        await ann.server.start()
        both = ["ann before meanwhile", "bob goes on"]
        for page in (ann, bob):
            await page.expect_cells(*both, timeout_ms=30_000)
        await until(lambda: file_sources(path) == both, what="the file with both")
        await asyncio.gather(ann.shoot("back"), bob.shoot("back"))
        assert [text for text in await ann.dialogs() if CONNECTION_LOST not in text] == []
        assert await bob.dialogs() == []


async def test_redis_is_killed_and_started_again_while_both_type(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    path = shared_folder / "redis.ipynb"
    write_notebook(path, ["ann", "bob"])
    async with two_pages(make_server, redis_server, "redis.ipynb", artefacts) as (ann, bob):
        servers = (ann.server, bob.server)
        text = " types on and on, whatever becomes of Redis meanwhile"
        typing = asyncio.gather(ann.type_at_end(0, text, 80), bob.type_at_end(1, text, 80))
        await asyncio.gather(bob.expect_cell(0, "ann types"), ann.expect_cell(1, "bob types"))
        redis_server.kill()
        for server in servers:
            await until(
                lambda s=server: _is_degraded(s), timeout=10, what=f"{server.name} without Redis"
            )
        assert not typing.done(), "typed too fast for this test"
        redis_server.start()
        await wait_connected(*servers)
        await typing
        both = [f"ann{text}", f"bob{text}"]
        for page in (ann, bob):
            await page.expect_cells(*both)
            assert await page.dialogs() == []
        await until(lambda: file_sources(path) == both, what="the saved file")
        await asyncio.gather(ann.shoot("back"), bob.shoot("back"))


async def _is_degraded(server: JupyterProcess) -> bool:
    return await transport_state(server) == "degraded"
