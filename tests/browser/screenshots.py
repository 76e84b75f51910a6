"""Make the pictures in docs/images: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.cluster import wait_connected
from support.jupyter_process import JupyterProcess
from support.lab_page import LabPage, chromium
from support.named_identity import named
from support.notebooks import write_notebook
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from playwright.async_api import Browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PANE = {"width": 700, "height": 540}
CELLS = (
    "import random\n\nrolls = [random.randint(1, 6) for _ in range(600)]",
    "for face in range(1, 7):\n    print(face, '#' * (rolls.count(face) // 5))",
    "# What do we see?\n",
)


async def side_by_side(browser: Browser, target: Path, *pages: LabPage) -> None:
    """One picture of several pages as they are now, each with its user's name above."""
    shots = await asyncio.gather(*(page.page.screenshot() for page in pages))
    figures = "".join(
        f"<figure><figcaption>{page.name.title()}, on a server of {page.name.title()}'s own"
        f'</figcaption><img src="data:image/png;base64,{base64.b64encode(shot).decode()}"></figure>'
        for page, shot in zip(pages, shots, strict=True)
    )
    style = (
        "body{margin:0;padding:8px;display:inline-flex;gap:8px;font:14px sans-serif;"
        "background:#fff}figure{margin:0}figcaption{padding:4px;text-align:center}"
        "img{display:block;border:1px solid #888}"
    )
    sheet = await browser.new_page(viewport={"width": 1460, "height": 640})
    await sheet.set_content(f"<style>{style}</style><body>{figures}</body>")
    await sheet.locator("body").screenshot(path=target)
    await sheet.close()


async def make(folder: Path, images: Path) -> None:
    """Let Ann and Bob edit one notebook, and take the pictures."""
    shared = folder / "shared"
    write_notebook(shared / "dice.ipynb", CELLS)
    redis = RedisServer(folder / "redis")
    servers = [
        JupyterProcess(
            shared,
            work_dir=folder / name,
            name=name,
            redis_url=redis.url,
            lab=True,
            config=named(name),
        )
        for name in ("ann", "bob")
    ]
    try:
        redis.start()
        await asyncio.gather(*(server.start() for server in servers))
        await wait_connected(*servers)
        async with chromium() as browser:
            ann, bob = await asyncio.gather(
                *(
                    LabPage.open(browser, server, "dice.ipynb", name=server.name, artefacts=images)
                    for server in servers
                )
            )
            for page in (ann, bob):
                await page.page.set_viewport_size(PANE)
                await page.page.keyboard.press("Control+b")  # the file browser goes
            for cell in (0, 1):
                await ann.run_cell(cell)
            await bob.expect_output(1, "1 #")
            typing = asyncio.gather(
                ann.type_at_end(0, "  # fair dice", 60), bob.type_at_end(2, "All faces alike", 60)
            )
            await asyncio.gather(ann.expect_cursor(2, "Bob"), bob.expect_cursor(0, "Ann"))
            await typing
            await side_by_side(browser, images / "two-browsers.png", ann, bob)
            await ann.page.set_viewport_size({"width": 1000, "height": 420})
            await ann.expect_collaborator("Bob")
            await ann.page.screenshot(path=images / "collaborators.png")
    finally:
        for server in servers:
            server.kill()
        redis.kill()


def main() -> int:
    """Make all pictures and say how large they are."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots")
    parser.add_argument("folder", nargs="?", type=Path, default=IMAGES, help="default: docs/images")
    images: Path = parser.parse_args().folder
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder), images))
    for image in sorted(images.glob("*.png")):
        print(f"{image}: {image.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
