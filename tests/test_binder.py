"""The Binder session: its build file, and its steps run in a home folder of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat
import pytest
from playwright.async_api import expect
from support.cluster import wait_connected
from support.jupyter_process import JupyterProcess
from support.lab_page import chromium
from support.leftovers import kill_processes_in
from support.missing import missing
from support.notebooks import file_sources
from support.processes import ChildProcess, free_port
from support.programs import PATH, require_binary
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
TOKEN = "a-token-for-tests"
BASE = "/user/binder-x1/"
UP_SECONDS = 60.0


def test_the_build_file() -> None:
    program = require_binary("jupyter-repo2docker")
    done = subprocess.run(
        [program, "--no-build", "--debug", str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    docker_file = done.stdout + done.stderr
    assert 'pip install --no-cache-dir -r "binder/requirements.txt"' in docker_file
    # The package itself is in the requirements, so the repository has to be there before them.
    assert docker_file.index("COPY --chown=0:0 src/ ") < docker_file.index("pip install --no-cache")
    assert "./binder/postBuild" in docker_file
    assert "${REPO_DIR}/binder/start" in docker_file
    assert re.search(r"3\.12", docker_file)


def test_the_requirements_fit_the_project() -> None:
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted[0] == ".[embedded]"
    project = (ROOT / "pyproject.toml").read_text()
    [lab] = [line for line in wanted if line.startswith("jupyterlab")]
    assert f'"{lab}"' in project


def test_the_workspace_knows_where_the_session_lives() -> None:
    def frame(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, str(BINDER / "side_by_side"), *arguments],
            check=True,
            capture_output=True,
            env={**os.environ, "TELEPORTAL_SECOND_TOKEN": TOKEN, **environment},
        )
        return str(
            json.loads(done.stdout)["data"]["server-proxy:server-proxy:second"]["data"]["url"]
        )

    page = f"second/doc/workspaces/second/tree/together/welcome.ipynb?token={TOKEN}"
    assert frame("jupyter-lab") == f"/{page}"
    assert frame("jupyter-lab", f"--ServerApp.base_url={BASE}") == BASE + page
    assert frame("jupyterhub-singleuser", JUPYTERHUB_SERVICE_PREFIX=BASE) == BASE + page


def test_the_notebook_is_valid() -> None:
    nbformat.validate(nbformat.read(BINDER / "welcome.ipynb", as_version=4))


@pytest.mark.parametrize("name", ["postBuild", "start", "second-server", "side_by_side"])
def test_the_scripts_can_be_executed(name: str) -> None:
    assert os.access(BINDER / name, os.X_OK)
    if name != "side_by_side":
        subprocess.run(["sh", "-n", str(BINDER / name)], check=True)


class SecondServer(JupyterProcess):
    """The server behind the first one's proxy."""

    @property
    def url(self) -> str:
        return f"{super().url}{BASE}second"

    @property
    def ws_url(self) -> str:
        return f"{super().ws_url}{BASE}second"


class FirstServer(JupyterProcess):
    """The server that Binder starts, with a base URL as in a hub."""

    @property
    def url(self) -> str:
        return super().url + BASE.rstrip("/")

    @property
    def ws_url(self) -> str:
        return super().ws_url + BASE.rstrip("/")


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A home folder whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        await kill_processes_in(Path(folder))


def require_proxy() -> None:
    if importlib.util.find_spec("jupyter_server_proxy") is not None:
        return
    missing("needs the package jupyter-server-proxy")


