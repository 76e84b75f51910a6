"""The Binder session: its build file, and its steps run in a home folder of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import nbformat
import pytest
from support.cluster import wait_connected
from support.jupyter_process import JupyterProcess
from support.leftovers import kill_processes_in
from support.notebooks import file_sources
from support.processes import ChildProcess, free_port
from support.redis_server import require_binary
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
TOKEN = "a-token-for-tests"
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


def test_the_notebook_is_valid() -> None:
    nbformat.validate(nbformat.read(BINDER / "welcome.ipynb", as_version=4))


@pytest.mark.parametrize("name", ["postBuild", "start", "second-server"])
def test_the_scripts_can_be_executed(name: str) -> None:
    assert os.access(BINDER / name, os.X_OK)
    subprocess.run(["sh", "-n", str(BINDER / name)], check=True)


class SecondServer(JupyterProcess):
    """The server behind the first one's proxy."""

    @property
    def url(self) -> str:
        return f"{super().url}/binder/second"

    @property
    def ws_url(self) -> str:
        return f"{super().ws_url}/binder/second"


class FirstServer(JupyterProcess):
    """The server that Binder starts, with a base URL as in a hub."""

    @property
    def url(self) -> str:
        return f"{super().url}/binder"

    @property
    def ws_url(self) -> str:
        return f"{super().ws_url}/binder"


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A home folder whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        await kill_processes_in(Path(folder))


def require_proxy() -> None:
    if importlib.util.find_spec("jupyter_server_proxy") is not None:
        return
    message = "needs the package jupyter-server-proxy"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(message)
    pytest.skip(message)


def start_session(home: Path, port: int) -> ChildProcess:
    """Run `postBuild`, then `start` with a command like Binder's."""
    dropped = ("JUPYTER", "XDG_", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)])
    env.update(HOME=str(home), JUPYTER_TOKEN=TOKEN, PATH=os.pathsep.join([scripts, env["PATH"]]))
    subprocess.run([str(BINDER / "postBuild")], check=True, env=env, cwd=ROOT, timeout=60)
    return ChildProcess(
        [
            *(str(BINDER / "start"), "jupyter", "lab", "--no-browser", "--allow-root"),
            *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
            "--ServerApp.base_url=/binder/",
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


async def _edit_on_both(home: Path, port: int, session: ChildProcess) -> None:
    first = FirstServer(home, work_dir=home, name="first", port=port, token=TOKEN)
    second = SecondServer(home, work_dir=home, name="second", port=port, token=TOKEN)

    async def up(server: JupyterProcess) -> bool:
        assert session.running, session.log_path.read_text()
        try:
            return (await server.request("GET", "/api/status", timeout=60)).status_code == 200
        except httpx.HTTPError:
            return False

    for server in (first, second):
        await until(lambda s=server: up(s), UP_SECONDS, what=f"the {server.name} server")
        await wait_connected(server)
        assert (await server.status())["shares"] == {"together": "binder"}
    assert await first.replica_id() != await second.replica_id()

    card = (await first.call("GET", "/server-proxy/servers-info"))["server_processes"]
    [entry] = [process for process in card if process["name"] == "second"]
    assert entry["launcher_entry"]["path_info"].startswith("second/lab/tree/together/welcome.ipynb")

    path = "together/welcome.ipynb"
    async with (
        RtcClient(first, await first.session(path), name="ann") as ann,
        RtcClient(second, await second.session(path), name="bob") as bob,
    ):
        ann.write("typed on the first server", cell=2)
        bob.write("typed on the second server", cell=1)
        await equal([ann, bob])
        assert "first server" in bob.sources[2]
        file = home / "together" / "welcome.ipynb"
        await until(lambda: file_sources(file) == ann.sources, 15, what="the saved file")
    page = await second.request("GET", f"/lab/tree/{path}", params={"token": TOKEN})
    assert page.status_code == 200
    config = json.loads(_page_config(page.text))
    assert config["baseUrl"] == "/binder/second/"
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
            env={**os.environ, "HOME": str(home), "JUPYTER_TOKEN": TOKEN},
        )
        notebook = home / "together" / "welcome.ipynb"
        assert file_sources(notebook)
        notebook.write_text(notebook.read_text().replace("Type here", "Typed there"))
    assert "Typed there" in notebook.read_text()
