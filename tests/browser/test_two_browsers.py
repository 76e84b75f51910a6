"""Two people, two JupyterLab servers, two browsers, one notebook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.cluster import assert_no_out_of_band, wait_connected
from support.lab_page import LabPage, chromium
from support.named_identity import named
from support.notebooks import file_sources, write_notebook
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(240)


async def test_two_people_in_two_browsers(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    path = shared_folder / "pair.ipynb"
    write_notebook(path, ["print('sum', 20 + 22)", "# notes"])
    a, b = [
        await make_server(
            start=False, redis_server=redis_server, lab=True, name=f"lab-{user}", config=named(user)
        )
        for user in ("ann", "bob")
    ]
    await a.launch()
    await b.launch()
    for server in (a, b):
        await server.wait_until_up()
    await wait_connected(a, b)

    async with chromium() as browser:
        ann, bob = await asyncio.gather(
            LabPage.open(browser, a, "pair.ipynb", name="ann", artefacts=artefacts),
            LabPage.open(browser, b, "pair.ipynb", name="bob", artefacts=artefacts),
        )
        try:
            await asyncio.gather(
                ann.type_at_end(0, "  # by Ann"), bob.type_at_end(1, "\nwritten by Bob")
            )
            for page in (ann, bob):
                await page.expect_cell(0, "print('sum', 20 + 22)  # by Ann")
                await page.expect_cell(1, "written by Bob")

            # Each sees where the other is.
            await expect(ann.cell(1).locator(".jp-remote-cursor").first).to_be_attached()
            await expect(bob.cell(0).locator(".jp-remote-cursor").first).to_be_attached()
            # The name is shown at the cursor while the pointer is there.
            await ann.cell(1).locator(".jp-remote-cursor").first.hover(force=True)
            flag = ann.page.locator(".jp-remote-userFlag-name").first
            await expect(flag).to_have_text("Bob")
            await asyncio.gather(ann.shoot("typed"), bob.shoot("typed"))

            # The kernel is Ann's, the output is in the document.
            await ann.run_cell(0)
            await ann.expect_output(0, "sum 42")
            await bob.expect_output(0, "sum 42", timeout_ms=5_000)

            await ann.expect_collaborator("Bob")
            await bob.expect_collaborator("Ann")
            await asyncio.gather(ann.shoot("panel"), bob.shoot("panel"))

            expected = ["print('sum', 20 + 22)  # by Ann", "# notes\nwritten by Bob"]
            await until(lambda: file_sources(path) == expected, what="the saved notebook")
            # A saved notebook looks saved, in both browsers.
            for page in (ann, bob):
                await expect(page.dirty_tabs()).to_have_count(0)
            await asyncio.gather(ann.shoot("saved"), bob.shoot("saved"))
            assert await ann.dialogs() == []
            assert await bob.dialogs() == []
        except BaseException:
            await asyncio.gather(ann.shoot("failed"), bob.shoot("failed"))
            print("\n".join(ann.console + bob.console))
            raise
    assert_no_out_of_band(a, b)
