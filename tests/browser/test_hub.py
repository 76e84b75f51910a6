"""Alice and Bob log in to the example hub, each in a browser, and type in their team's notebook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.lab_page import PAGE_TIMEOUT_MS, chromium
from support.notebooks import write_notebook
from test_jupyterhub import PASSWORD, Hub, hub

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page

__all__ = ["hub"]

pytestmark = pytest.mark.timeout(240)


async def log_in(browser: Browser, hub: Hub, user: str) -> Page:
    """Through the login page to the open notebook."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    page = await context.new_page()
    await page.goto(f"{hub.url}/login")
    await page.fill("#username_input", user)
    await page.fill("#password_input", PASSWORD)
    await page.click("#login_submit")
    await page.wait_for_url("**/lab**")
    await page.goto(f"{hub.url.removesuffix('/hub')}/user/{user}/lab/tree/team1/plan.ipynb")
    await page.locator(".jp-Notebook .jp-Cell .cm-content").first.wait_for()
    return page


async def test_two_users_log_in_and_type(hub: Hub, artefacts: Path) -> None:
    write_notebook(hub.folder / "teams" / "team1" / "plan.ipynb", ["plan = 1"])
    async with chromium() as browser:
        pages = await asyncio.gather(*(log_in(browser, hub, user) for user in ("alice", "bob")))
        for page, text in zip(pages, (" # by Alice", " # by Bob"), strict=True):
            await page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
            await page.keyboard.press("Control+End")
            await page.keyboard.type(text, delay=40)
            for other in pages:
                cell = other.locator(".jp-Notebook .jp-Cell .cm-content").first
                await expect(cell).to_contain_text(text, timeout=15_000)
        for page, user in zip(pages, ("alice", "bob"), strict=True):
            await page.screenshot(path=artefacts / f"hub-{user}.png")
            assert await page.locator(".jp-Dialog-content").all_inner_texts() == []
