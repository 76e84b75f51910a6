"""A browser with JupyterLab pages in it."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.async_api import Error, async_playwright, expect

from support.missing import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Locator, Page

    from support.jupyter_process import JupyterProcess

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
PAGE_TIMEOUT_MS = 60_000


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium: the one on the PATH, or else Playwright's own.

    Without either the test is skipped, but fails where the environment says CI.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        except Error as error:
            missing(f"needs a Chromium, on the PATH or by `playwright install`: {error}")
        try:
            yield browser
        finally:
            await browser.close()


class LabPage:
    """One JupyterLab page with one notebook open."""

    def __init__(self, page: Page, server: JupyterProcess, artefacts: Path, name: str) -> None:
        self.page = page
        self.server = server
        self.artefacts = artefacts
        self.name = name
        self.console: list[str] = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))

    @classmethod
    async def open(
        cls,
        browser: Browser,
        server: JupyterProcess,
        path: str,
        *,
        name: str,
        artefacts: Path,
    ) -> LabPage:
        """Open a notebook in a browser profile of its own and wait until it is shown."""
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PAGE_TIMEOUT_MS)
        page = await context.new_page()
        lab = cls(page, server, artefacts, name)
        await page.goto(
            f"{server.url}/lab/workspaces/{quote(name)}/tree/{quote(path)}"
            f"?token={server.token}&reset",
            wait_until="domcontentloaded",
        )
        await page.locator(".jp-Notebook .jp-Cell .cm-content").first.wait_for()
        return lab

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    async def type_at_end(self, index: int, text: str, delay_ms: int = 40) -> None:
        """Click into a cell, go to its end, and type."""
        await self.cell(index).locator(".cm-content").click()
        await self.page.keyboard.press("Control+End")
        await self.page.keyboard.type(text, delay=delay_ms)

    async def select_cell(self, index: int) -> None:
        """Select a cell in command mode."""
        await self.cell(index).locator(".cm-content").click()
        await self.page.keyboard.press("Escape")

    async def press_in_cell(self, index: int, *keys: str) -> None:
        """Press JupyterLab's keys for a cell, such as `b` for one more below."""
        await self.select_cell(index)
        for key in keys:
            await self.page.keyboard.press(key)

    async def save(self) -> None:
        await self.page.keyboard.press("Control+s")

    async def run_cell(self, index: int) -> None:
        await self.cell(index).locator(".cm-content").click()
        await self.page.keyboard.press("Control+Enter")

    async def expect_cell(self, index: int, text: str, timeout_ms: float = 10_000) -> None:
        content = self.cell(index).locator(".cm-content")
        await expect(content).to_contain_text(text, timeout=timeout_ms)

    async def expect_cells(self, *texts: str, timeout_ms: float = 10_000) -> None:
        """All cells, of one line each, in this order."""
        cells = self.page.locator(".jp-Notebook .jp-Cell .cm-content")
        await expect(cells).to_have_text(list(texts), timeout=timeout_ms)

    async def expect_cursor(self, index: int, name: str) -> None:
        """Somebody's cursor is in a cell, and the name is shown at it while they write."""
        await expect(self.cell(index).locator(".jp-remote-cursor").first).to_be_visible()
        flag = self.page.locator(".jp-remote-userFlag", has_text=name).first
        await expect(flag).to_be_in_viewport()
        await expect(flag).to_have_css("opacity", "1")

    async def rename(self, old: str, new: str) -> None:
        """Rename a document by the menu of its tab."""
        await self.tab(old).click(button="right")
        await self.page.locator(".lm-Menu-itemLabel", has_text="Rename Notebook").click()
        await self.page.locator(".jp-Dialog input").fill(new)
        await self.page.locator(".jp-Dialog .jp-mod-accept").click()

    async def close_tab(self, name: str) -> None:
        tab = self.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text=name)
        await tab.locator(".lm-TabBar-tabCloseIcon").click()
        await expect(tab).to_have_count(0)

    async def open_file(self, name: str) -> None:
        """Open a file of the file browser."""
        await self.page.locator(".jp-DirListing-item[data-isdir]", has_text=name).dblclick()
        await self.page.locator(".jp-Notebook .jp-Cell .cm-content").first.wait_for()

    async def expect_output(self, index: int, text: str, timeout_ms: float = 30_000) -> None:
        output = self.cell(index).locator(".jp-OutputArea-output").first
        await expect(output).to_contain_text(text, timeout=timeout_ms)

    async def expect_collaborator(self, name: str) -> None:
        """Open the collaborators panel and find somebody in it."""
        panel = self.page.locator(".jp-CollaboratorsList")
        if not await panel.is_visible():
            await self.page.locator('[data-id="jp-collaboration-panel"]').first.click()
        await expect(panel.locator(".jp-Collaborator", has_text=name).first).to_be_visible()

    def tab(self, name: str) -> Locator:
        """The tab of a document."""
        return self.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tabLabel", has_text=name)

    def dirty_tabs(self) -> Locator:
        """The tabs with the mark of unsaved changes."""
        return self.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab.jp-mod-dirty")

    async def dialogs(self) -> list[str]:
        """What dialogs lie over the page."""
        return await self.page.locator(".jp-Dialog-content").all_inner_texts()

    async def shoot(self, what: str) -> Path:
        """A screenshot among the artefacts."""
        target = self.artefacts / f"{what}-{self.name}.png"
        await self.page.screenshot(path=target)
        return target
