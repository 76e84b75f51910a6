"""`jupyter teleportal demo`, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import nbformat
import pytest
from support.jupyter_process import JupyterProcess
from support.leftovers import kill_processes_in, processes_in
from support.notebooks import file_sources, write_notebook
from support.processes import ChildProcess, free_port
from support.rtc_client import RtcClient, equal
from support.waiting import until

from jupyter_teleportal.tools import demo
from jupyter_teleportal.tools.demo import DemoError, Watch, choose_ports, sample_notebook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

UP_SECONDS = 60.0
ADDRESS = re.compile(r"^  ([A-Z])  (http://\S+)$", re.MULTILINE)


class RunningDemo:
    """A demo in a process of its own, with a temp directory of its own."""

    def __init__(self, temp: Path, work: Path, arguments: list[str], env: dict[str, str]) -> None:
        self.temp = temp
        self._work = work
        self.process = ChildProcess(
            [sys.executable, "-m", "jupyter_teleportal.tools.cli", "demo", *arguments],
            log_path=work / "demo.log",
            cwd=work,
            env={**os.environ, "TMPDIR": str(temp), **env},
        )

    @property
    def output(self) -> str:
        return self.process.log_path.read_text()

    async def says(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """Wait for a line that the regular expression describes."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output, re.MULTILINE)
            assert match or self.process.running, f"the demo has ended:\n{self.output}"
            return match

        try:
            match: re.Match[str] = await until(found, timeout, what=pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}\n{self._logs()}") from None
        return match

    def _logs(self) -> str:
        logs = sorted(self.temp.glob("*/*/server.log"))
        return "\n".join(f"{log}:\n{log.read_text()[-3000:]}" for log in logs)

    async def servers(self) -> list[JupyterProcess]:
        """Wait for the addresses and return a handle for each server, none of them ours."""
        await self.says(r"^Ctrl-C stops them", UP_SECONDS)
        found = []
        for name, address in ADDRESS.findall(self.output):
            parts = urlsplit(address)
            token = parts.query.removeprefix("token=")
            handle = JupyterProcess(
                self.temp, work_dir=self._work, name=name, port=parts.port, token=token
            )
            found.append(handle)
        return found

    @property
    def folder(self) -> Path:
        """The served folder, as the demo says at its end."""
        match = re.search(r"^The files are in (.+)$", self.output, re.MULTILINE)
        assert match, self.output
        return Path(match[1])

    async def ends(self, timeout: float = 20.0) -> int:
        """Wait for its end, check that nothing is left, and return its exit status."""
        await until(lambda: not self.process.running, timeout, what=f"the end: {self.output}")
        # A kernel whose server had to be killed notices that within a second or two.
        await until(lambda: not processes_in(self.temp), what="the end of all processes")
        status = self.process.returncode
        assert status is not None
        return status


@pytest.fixture
async def start_demo(tmp_path: Path) -> AsyncIterator[Callable[..., RunningDemo]]:
    """Start demos; what is left of them is killed at the end."""
    with tempfile.TemporaryDirectory(prefix="t") as temp:  # `tmp_path` is too deep for sockets

        def start(
            *arguments: str, env: dict[str, str] | None = None, browser: str | None = None
        ) -> RunningDemo:
            env = dict(env or {})
            if browser is None:
                arguments = ("--no-browser", *arguments)
            else:
                env["BROWSER"] = browser
            return RunningDemo(Path(temp), tmp_path, list(arguments), env)

        yield start
        await kill_processes_in(Path(temp))