def start_session(home: Path, port: int) -> ChildProcess:
    """Run `postBuild`, then `start` with the command that a Binder session has."""
    dropped = ("JUPYTER", "XDG_", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    path = PATH
    # An environment made of nothing but the build's requirements.
    if fresh := os.environ.get("TELEPORTAL_BINDER_ENV"):
        path = os.pathsep.join([str(Path(fresh) / "bin"), env["PATH"]])
    env.update(HOME=str(home), JUPYTER_TOKEN=TOKEN, PATH=path)
    subprocess.run([str(BINDER / "postBuild")], check=True, env=env, cwd=ROOT, timeout=60)
    # BinderHub names each option for old servers and for new ones.
    program = ["jupyter-notebook"] if fresh else ["jupyter-lab"]
    apps = ["NotebookApp", "ServerApp"] if fresh else ["ServerApp"]
    options = [
        f"--{app}.{option}"
        for app in apps
        for option in (f"base_url={BASE}", f"token={TOKEN}", "trust_xheaders=True")
    ]
    return ChildProcess(
        [
            *(str(BINDER / "start"), *program, "--no-browser", "--allow-root"),
            *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", *options),
        ],
        log_path=home / "session.log",
        cwd=home,
        env=env,
    )


async def test_two_servers_in_one_session(home: Path) -> None:
    require_proxy()
    port = free_port()
    session = start_session(home, port)
    try:
        await _edit_on_both(home, port, session)
    finally:
        # With its proxy configured the first server may ignore SIGTERM.
        session.kill()


async def test_a_visit(home: Path, artefacts: Path) -> None:
    """A visitor opens the session and does what the notebook says."""
    require_proxy()
    async with chromium() as browser:
        port = free_port()
        session = start_session(home, port)
        try:
            first = FirstServer(home, work_dir=home, name="first", port=port, token=TOKEN)
            await until(lambda: _is_up(first, session), UP_SECONDS, what="the first server")
            await _visit(browser, first, home / "together" / "welcome.ipynb", artefacts)
        except BaseException:
            print(session.log_path.read_text()[-4000:])
            raise
        finally:
            session.kill()


async def _visit(browser: Browser, first: JupyterProcess, file: Path, artefacts: Path) -> None:
    context = await browser.new_context(viewport={"width": 1600, "height": 900})
    context.set_default_timeout(25_000)
    page = await context.new_page()

    async def shoot(what: str) -> None:
        await page.screenshot(path=artefacts / f"{what}.png")

    try:
        await page.goto(f"{first.url}/?token={first.token}", wait_until="domcontentloaded")
        left = page.locator("body")
        right = page.frame_locator(".jp-ServerProxy iframe").locator("body")
        number = {cell["id"]: n for n, cell in enumerate(_cells(file))}

        def cell(side: Locator, name: str) -> Locator:
            return side.locator(f'.jp-Cell[data-windowed-list-index="{number[name]}"]')

        async def write(side: Locator, text: str) -> None:
            await cell(side, "scratch").locator(".cm-content").click()
            await page.keyboard.press("Control+End")
            await page.keyboard.type(text, delay=40)

        async def run(side: Locator, name: str, output: str) -> None:
            await cell(side, name).locator(".cm-content").click()
            await page.keyboard.press("Shift+Enter")
            for seen in (left, right):
                if seen is right and name == "killing":
                    continue
                await expect(cell(seen, name).locator(".jp-OutputArea")).to_contain_text(
                    output, timeout=30_000
                )

        await cell(left, "scratch").wait_for()
        await cell(right, "scratch").wait_for()
        await shoot("opened")
        await write(left, "left ")
        await expect(cell(right, "scratch")).to_contain_text("left")
        await write(right, "right ")
        await expect(cell(left, "scratch")).to_contain_text("left right")
        await shoot("typed")

        await run(left, "who", "run 1 on the first server")
        await run(right, "who", "run 1 on the second server")
        await run(left, "status", "/second/")
        await run(left, "killing", "The second server is dead.")
        await write(left, "alone ")
        await until(
            lambda: "alone" in (file_sources(file) or [""] * 9)[number["scratch"]],
            20,
            what="the save",
        )
        await write(right, "orphan ")
        await shoot("killed")
        await run(left, "starting", "The second server is back")
        await expect(cell(right, "scratch")).to_contain_text("alone", timeout=20_000)
        await expect(cell(left, "scratch")).to_contain_text("orphan", timeout=20_000)
        await write(right, "again ")
        await expect(cell(left, "scratch")).to_contain_text("again")
        await shoot("back")
        for side in (left, right):
            await expect(side.locator(".jp-Dialog")).to_have_count(0)
        ran = {"scratch", "who", "status", "killing", "starting"}
        assert {c["id"] for c in _cells(file) if c["cell_type"] == "code"} == ran
    except BaseException:
        await shoot("failed")
        raise


def _cells(file: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(file.read_text())["cells"]
    return cells


async def _is_up(server: JupyterProcess, session: ChildProcess) -> bool:
    assert session.running, session.log_path.read_text()
    try:
        return (await server.request("GET", "/api/status", timeout=60)).status_code == 200
    except httpx.HTTPError:
        return False


async def _edit_on_both(home: Path, port: int, session: ChildProcess) -> None:
    first = FirstServer(home, work_dir=home, name="first", port=port, token=TOKEN)
    second = SecondServer(home, work_dir=home, name="second", port=port, token=TOKEN)

    for server in (first, second):
        await until(
            lambda s=server: _is_up(s, session), UP_SECONDS, what=f"the {server.name} server"
        )
        await wait_connected(server)
        assert (await server.status())["shares"] == {"together": "binder"}
    assert await first.replica_id() != await second.replica_id()

    card = (await first.call("GET", "/server-proxy/servers-info"))["server_processes"]
    [entry] = [process for process in card if process["name"] == "second"]
    assert entry["launcher_entry"]["path_info"].startswith(
        "second/doc/workspaces/second/tree/together/welcome.ipynb"
    )

    path = "together/welcome.ipynb"
    async with (
        RtcClient(first, await first.session(path), name="ann") as ann,
        RtcClient(second, await second.session(path), name="bob") as bob,
    ):
        ann.write("typed on the first server", cell=2)
        bob.write("typed on the second server", cell=1)
        await equal([ann, bob])
        assert "typed on the first server" in bob.sources[2]
        file = home / "together" / "welcome.ipynb"
        await until(lambda: file_sources(file) == ann.sources, 15, what="the saved file")
    page = await second.request("GET", f"/lab/tree/{path}", params={"token": TOKEN})
    assert page.status_code == 200
    config = json.loads(_page_config(page.text))
    assert config["baseUrl"] == f"{BASE}second/"
    assert config["token"] == TOKEN  # so the browser needs no cookie of its own


def _page_config(page: str) -> str:
    match = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert match, page
    return match[1]


def test_a_second_start_keeps_the_notebook(home: Path) -> None:
    shutil.copytree(BINDER, home / "binder")
    for _ in range(2):
        subprocess.run(
            [str(home / "binder" / "start"), "true"],
            check=True,
            cwd=home,
            env={**os.environ, "HOME": str(home), "JUPYTER_TOKEN": TOKEN, "PATH": PATH},
        )
        notebook = home / "together" / "welcome.ipynb"
        assert file_sources(notebook)
        notebook.write_text(notebook.read_text().replace("## 1. Type", "## 1. Typed there"))
    assert "Typed there" in notebook.read_text()
