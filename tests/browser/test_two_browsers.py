"""Two people, two JupyterLab servers, two browsers, one notebook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.lab_pair import two_pages
from support.notebooks import file_sources, write_notebook
from support.waiting import holds, until

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
    async with two_pages(make_server, redis_server, "pair.ipynb", artefacts) as (ann, bob):
        typing = asyncio.gather(
            ann.type_at_end(0, "  # by Ann"), bob.type_at_end(1, "\nwritten by Bob")
        )
        # Each sees where the other is, and who that is.
        await asyncio.gather(ann.expect_cursor(1, "Bob"), bob.expect_cursor(0, "Ann"))
        await typing
        await asyncio.gather(ann.shoot("typed"), bob.shoot("typed"))
        for page in (ann, bob):
            await page.expect_cell(0, "print('sum', 20 + 22)  # by Ann")
            await page.expect_cell(1, "written by Bob")

        # Later the name is shown at the cursor while the pointer is there.
        await ann.cell(1).locator(".jp-remote-cursor").first.hover(force=True)
        flag = ann.page.locator(".jp-remote-userFlag-name").first
        await expect(flag).to_have_text("Bob")

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


async def test_a_notebook_is_renamed_closed_and_deleted(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    old, new = shared_folder / "draft.ipynb", shared_folder / "final.ipynb"
    write_notebook(old, ["first"])
    async with two_pages(make_server, redis_server, "draft.ipynb", artefacts) as (ann, bob):
        await bob.type_at_end(0, " before")
        await ann.expect_cell(0, "first before")
        await ann.rename("draft.ipynb", "final.ipynb")
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

        # Bob closes it and opens it again.
        await bob.close_tab("final.ipynb")
        await ann.type_at_end(0, " alone")
        await bob.open_file("final.ipynb")
        await bob.expect_cell(0, "first before ann bob alone")
        assert await bob.dialogs() == []

        await ann.server.delete("final.ipynb")
        await bob.type_at_end(0, " in vain")
        await holds(
            lambda: not new.exists() and not old.exists(), seconds=4, what="no file any more"
        )
        await asyncio.gather(ann.shoot("deleted"), bob.shoot("deleted"))
        # What Bob has written is still before his eyes, to be copied elsewhere.
        await bob.expect_cell(0, "in vain")


async def test_cells_and_ctrl_s(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, artefacts: Path
):
    path = shared_folder / "cells.ipynb"
    write_notebook(path, ["one", "two"])
    # Nobody saves but by Ctrl-S.
    pages = two_pages(make_server, redis_server, "cells.ipynb", artefacts, document_save_delay=120)
    async with pages as (ann, bob):
        await ann.press_in_cell(1, "b")
        await bob.expect_cells("one", "two", "")
        await ann.type_at_end(2, "three")
        await bob.expect_cells("one", "two", "three")
        await bob.press_in_cell(2, "Control+Shift+ArrowUp")
        for page in (ann, bob):
            await page.expect_cells("one", "three", "two")
        await ann.press_in_cell(0, "d", "d")
        for page in (ann, bob):
            await page.expect_cells("three", "two")
        await asyncio.gather(ann.shoot("cells"), bob.shoot("cells"))
        assert file_sources(path) == ["one", "two"], "saved too early for this test"

        for page, expected in ((ann, ["three", "two"]), (bob, ["three bob", "two"])):
            if page is bob:
                await bob.type_at_end(0, " bob")
                await ann.expect_cells(*expected)
            await page.save()
            await until(lambda e=expected: file_sources(path) == e, what=f"{page.name}'s save")
            for each in (ann, bob):
                await expect(each.dirty_tabs()).to_have_count(0)
                assert await each.dialogs() == []
        await asyncio.gather(ann.shoot("saved"), bob.shoot("saved"))
