"""What a client puts into a notebook keeps JupyterLab from showing it for seconds at most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pycrdt import Map, Text
from support.lab_pair import two_pages
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(240)


async def test_browsers_show_a_notebook_again(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
) -> None:
    path = shared_folder / "victim.ipynb"
    write_notebook(path, ["begin"])
    async with two_pages(make_server, redis_server, "victim.ipynb", artefacts) as (ann, bob):
        session = await ann.server.session("victim.ipynb")
        async with RtcClient(ann.server, session, name="eve") as eve:
            cells = eve.notebook.ycells
            with eve.doc.transaction():
                for foreign in (3, Text("words"), Map({"cell_type": "later", "source": "x"})):
                    cells.insert(0, foreign)

            def repaired() -> bool:
                found: list[Any] = list(cells)
                return all(
                    isinstance(cell, Map) and isinstance(cell["source"], Text) for cell in found
                )

            await until(repaired, timeout=20, what="the notebook's repair")
        for page in (ann, bob):
            await page.page.reload(wait_until="domcontentloaded")
        for page in (ann, bob):
            for index, source in enumerate(["x", "words", "begin"]):
                await page.expect_cell(index, source, timeout_ms=30_000)
        await ann.type_at_end(2, " by Ann")
        await bob.expect_cell(2, "begin by Ann")
        await bob.type_at_end(1, " by Bob")
        await until(
            lambda: file_sources(path) == ["x", "words by Bob", "begin by Ann"],
            what="both on disk",
        )
        assert await asyncio.gather(ann.dialogs(), bob.dialogs()) == [[], []]
