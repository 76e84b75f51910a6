"""The balancer example: three servers behind nginx and HAProxy, restarted while people type."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from support.balanced import Balanced, Door, check_command, require_balancer
from support.cluster import assert_no_errors, assert_no_out_of_band
from support.lab_page import LabPage, chromium
from support.leftovers import kill_processes_in
from support.notebooks import file_sources, write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BALANCERS = ("nginx", "haproxy")
ASKED = 6
# Upstream's last words on a server where nobody has opened a document.
NEVER_OPENED = ("WebsocketServer not running",)
# The servers share the folder of JupyterLab's workspaces: what one is writing there, another one
# cannot read for a moment, says so, and JupyterLab asks again.
WORKSPACE = ("/lab/api/workspaces", "LabApp] {")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """One start for all tests: it takes as long as a test."""
    for name in BALANCERS:
        require_balancer(name)
    folder = tmp_path_factory.mktemp("balancer")
    redis = RedisServer(folder / "redis")
    redis.start()
    example = Balanced(folder / "example", redis.url)
    try:
        yield example
        assert example.process.terminate(30), example.output
        assert "Traceback" not in example.output
        # The servers' last stop comes after all tests.
        assert_no_errors(*example.servers(), allowed=(*NEVER_OPENED, *WORKSPACE))
    finally:
        example.process.kill()
        asyncio.run(kill_processes_in(example.folder))
        redis.kill()


@pytest.fixture
async def example(started: Balanced) -> Balanced:
    await started.wait_until_up()
    return started


@pytest.mark.parametrize("name", BALANCERS)
def test_the_configuration_is_valid(name: str, tmp_path: Path) -> None:
    require_balancer(name)
    command, env = check_command(name, tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).lower()
    assert "warn" not in said
    assert "alert" not in said


@pytest.mark.parametrize("name", BALANCERS)
async def test_a_browser_may_come_out_anywhere_and_its_terminals_stay_in_reach(
    example: Balanced, name: str
) -> None:
    """One login and one XSRF cookie for all servers; what lives in one is found there."""
    async with httpx.AsyncClient(timeout=15) as browser:
        free = example.door(name, affinity=False)
        await browser.get(f"{free.url}/lab", params={"token": free.token})
        assert len(await _replicas(browser, free)) == 3
        xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
        terminals = f"{free.url}/api/terminals"
        started = await browser.post(terminals, headers=xsrf)
        assert started.status_code == 200, started.text
        terminal = started.json()["name"]
        for _ in range(ASKED):
            found = [one["name"] for one in (await browser.get(terminals)).json()]
            assert found == [terminal]
        ended = await browser.delete(f"{terminals}/{terminal}", headers=xsrf)
        assert ended.status_code == 204
    async with httpx.AsyncClient(timeout=15) as browser:
        own = example.door(name, affinity=True)
        await browser.get(f"{own.url}/lab", params={"token": own.token})
        assert len(await _replicas(browser, own)) == 1


async def _replicas(browser: httpx.AsyncClient, door: Door) -> set[str]:
    """Who answers a browser that has logged in."""
    replies = [await browser.get(f"{door.url}/api/teleportal/status") for _ in range(ASKED)]
    return {reply.json()["replica"] for reply in replies}


class RollingRestart:
    """Restarts all servers one after the other.

    Use as an async context manager: it begins inside, and has ended when `done` is true.
    """

    def __init__(self, example: Balanced) -> None:
        self._example = example
        self._before = example.output.count("All servers were restarted")

    async def __aenter__(self) -> RollingRestart:
        self._replicas = await self._replica_ids()
        self._example.process.signal(signal.SIGHUP)
        return self

    async def __aexit__(self, *failed: object) -> None:
        if failed[0] is None:
            assert self.done
            assert not self._replicas & await self._replica_ids(), "a server was not restarted"

    async def _replica_ids(self) -> set[str]:
        ids = {await server.replica_id() for server in self._example.servers()}
        assert len(ids) == 3
        return ids

    @property
    def done(self) -> bool:
        output = self._example.output
        assert self._example.process.running, output
        return output.count("All servers were restarted") > self._before


async def test_a_rolling_restart_at_protocol_level(example: Balanced) -> None:
    path = example.folder / "shared" / "protocol.ipynb"
    write_notebook(path, ["", ""])
    doors = [example.door(name, affinity=False) for name in BALANCERS]
    session = await doors[0].session("protocol.ipynb")
    assert await doors[1].session("protocol.ipynb") == session
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(RtcClient(door, session, name=door.name))
            for door in doors
        ]
        typed = ["", ""]

        async def type_words(cell: int, restart: RollingRestart) -> None:
            number = 0
            while not restart.done:
                word = f"{clients[cell].name}{number} "
                await clients[cell].type_text(word, cell, hz=20)
                typed[cell] += word
                number += 1

        async with RollingRestart(example) as restart:
            await asyncio.gather(*(type_words(cell, restart) for cell in range(2)))
        for client in clients:
            await client.wait_synced()
            assert client.closures, "its server was not among those that were restarted"
        await equal(clients)
        assert clients[0].sources == typed
        await until(lambda: file_sources(path) == typed, 20, what="the file as it was typed")
        for client in clients:
            client.assert_undisturbed()
            assert not client.errors
    assert_no_out_of_band(*example.servers())
    assert_no_errors(*example.servers(), allowed=(*NEVER_OPENED, *WORKSPACE))


# Dialogs are noted as they come: one that took the keys would be closed by them.
WATCH_DIALOGS = """() => {
    window.dialogsSeen = [];
    new MutationObserver(changes => {
        for (const change of changes)
            for (const node of change.addedNodes)
                if (node.matches?.('.jp-Dialog')) window.dialogsSeen.push(node.innerText);
    }).observe(document.body, {childList: true});
}"""


@asynccontextmanager
async def browsers(doors: list[Door], path: str, artefacts: Path) -> AsyncIterator[list[LabPage]]:
    """A browser at each door, with the notebook open and its kernel started."""
    async with chromium() as browser:
        pages = [
            await LabPage.open(browser, door, path, name=door.name, artefacts=artefacts)
            for door in doors
        ]
        try:
            for page in pages:
                # While a kernel starts JupyterLab says so if its server goes.
                idle = page.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
                await idle.wait_for()
                await page.page.evaluate(WATCH_DIALOGS)
            yield pages
            for page in pages:
                assert await page.page.evaluate("window.dialogsSeen") == []
        except BaseException:
            for page in pages:
                await page.shoot("failed")
                print("\n".join(page.console))
            raise


@pytest.mark.parametrize("affinity", [False, True], ids=["without-affinity", "with-affinity"])
async def test_a_rolling_restart_while_two_browsers_type(
    example: Balanced, artefacts: Path, affinity: bool
) -> None:
    """Ann comes through nginx, Bob through HAProxy; each types in a cell of their own."""
    path = example.folder / "shared" / f"affinity-{affinity}.ipynb"
    write_notebook(path, ["", ""])
    typed = ["", ""]

    async def type_words(page: LabPage, cell: int, restart: RollingRestart) -> None:
        await page.type_at_end(cell, "")
        number = 0
        while not restart.done:
            word = f"w{cell}x{number} "
            await page.page.keyboard.type(word, delay=60)
            typed[cell] += word
            number += 1

    doors = [example.door(name, affinity=affinity) for name in BALANCERS]
    async with browsers(doors, path.name, artefacts) as pages:
        async with RollingRestart(example) as restart:
            await asyncio.gather(
                *(type_words(page, cell, restart) for cell, page in enumerate(pages))
            )
        for page in pages:
            for cell, text in enumerate(typed):
                await page.expect_cell(cell, text.strip(), timeout_ms=15_000)
            await page.shoot("restarted")
        await until(lambda: file_sources(path) == typed, 20, what="the file as it was typed")
    assert_no_out_of_band(*example.servers())
    assert_no_errors(*example.servers(), allowed=(*NEVER_OPENED, *WORKSPACE))
