"""Two people, two JupyterLab servers, two browsers, one notebook."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.cluster import assert_no_out_of_band, wait_connected
from support.lab_page import LabPage, chromium
from support.named_identity import named
from support.notebooks import file_sources, write_notebook
from support.waiting import holds, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def two_pages(
    make_server: MakeServer, redis_server: RedisServer, path: str, artefacts: Path
) -> AsyncIterator[tuple[LabPage, LabPage]]:
    """Ann and Bob, each with a server and a browser of their own, and the notebook open."""
    a, b = [
        await make_server(
            start=False, redis_server=redis_server, lab=True, name=f"lab-{user}", config=named(user)
        )
        for user in ("ann", "bob")
    ]
    await asyncio.gather(a.launch(), b.launch())
    for server in (a, b):
        await server.wait_until_up()
    await wait_connected(a, b)
    async with chromium() as browser:
        ann, bob = await asyncio.gather(
            LabPage.open(browser, a, path, name="ann", artefacts=artefacts),
            LabPage.open(browser, b, path, name="bob", artefacts=artefacts),
        )
        try:
            yield ann, bob
        except BaseException:
            await asyncio.gather(ann.shoot("failed"), bob.shoot("failed"))
            print("\n".join(ann.console + bob.console))
            raise
    assert_no_out_of_band(a, b)


async def test_two_people_in_two_browsers(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    path = shared_folder / "pair.ipynb"
    write_notebook(path, ["print('sum', 20 + 22)", "# notes"])
    async with two_pages(make_server, redis_server, "pair.ipynb", artefacts) as (ann, bob):
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


async def test_a_notebook_is_renamed_and_deleted_while_both_have_it_open(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    old, new = shared_folder / "draft.ipynb", shared_folder / "final.ipynb"
    write_notebook(old, ["first"])
    async with two_pages(make_server, redis_server, "draft.ipynb", artefacts) as (ann, bob):
        await bob.type_at_end(0, " before")
        await ann.expect_cell(0, "first before")
        await ann.server.rename("draft.ipynb", "final.ipynb")
        for page in (ann, bob):
            await expect(page.tab("final.ipynb")).to_be_visible()
        await ann.type_at_end(0, " ann")
        await bob.expect_cell(0, "first before ann")
        await bob.type_at_end(0, " bob")
        await ann.expect_cell(0, "first before ann bob")
        await until(
            lambda: new.exists() and file_sources(new) == ["first before ann bob"],
            what="the saved notebook under its new name",
        )
        assert not old.exists()
        await asyncio.gather(ann.shoot("renamed"), bob.shoot("renamed"))
        for page in (ann, bob):
            assert await page.dialogs() == []

        await ann.server.delete("final.ipynb")
        await bob.type_at_end(0, " in vain")
        await holds(
            lambda: not new.exists() and not old.exists(), seconds=4, what="no file any more"
        )
        await asyncio.gather(ann.shoot("deleted"), bob.shoot("deleted"))
        # What Bob has written is still before his eyes, to be copied elsewhere.
        await bob.expect_cell(0, "in vain")
