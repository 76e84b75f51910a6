"""A real Jupyter server as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from support.accounts import Account, environment_of_packages, python_as
from support.loop_watch import LOOP_WATCH_FILE, LoopWatch
from support.processes import GRACE_SECONDS, ChildProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TESTS_DIR = Path(__file__).resolve().parents[1]
DEFAULT_TOKEN = "acceptance-test"
START_TIMEOUT = 45.0
_LAB_ONLY = ("jupyterlab", "jupyter_lsp", "jupyter_server_proxy", "notebook_shim")


@dataclass(frozen=True)
class Session:
    """What `PUT /api/collaboration/session/…` hands to a browser."""

    format: str
    type: str
    file_id: str
    session_id: str

    @property
    def room_id(self) -> str:
        return f"{self.format}:{self.type}:{self.file_id}"


class JupyterProcess:
    """`jupyter server` (or `jupyter lab`) with data, config, runtime and home of its own.

    Args:
        root_dir: the folder that it serves.
        work_dir: where everything private to this server lives; kept over restarts.
        redis_url, shares: traits of `TeleportalExtension`; None leaves them unset.
        extension: whether `jupyter_teleportal` is enabled. False is plain upstream.
        config: more configuration, as in `jupyter_server_config.json`.
        cookie_secret_file: shared between servers that stand behind one balancer.
        ignore_interrupt: start it with SIGINT ignored.
        arguments: more of the command line.
        as_installed: with the extensions that are installed, and none named in the configuration.
        probe: load `support.probe_extension`, which shows the inside of the server over HTTP.
        watched: load `support.loop_watch`, which `loop_watch` reads.
        account: under which other account of the operating system it runs.
    """

    def __init__(
        self,
        root_dir: Path,
        *,
        work_dir: Path,
        name: str = "a",
        redis_url: str | None = None,
        shares: Mapping[str, str] | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        token: str = DEFAULT_TOKEN,
        lab: bool = False,
        extension: bool = True,
        cookie_secret_file: Path | None = None,
        ignore_interrupt: bool = False,
        probe: bool = False,
        watched: bool = False,
        arguments: Sequence[str] = (),
        as_installed: bool = False,
        account: Account | None = None,
    ) -> None:
        self.root_dir = root_dir
        self.work_dir = work_dir
        self.name = name
        self.port = port or free_port()
        self.token = token
        self.lab = lab
        self.ignore_interrupt = ignore_interrupt
        self.probe = probe
        self.watched = watched
        self.arguments = tuple(arguments)
        self.account = account
        self._env = dict(env or {})
        self._config = _merged(
            self._base_config(redis_url, shares, extension, cookie_secret_file), config or {}
        )
        if as_installed:
            del self._config["ServerApp"]["jpserver_extensions"]
        self._process: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"<JupyterProcess {self.name} {self.url} pid={self.pid}>"

    # --- addresses

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def loop_watch(self) -> LoopWatch:
        """What it says of its event loop, if it is watched."""
        return LoopWatch(self._watch_file)

    @property
    def _watch_file(self) -> Path:
        return self.work_dir / "loop-watch"

    # --- life-cycle

    async def start(self, timeout: float = START_TIMEOUT) -> JupyterProcess:
        """Start it and wait until `/api/status` answers.

        Raises:
            AssertionError: with the end of the log, if it exits or does not answer in time.
        """
        await self.launch()
        await self.wait_until_up(timeout)
        return self

    async def launch(self) -> None:
        """Start the process and do not wait."""
        assert not self.running, f"server {self.name} already runs"
        self._write_config()
        self._process = ChildProcess(
            self._command(),
            log_path=self.log_path,
            cwd=self.work_dir,
            env=self._environment(),
            ignore_interrupt=self.ignore_interrupt,
        )

    async def wait_until_up(self, timeout: float = START_TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(httpx.HTTPError):
                response = await self.request("GET", "/api/status", timeout=2)
                if response.status_code == 200:
                    await self._check_extension()
                    return
            if not self.running or time.monotonic() > deadline:
                state = "does not answer" if self.running else "has exited"
                self.kill()
                raise AssertionError(f"server {self.name} {state}:\n{self.log_tail()}")
            await asyncio.sleep(0.05)

    async def _check_extension(self) -> None:
        """An extension that fails to load leaves a server that works without it."""
        named = self._config["ServerApp"].get("jpserver_extensions", {})
        if not named.get("jupyter_teleportal", True):
            return
        response = await self.request("GET", "/api/teleportal/status")
        if response.status_code != 200:
            self.kill()
            raise AssertionError(f"{self.name} runs without the extension:\n{self.log_tail()}")

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.ask_to_stop()

    def terminate(self, grace: float = GRACE_SECONDS) -> bool:
        """SIGTERM, and SIGKILL after the grace. True if SIGTERM was enough."""
        if self._process is None:
            return True
        process, self._process = self._process, None
        return process.terminate(grace)

    def kill(self) -> None:
        """`kill -9` of the whole process group."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()

    def freeze(self) -> None:
        """SIGSTOP: like a long pause of the machine."""
        assert self._process is not None
        self._process.freeze()

    def thaw(self) -> None:
        assert self._process is not None
        self._process.thaw()

    async def restart(self, *, kill: bool = False) -> None:
        """Stop and start on the same port with the same data."""
        if kill:
            self.kill()
        else:
            self.terminate()
        await self.start()

    # --- log

    @property
    def log_path(self) -> Path:
        return self.work_dir / "server.log"

    def log_text(self) -> str:
        """Everything logged since the first start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def grep(self, pattern: str) -> list[str]:
        """The log lines in which the regular expression is found."""
        return [line for line in self.log_text().splitlines() if re.search(pattern, line)]

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    # --- HTTP

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float = 15,
    ) -> httpx.Response:
        """One authenticated request; `path` begins with a slash."""
        async with httpx.AsyncClient(verify=False, timeout=timeout) as client:
            return await client.request(
                method,
                self.url + path,
                json=body,
                params=params,
                headers={"Authorization": f"token {self.token}"},
            )

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """`request`, checked, and decoded if it carries JSON."""
        response = await self.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def status(self) -> dict[str, Any]:
        """`GET /api/teleportal/status`."""
        status: dict[str, Any] = await self.call("GET", "/api/teleportal/status")
        return status

    async def replica_id(self) -> str:
        return str((await self.status())["replica"])

    async def room_status(self, room_id: str) -> dict[str, Any] | None:
        """The status entry of one room, or None where this server has not opened it."""
        rooms = (await self.status())["rooms"]
        return next((room for room in rooms if room["room"] == room_id), None)

    async def session(self, path: str, format: str = "json", type: str = "notebook") -> Session:
        """What a browser asks for before it opens a document."""
        reply = await self.call(
            "PUT",
            f"/api/collaboration/session/{quote(path)}",
            body={"format": format, "type": type},
        )
        return Session(reply["format"], reply["type"], reply["fileId"], reply["sessionId"])

    # --- contents

    async def get_contents(self, path: str = "", **params: Any) -> dict[str, Any]:
        model: dict[str, Any] = await self.call("GET", _contents(path), params=params)
        return model

    async def exists(self, path: str) -> bool:
        response = await self.request("GET", _contents(path), params={"content": "0"})
        return response.status_code == 200

    async def new_file(self, directory: str = "", **model: Any) -> str:
        """An untitled file, as the launcher makes it. Returns its path."""
        created = await self.call("POST", _contents(directory), body=model)
        return str(created["path"])

    async def save_file(self, path: str, content: Any, type: str = "file") -> dict[str, Any]:
        format = "json" if type == "notebook" else "text"
        model: dict[str, Any] = await self.call(
            "PUT", _contents(path), body={"type": type, "format": format, "content": content}
        )
        return model

    async def rename(self, path: str, new_path: str) -> None:
        """Rename or move."""
        await self.call("PATCH", _contents(path), body={"path": new_path})

    async def copy(self, path: str, directory: str = "") -> str:
        """Copy into a folder. Returns the path of the copy."""
        created = await self.call("POST", _contents(directory), body={"copy_from": path})
        return str(created["path"])

    async def delete(self, path: str) -> None:
        await self.call("DELETE", _contents(path))

    # --- set-up

    def _base_config(
        self,
        redis_url: str | None,
        shares: Mapping[str, str] | None,
        extension: bool,
        cookie_secret_file: Path | None,
    ) -> dict[str, dict[str, Any]]:
        extensions = {"jupyter_teleportal": extension}
        if not self.lab:
            # Not needed without a browser, and half of the time that a start takes.
            extensions |= dict.fromkeys(_LAB_ONLY, False)
        if self.probe:
            extensions["support.probe_extension"] = True
        if self.watched:
            extensions["support.loop_watch"] = True
        config: dict[str, dict[str, Any]] = {
            "ServerApp": {
                "jpserver_extensions": extensions,
                "port": self.port,
                "port_retries": 0,
                "open_browser": False,
                "root_dir": str(self.root_dir),
                "log_level": "INFO",
            },
            "IdentityProvider": {"token": self.token},
            "SQLiteYStore": {"db_path": str(self.work_dir / "data" / "ystore.db")},
            # Upstream's default lies in the served folder, where servers would share it by
            # accident: what they need of each other has to come through Redis.
            "YDocExtension": {"session_store_path": str(self.work_dir / "data" / "sessions.json")},
        }
        if cookie_secret_file is not None:
            config["ServerApp"]["cookie_secret_file"] = str(cookie_secret_file)
        settings: dict[str, Any] = {}
        if redis_url is not None:
            settings["redis_url"] = redis_url
        if shares is not None:
            settings["shares"] = dict(shares)
        if settings:
            config["TeleportalExtension"] = settings
        return config

    def _write_config(self) -> None:
        for folder in ("data", "config", "runtime", "home"):
            (self.work_dir / folder).mkdir(parents=True, exist_ok=True)
        target = self.work_dir / "config" / "jupyter_server_config.json"
        target.write_text(json.dumps(self._config, indent=2))
        if self.lab:
            settings = self.work_dir / "config" / "lab" / "user-settings" / "@jupyterlab"
            target = settings / "apputils-extension" / "notification.jupyterlab-settings"
            target.parent.mkdir(parents=True, exist_ok=True)
            # The question about news would lie over what a test wants to see.
            target.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
        if self.account is not None:
            for path in (self.work_dir, *self.work_dir.rglob("*")):
                os.chown(path, self.account.user, self.account.group)

    def _command(self) -> list[str]:
        program = "lab" if self.lab else "server"
        always = ("--no-browser", "--allow-root")
        if self.account is not None:
            module = f"jupyter_{program}"
            return [*python_as(self.account), "-m", module, *always, *self.arguments]
        return [sys.executable, "-m", "jupyter", program, *always, *self.arguments]

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("JUPYTER", "JUPYTERHUB", "PYTEST", "REDIS"))
        }
        home = self.work_dir / "home"
        if self.account is not None:
            inherited |= environment_of_packages()
        return {
            **inherited,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local" / "share"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "IPYTHONDIR": str(home / ".ipython"),
            "JUPYTER_DATA_DIR": str(self.work_dir / "data"),
            "JUPYTER_CONFIG_DIR": str(self.work_dir / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.work_dir / "runtime"),
            "PYTHONPATH": os.pathsep.join(
                part for part in (str(TESTS_DIR), inherited.get("PYTHONPATH", "")) if part
            ),
            "PYTHONUNBUFFERED": "1",
            LOOP_WATCH_FILE: str(self._watch_file),
            **self._env,
        }


def _contents(path: str) -> str:
    return f"/api/contents/{quote(path)}"


def _merged(
    base: dict[str, dict[str, Any]], more: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """`base` with the traits of `more` on top, class by class; dictionaries are merged."""
    for section, traits in more.items():
        target = base.setdefault(section, {})
        for trait, value in traits.items():
            if isinstance(value, dict) and isinstance(target.get(trait), dict):
                target[trait] = {**target[trait], **value}
            else:
                target[trait] = value
    return base
