"""Redis' password is in no log, no answer and no list of processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
from support.cluster import wait_connected
from support.leftovers import kill_processes_in
from support.processes import ChildProcess, free_port
from support.waiting import until

from jupyter_teleportal.transports.embedded.server import ensure_embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

PASSWORD = "sesame/open#it's?no@w:\\\"and%"
USER = "keeper"
PARTS = ("sesame", "open#it", "no@w", "and%", "no%40w", "%2Fopen")
"""What must not be seen anywhere: no part of it."""


@pytest.fixture
def guarded(redis_server: RedisServer) -> RedisServer:
    set_password(redis_server, PASSWORD)
    return redis_server


def set_password(redis_server: RedisServer, password: str) -> None:
    with redis_server.cli() as client:
        client.execute_command(
            *("ACL", "SETUSER", USER, "reset", "on", f">{password}", "~*", "&*", "+@all")
        )


def url(redis_server: RedisServer, password: str = PASSWORD) -> str:
    return f"redis://{USER}:{quote(password, safe='')}@127.0.0.1:{redis_server.port}/0"


def ways(redis_server: RedisServer, folder: Path) -> dict[str, dict[str, Any]]:
    """How a server may be told, as options of `JupyterProcess`."""
    file = folder / "password"
    file.write_text(PASSWORD + "\n")
    options = {"host": "127.0.0.1", "port": redis_server.port, "username": USER}
    plain = f"redis://{USER}@127.0.0.1:{redis_server.port}/0"
    return {
        "configuration file": {"redis_url": url(redis_server)},
        "options": {
            "config": {"TeleportalExtension": {"redis_options": {**options, "password": PASSWORD}}}
        },
        "environment": {"env": {"JUPYTER_TELEPORTAL_REDIS_URL": url(redis_server)}},
        "command line": {"arguments": [f"--TeleportalExtension.redis_url={url(redis_server)}"]},
        "options on the command line": {
            "arguments": [
                f"--TeleportalExtension.redis_options={ {**options, 'password': PASSWORD}!r}"
            ]
        },
        "password file": {
            "redis_url": plain,
            "config": {"TeleportalExtension": {"redis_password_file": str(file)}},
        },
        "password file in the environment": {
            "redis_url": plain,
            "env": {"JUPYTER_TELEPORTAL_REDIS_PASSWORD_FILE": str(file)},
        },
    }


WAYS = (
    "configuration file",
    "options",
    "environment",
    "command line",
    "options on the command line",
    "password file",
    "password file in the environment",
)
ON_THE_COMMAND_LINE = "Redis' password is on the command line"


def seen(text: str) -> list[str]:
    """The lines of a text that show a part of the password."""
    return [line for line in text.splitlines() if any(part in line for part in PARTS)]


@pytest.mark.parametrize("way", WAYS)
async def test_no_log_shows_the_password(
    make_server: MakeServer, guarded: RedisServer, tmp_path: Path, way: str
) -> None:
    options = ways(guarded, tmp_path)[way]
    options["arguments"] = [*options.get("arguments", ()), "--debug"]
    options.setdefault("config", {})["ServerApp"] = {"log_level": "DEBUG"}
    # Where none are named, each extension logs the whole configuration.
    server = await make_server(as_installed=True, **options)
    await wait_connected(server)
    # Redis does not know it any more: the errors of logging in.
    set_password(guarded, "another")
    with guarded.cli() as client:
        client.execute_command("CLIENT", "KILL", "USER", USER)
    await until(lambda: server.grep("cannot be reached"), what="an error in the log")
    status = json.dumps(await server.status())
    server.terminate()
    assert "Config changed" in server.log_text()
    assert seen(server.log_text()) == []
    assert seen(status) == []
    assert bool(server.grep(ON_THE_COMMAND_LINE)) == ("command line" in way)


async def test_a_password_that_is_not_percent_encoded_is_an_error_that_does_not_show_it(
    make_server: MakeServer, guarded: RedisServer
) -> None:
    plain = f"redis://{USER}:{PASSWORD}@127.0.0.1:{guarded.port}/0"
    server = await make_server(redis_url=plain, arguments=["--debug"])
    status = await server.status()
    assert "percent-encode" in status["problem"]
    server.terminate()
    assert server.grep("percent-encode")
    assert seen(server.log_text() + json.dumps(status)) == []


async def test_a_new_password_in_the_file_needs_no_restart(
    make_server: MakeServer, guarded: RedisServer, tmp_path: Path
) -> None:
    server = await make_server(**ways(guarded, tmp_path)["password file"])
    await wait_connected(server)
    set_password(guarded, "another")
    with guarded.cli() as client:
        client.execute_command("CLIENT", "KILL", "USER", USER)
    await until(lambda: server.grep("cannot be reached"), what="that it is cut off")
    (tmp_path / "password").write_text("another")
    await wait_connected(server)


async def test_a_password_file_that_is_not_there_is_named(
    make_server: MakeServer, guarded: RedisServer, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    server = await make_server(
        redis_url=guarded.url, config={"TeleportalExtension": {"redis_password_file": str(missing)}}
    )
    problem = (await server.status())["problem"]
    assert "redis_password_file" in problem
    assert str(missing) in problem


@pytest.mark.parametrize("way", ["environment", "command line"])
async def test_the_commands_do_not_show_the_password(
    guarded: RedisServer, tmp_path: Path, way: str
) -> None:
    options = ways(guarded, tmp_path)[way]
    for password_known in (True, False):
        if not password_known:
            set_password(guarded, "another")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jupyter", "teleportal", "doctor", "--json"),
            *("--", *options.get("arguments", ())),
            env={**os.environ, **options.get("env", {}), "JUPYTER_CONFIG_DIR": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        assert b"reachable" in printed
        assert seen(printed.decode()) == []


BALANCER = Path(__file__).parents[2] / "examples/balancer/run.py"
LAUNCHERS = {
    "doctor": (["-m", "jupyter_teleportal.tools.cli", "doctor"], None),
    "status": (["-m", "jupyter_teleportal.tools.cli", "status"], None),
    "status as JSON": (["-m", "jupyter_teleportal.tools.cli", "status", "--json"], None),
    "demo": (["-m", "jupyter_teleportal.tools.cli", "demo", "--no-browser"], "Ctrl-C stops them"),
    "the example with a balancer": ([str(BALANCER), "haproxy"], "Ctrl-C stops all"),
}
"""How each is started, and what it says when all is up, if it does not end by itself."""


def commands_that_show(parts: Sequence[str]) -> list[str]:
    """The command lines of this machine's processes that show one of these, as `ps` lists them."""
    shown = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            shown += [command for part in parts if part in command]
    return shown


