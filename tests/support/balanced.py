"""The balancer example as a process: three servers behind nginx and HAProxy."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.jupyter_process import JupyterProcess
from support.processes import ChildProcess, free_port
from support.programs import PATH as PROGRAMS
from support.programs import require_binary
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "balancer"
START_SECONDS = 90.0
PATH = os.pathsep.join((PROGRAMS, "/usr/sbin"))
"""Debian puts both balancers where not everybody looks."""


def require_balancer(name: str) -> str:
    """The path of nginx or HAProxy; without it the test is skipped, and fails in CI."""
    return require_binary(name, path=PATH)


def check_command(name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """What checks the example's configuration of a balancer, without starting anything: the
    command and its environment."""
    spec = importlib.util.spec_from_file_location("balancer_example", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    names = ("SERVER_A", "SERVER_B", "SERVER_C", name.upper(), f"{name.upper()}_AFFINITY")
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    process = getattr(run, name)(folder, addresses)
    flag = {"nginx": "-t", "haproxy": "-c"}[name]
    return [require_balancer(name), *process.command[1:], flag], process.env


def four_free_ports() -> int:
    """The first of four ports in a row that were free a moment ago."""
    for first in range(20_000, 30_000, 4):
        probes = [socket.socket() for _ in range(4)]
        try:
            for number, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + number))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first
    raise AssertionError("no four free ports in a row")


class Door(JupyterProcess):
    """An address of the example, with its token: a balancer's or, with a log, a server's."""

    def __init__(self, example: Balanced, name: str, port: int) -> None:
        super().__init__(
            example.folder / "shared",
            work_dir=example.folder / "servers" / name,
            name=name,
            port=port,
            token=(example.folder / "token").read_text(),
        )

    @property
    def log_path(self) -> Path:
        return self.work_dir / f"{self.name}.log"


class Balanced:
    """`run.py` in a folder of its own, on free ports."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.port = four_free_ports()
        news = folder / "settings" / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        # The question about news would lie over what a test wants to see.
        (news / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )
        self.process = ChildProcess(
            [
                *(sys.executable, str(EXAMPLE / "run.py"), "nginx", "haproxy"),
                *("--folder", str(folder), "--port", str(self.port)),
            ],
            log_path=folder / "run.log",
            cwd=folder,
            env=self._environment(redis_url),
        )

    def _environment(self, redis_url: str) -> Mapping[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")
        }
        return {
            **inherited,
            "PATH": PATH,
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_TELEPORTAL_REDIS_URL": redis_url,
        }

    @property
    def output(self) -> str:
        return self.process.log_path.read_text(errors="replace")

    async def wait_until_up(self) -> None:
        def up() -> bool:
            assert self.process.running, self.output
            return "restarts the servers one after the other" in self.output

        await until(up, START_SECONDS, what="the example to say that it is up", poll=0.1)

    def servers(self) -> list[Door]:
        """The servers themselves, past the balancers."""
        found = re.findall(r"^  ([abc])  http://127\.0\.0\.1:(\d+)$", self.output, re.M)
        return [Door(self, name, int(port)) for name, port in found]

    def door(self, balancer: str, *, affinity: bool) -> Door:
        """The address of `nginx` or `haproxy`."""
        number = 2 * ("nginx", "haproxy").index(balancer) + affinity
        return Door(self, f"{balancer}{'-affinity' if affinity else ''}", self.port + number)