def contents_of(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes and every folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


async def test_a_notebook_is_shared_and_everything_ends(
    start_demo: Callable[..., RunningDemo],
) -> None:
    running = start_demo()
    a, b = servers = await running.servers()
    assert a.port != b.port
    for server in servers:
        assert (await server.status())["transport"]["state"] == "connected"
        await running.says(rf"^\d\d:\d\d:\d\d  {server.name}  joined$")
        await server.call("POST", "/api/kernels", body={"name": "python3"})
    async with (
        RtcClient(a, await a.session(demo.SAMPLE), name="ann") as ann,
        RtcClient(b, await b.session(demo.SAMPLE), name="bob") as bob,
    ):
        ann.write("typed on A", cell=2)
        bob.write("typed on B", cell=1)
        await equal([ann, bob])
        for server in servers:
            await running.says(rf"  {server.name}  opened welcome\.ipynb$")
        await running.says(r"  [AB]  saved welcome\.ipynb$")
        ann.write("typed last", cell=2)
        await equal([ann, bob])
        running.process.signal(signal.SIGINT)  # before that is saved
        assert await running.ends() == 0
    assert list(contents_of(running.folder)) == [demo.SAMPLE]
    sources = file_sources(running.folder / demo.SAMPLE)
    assert sources is not None
    assert "typed on A" in sources[2]
    assert "typed last" in sources[2]
    assert "typed on B" in sources[1]
    assert list(running.temp.iterdir()) == [running.folder]


async def test_a_named_folder_is_left_as_it_was(
    start_demo: Callable[..., RunningDemo], tmp_path: Path
) -> None:
    folder = tmp_path / "my work"
    write_notebook(folder / "plan.ipynb", ["1 + 1"])
    write_notebook(folder / "old" / "plan.ipynb", ["2 + 2"], with_ids=False)
    (folder / "old" / "notes.txt").write_text("no newline at the end")
    before = contents_of(folder)
    port = free_port()
    running = start_demo(str(folder), "--replicas", "1", "--port", str(port))
    [server] = await running.servers()
    assert server.port == port
    for path in ("plan.ipynb", "old/plan.ipynb"):
        await server.call("POST", f"/api/contents/{path}/checkpoints")
        async with RtcClient(server, await server.session(path)) as reader:
            await running.says(rf"  A  opened {path}$")
            assert reader.cells
    kernel = await server.call("POST", "/api/sessions", body=_notebook_session("old/plan.ipynb"))
    assert kernel["kernel"]["id"]
    running.process.signal(signal.SIGTERM)
    assert await running.ends() == 0
    assert running.folder == folder
    assert contents_of(folder) == before
    assert list(running.temp.iterdir()) == []


def _notebook_session(path: str) -> dict[str, object]:
    return {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}


async def test_a_server_that_dies_is_reported(start_demo: Callable[..., RunningDemo]) -> None:
    running = start_demo()
    await running.servers()
    found = {name: pid for name, pid in _server_pids(running.temp).items() if name in "AB"}
    os.kill(found["A"], signal.SIGKILL)
    await running.says(r"^A  has died with status -9")
    assert running.process.running
    os.kill(found["B"], signal.SIGKILL)
    assert await running.ends() == 1
    assert "B  has died" in running.output
    assert contents_of(running.folder) == {demo.SAMPLE: sample_notebook()}


def _server_pids(temp: Path) -> dict[str, int]:
    """The process of each server, by its letter, which is the name of its folder."""
    return {
        Path(process.cwd()).name: process.pid
        for process in processes_in(temp)
        if "jupyterlab" in process.cmdline()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="children end with their parent on Linux")
async def test_a_killed_demo_leaves_no_process(start_demo: Callable[..., RunningDemo]) -> None:
    running = start_demo("--replicas", "1")
    await running.servers()
    running.process.kill()
    await until(lambda: not processes_in(running.temp), timeout=40)


async def test_ctrl_c_while_starting(start_demo: Callable[..., RunningDemo]) -> None:
    running = start_demo()
    await running.says("^Starting 2")
    running.process.signal(signal.SIGINT)
    assert await running.ends() == 0
    assert list(running.temp.iterdir()) == [running.folder]
    assert "Traceback" not in running.output


async def test_a_start_that_fails_leaves_nothing(
    start_demo: Callable[..., RunningDemo], tmp_path: Path
) -> None:
    stub = tmp_path / "stub" / "jupyterlab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    (stub / "__main__.py").write_text("raise SystemExit('no JupyterLab today')")
    running = start_demo(env={"PYTHONPATH": str(stub.parent)})
    assert await running.ends() == 1
    assert "ended at once with status 1:\nno JupyterLab today" in running.output
    assert "Traceback" not in running.output
    assert list(running.temp.iterdir()) == []


async def test_the_browser_gets_pages_and_no_token(
    start_demo: Callable[..., RunningDemo], tmp_path: Path
) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    browser.chmod(0o755)
    running = start_demo(browser=f"{browser} %s")
    servers = await running.servers()
    await until(lambda: opened.exists() and len(opened.read_text().splitlines()) == 2)
    for server, address in zip(servers, opened.read_text().splitlines(), strict=True):
        assert server.token not in address
        text, mode = _text_and_mode(Path(urlsplit(address).path))
        assert f"{server.url}/lab/tree/welcome.ipynb?token={server.token}" in text
        assert mode == 0o600
    running.process.signal(signal.SIGINT)
    assert await running.ends() == 0


def _text_and_mode(path: Path) -> tuple[str, int]:
    return path.read_text(), stat.S_IMODE(path.stat().st_mode)


# --- parts


def test_the_sample_is_a_valid_notebook() -> None:
    notebook = nbformat.reads(sample_notebook().decode(), as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_ports() -> None:
    free = choose_ports(None, 5)
    assert len(set(free)) == 5
    assert choose_ports(free[0], 1) == [free[0]]
    with pytest.raises(DemoError, match="Port 65536"):
        choose_ports(65535, 2)


async def test_a_taken_port_and_a_missing_folder_are_refused(
    start_demo: Callable[..., RunningDemo], tmp_path: Path
) -> None:
    running = start_demo(str(tmp_path / "missing"))
    assert await running.ends() == 1
    assert "is no folder" in running.output


def _status(replica: str, *rooms: dict[str, object], state: str = "connected") -> dict[str, object]:
    return {"replica": replica, "transport": {"state": state}, "rooms": list(rooms)}


def _room(save: object, saver: str = "a") -> dict[str, object]:
    return {"room": "r", "share": "s", "path": "p.ipynb", "saver": saver, "last_save": save}


def test_watch_tells_each_thing_once() -> None:
    watch = Watch()

    def see(letter: str, status: dict[str, object]) -> list[str]:
        return list(watch.see(letter, json.loads(json.dumps(status))))

    assert see("A", _status("a")) == ["A  joined"]
    assert see("A", _status("a")) == []
    assert see("A", _status("a", _room(None))) == ["A  opened p.ipynb"]
    assert see("B", _status("b", _room(None))) == ["B  joined", "B  opened p.ipynb"]
    assert see("A", _status("a", _room({"at": 1}))) == ["A  saved p.ipynb"]
    assert see("B", _status("b", _room({"at": 1}))) == []
    assert see("A", _status("a", _room({"at": 1}), state="degraded")) == [
        "A  is degraded: its edits do not reach the others now"
    ]
    assert see("A", _status("a", _room({"at": 1}))) == ["A  is connected again"]
    assert see("A", _status("a")) == ["A  closed p.ipynb"]
    assert see("A", _status("a", _room({"at": 1}))) == ["A  opened p.ipynb"]


def test_watch_sees_a_save_that_the_other_server_shows_first() -> None:
    watch = Watch()
    list(watch.see("A", _status("a", _room(None))))
    list(watch.see("B", _status("b", _room(None))))
    assert list(watch.see("B", _status("b", _room(5)))) == []
    assert list(watch.see("A", _status("a", _room(5)))) == ["A  saved p.ipynb"]