def logs_in(folder: Path) -> str:
    return "\n".join(log.read_text(errors="replace") for log in folder.rglob("*.log"))


@pytest.mark.parametrize("launcher", LAUNCHERS)
async def test_neither_ps_nor_the_output_shows_the_password(
    make_server: MakeServer, guarded: RedisServer, tmp_path: Path, launcher: str
) -> None:
    arguments, is_up = LAUNCHERS[launcher]
    env = {"JUPYTER_TELEPORTAL_REDIS_URL": url(guarded)}
    if launcher.startswith("status"):
        server = await make_server(env=env)
        await wait_connected(server)
        arguments = [*arguments, "--url", server.url, "--token", server.token]
    if str(BALANCER) in arguments:
        arguments = [*arguments, "--folder", str(tmp_path / "served"), "--port", f"{free_port()}"]
    with tempfile.TemporaryDirectory(prefix="t") as temp:  # `tmp_path` is too deep for sockets
        process = ChildProcess(
            [sys.executable, *arguments],
            log_path=tmp_path / "output",
            cwd=tmp_path,
            env={**os.environ, **env, "JUPYTER_CONFIG_DIR": str(tmp_path), "TMPDIR": temp},
        )
        try:

            def done() -> bool:
                assert commands_that_show(PARTS) == []
                return not process.running or bool(is_up and is_up in output())

            def output() -> str:
                return process.log_path.read_text(errors="replace")

            await until(done, 120, what=f"the end of {launcher}", poll=0.02)
            assert process.running == bool(is_up), output()
            process.terminate()
        finally:
            process.kill()
            await kill_processes_in(Path(temp))
            await kill_processes_in(tmp_path / "served")
    assert output()
    assert seen(output()) == []
    assert seen(logs_in(tmp_path)) == []


async def test_what_a_command_line_shows_is_noticed() -> None:
    word = "opensesame-on-a-command-line"
    shown = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", word, stdin=subprocess.PIPE
    )
    try:
        await until(lambda: commands_that_show([word]), what="the command line")
    finally:
        shown.kill()
        await shown.wait()


def test_the_embedded_server_shows_no_password_in_ps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TELEPORTAL_EMBEDDED_DIR", str(tmp_path / "embedded"))
    assert "@" not in ensure_embedded(), "it has no password, its socket is the user's alone"
    commands = [
        " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or ())
    ]
    assert commands
    assert not [command for command in commands if "requirepass" in command]
