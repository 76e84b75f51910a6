"""``jupyter teleportal demo``: an embedded Valkey and JupyterLab servers on one folder.

Everything that is started here is stopped here. What the servers need for themselves lies in a
temporary folder: the served folder holds nothing that its user did not put there.
"""

from __future__ import annotations

import html
import json
import os
import secrets
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jupyter_core.paths import jupyter_data_dir

from ..core.errors import TeleportalError
from ..transports.embedded.processes import StopRequest, die_with_parent, end_process, log_tail
from ..transports.embedded.valkey import EmbeddedServer
from .status_client import Server, StatusError, fetch_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
SAMPLE = "welcome.ipynb"
POLL_SECONDS = 1.0
START_SECONDS = 90.0
STOP_SECONDS = 5.0  # a server with a client connected may take far longer by itself

# What a surrounding Jupyter (a terminal in JupyterLab, a hub) says to its own processes.
FOREIGN_VARIABLES = ("JUPYTERHUB_", "JPY_", "JUPYTER_TELEPORTAL_", "JUPYTER_TOKEN")


class DemoError(TeleportalError):
    """The demo cannot go on; the message says why."""


class NotJoined(DemoError):
    """A server does not share yet, or never will (``final``)."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def sample_notebook() -> bytes:
    """Return the notebook that a fresh folder starts with."""
    return files(__package__).joinpath("sample.ipynb").read_bytes()


def choose_ports(first: int | None, count: int) -> list[int]:
    """Return ``first``, ``first + 1``, … or, with None, ports that are free now.

    Raises:
        DemoError: one of the named ports is taken or does not exist.
    """
    wanted = [0] * count if first is None else list(range(first, first + count))
    with ExitStack() as stack:
        probes = []
        for port in wanted:
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                raise DemoError(f"Port {port} cannot be used: {error}") from error
            probes.append(probe)
        return [int(probe.getsockname()[1]) for probe in probes]


class Replica:
    """One JupyterLab server of the demo.

    Args:
        letter: its name for people.
        folder: what it serves.
        work: the demo's temporary folder, shared by all its servers.
        redis_url: what they meet at.
    """

    def __init__(self, letter: str, port: int, folder: Path, work: Path, redis_url: str) -> None:
        self.letter = letter
        self.log_path = work / letter / "server.log"
        self.server = Server(f"http://{HOST}:{port}/", secrets.token_hex(24))
        self._own = work / letter
        self._work = work
        self._port = port
        self._folder = folder
        self._redis_url = redis_url
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, page: str) -> str:
        """Return the address of ``page`` (a file's path, "" for the folder), token included."""
        page = f"lab/tree/{quote(page)}" if page else "lab"
        return f"{self.server.url}{page}?token={self.server.token}"

    def start(self) -> None:
        """Start the process; it answers some seconds later."""
        for name in ("data", "config", "runtime"):
            (self._own / name).mkdir(parents=True)
        config = json.dumps(self._config(), indent=2)
        (self._own / "config" / "jupyter_server_config.json").write_text(config)
        with self.log_path.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._own,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

    def exit_status(self) -> int | None:
        """Return the process's exit status, None while it runs."""
        return None if self._process is None else self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM and do not wait."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, grace_seconds: float) -> None:
        """End it within ``grace_seconds``; nothing happens if it never started."""
        if self._process is not None:
            end_process(self._process, grace_seconds)

    def _config(self) -> dict[str, dict[str, Any]]:
        own, work = self._own, self._work
        return {
            "ServerApp": {
                "root_dir": str(self._folder),
                "ip": HOST,
                "port": self._port,
                "port_retries": 0,
                "open_browser": False,
                "allow_root": os.geteuid() == 0,
                "jpserver_extensions": {"jupyter_teleportal": True},
            },
            "LabApp": {
                "news_url": None,
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            },
            # All that Jupyter would otherwise put into the served folder.
            "FileCheckpoints": {"root_dir": str(work / "checkpoints")},
            "SQLiteYStore": {"db_path": str(own / "ystore.db")},
            "YDocExtension": {"session_store_path": str(own / "sessions.json")},
            "LanguageServerManager": {"virtual_documents_dir": str(own / "virtual_documents")},
        }

    def _environment(self) -> dict[str, str]:
        own = self._own
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(FOREIGN_VARIABLES)
        }
        # The user's own kernels and lab extensions stay in reach.
        paths = [inherited.get("JUPYTER_PATH", ""), jupyter_data_dir()]
        return {
            **inherited,
            "JUPYTER_PATH": os.pathsep.join(filter(None, paths)),
            "JUPYTER_DATA_DIR": str(own / "data"),
            "JUPYTER_CONFIG_DIR": str(own / "config"),
            "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
            "JUPYTER_TELEPORTAL_REDIS_URL": self._redis_url,
            "JUPYTER_TOKEN": self.server.token,
            # Jupyter keeps checkpoints of subfolders in the temp directory.
            "TMPDIR": str(self._work / "tmp"),
            "PYTHONUNBUFFERED": "1",
        }


def joined_status(server: Server) -> dict[str, Any]:
    """Return the status of a server that has reached the others.

    Raises:
        NotJoined: it has not, or gives no status.
    """
    try:
        status = fetch_status(server, timeout=2.0)
    except StatusError as error:
        raise NotJoined(str(error), final="HTTP 404" in str(error)) from error
    if status.get("problem"):
        raise NotJoined(str(status["problem"]), final=True)
    if (status.get("transport") or {}).get("state") != "connected":
        raise NotJoined("it does not reach the embedded Valkey", final=False)
    return status


class Watch:
    """Turns the statuses that the servers give, one after the other, into lines for people."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._rooms: dict[str, dict[str, str]] = {}
        self._saves: set[tuple[str, str]] = set()

    def see(self, letter: str, status: dict[str, Any]) -> Iterator[str]:
        """Yield what has happened on server ``letter`` since its last status."""
        yield from self._state(letter, str((status.get("transport") or {}).get("state")))
        rooms = {str(room.get("room")): room for room in status.get("rooms") or []}
        known = self._rooms.setdefault(letter, {})
        for name in known.keys() - rooms.keys():
            yield f"{letter}  closed {known.pop(name)}"
        for name, room in rooms.items():
            path = str(room.get("path") or room.get("room"))
            if name not in known:
                self._is_new_save(name, room)  # what was saved before counts as known
                yield f"{letter}  opened {path}"
            elif room.get("saver") == status.get("replica") and self._is_new_save(name, room):
                yield f"{letter}  saved {path}"
            known[name] = path

    def _state(self, letter: str, state: str) -> Iterator[str]:
        before = self._states.get(letter)
        self._states[letter] = state
        if state == before:
            return
        if state == "connected":
            yield f"{letter}  joined" if before is None else f"{letter}  is connected again"
        else:
            yield f"{letter}  is {state}: its edits do not reach the others now"

    def _is_new_save(self, name: str, room: dict[str, Any]) -> bool:
        save = (name, json.dumps(room.get("last_save"), sort_keys=True))
        new = room.get("last_save") is not None and save not in self._saves
        self._saves.add(save)
        return new


class Demo:
    """The whole demo.

    Args:
        folder: what the servers serve; None makes a new one with a sample notebook, which stays.
        replicas: how many servers, 1 to 26.
        port: port of the first server, the others follow; None takes free ones.
        open_browser: open one page for each server.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        replicas: int = 2,
        port: int | None = None,
        open_browser: bool = True,
    ) -> None:
        self._named = folder
        self._count = replicas
        self._port = port
        self._open_browser = open_browser
        self._replicas: list[Replica] = []

    def run(self) -> int:
        """Run until Ctrl-C (or SIGTERM, SIGHUP) and return 0; 1 if all servers have died.

        Main thread only. Everything that it started is stopped when it returns.

        Raises:
            TeleportalError: it could not start; what had been started is stopped again.
        """
        ports = choose_ports(self._port, self._count)
        folder, page = self._prepare_folder()
        try:
            stopped = self._serve(folder, page, ports)
        except TeleportalError:
            if self._named is None:
                shutil.rmtree(folder)  # nobody has seen it
            raise
        say(f"The files are in {folder}")
        return 0 if stopped else 1

    def _serve(self, folder: Path, page: str, ports: Sequence[int]) -> bool:
        """Serve ``folder`` and return whether a signal ended it."""
        with StopRequest() as stop, ExitStack() as stack:
            work = Path(tempfile.mkdtemp(prefix="jupyter-teleportal-"))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            for name in ("checkpoints", "tmp"):
                (work / name).mkdir()
            valkey = stack.enter_context(EmbeddedServer(work / "valkey", owned=True))
            stack.callback(self._stop_servers, stop)
            for letter, port in zip(string.ascii_uppercase, ports, strict=False):
                replica = Replica(letter, port, folder, work, valkey.url)
                self._replicas.append(replica)
                replica.start()
            watch = Watch()
            if self._wait_until_up(stop, watch):
                self._welcome(page, work)
                self._follow(stop, watch)
            say("\nStopping …")
            return stop.count > 0

    def _prepare_folder(self) -> tuple[Path, str]:
        """Return the folder to serve and the file to show first ("" for none)."""
        if self._named is not None:
            folder = self._named.expanduser().absolute()
            if not folder.is_dir():
                raise DemoError(f"{folder} is no folder.")
            return folder, ""
        folder = Path(tempfile.mkdtemp(prefix="teleportal-demo-"))
        (folder / SAMPLE).write_bytes(sample_notebook())
        return folder, SAMPLE

    def _wait_until_up(self, stop: StopRequest, watch: Watch) -> bool:
        """Wait until every server has joined; False when asked to stop before that."""
        say(f"Starting {self._count} JupyterLab servers …")
        waiting = list(self._replicas)
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            if stop.wait(0.2):
                return False
            for replica in list(waiting):
                self._check_alive(replica)
                try:
                    status = joined_status(replica.server)
                except NotJoined as error:
                    if error.final or time.monotonic() > deadline:
                        said = log_tail(replica.log_path, 20)
                        raise DemoError(f"Server {replica.letter}: {error}\n{said}") from error
                else:
                    waiting.remove(replica)
                    report(watch.see(replica.letter, status))
        return True

    @staticmethod
    def _check_alive(replica: Replica) -> None:
        if (status := replica.exit_status()) is not None:
            raise DemoError(
                f"Server {replica.letter} ended at once with status {status}:\n"
                + log_tail(replica.log_path, 20)
            )

    def _welcome(self, page: str, work: Path) -> None:
        addresses = {replica.letter: replica.address(page) for replica in self._replicas}
        say("\nThese servers show the same notebooks. Type in one, look at the other:\n")
        for letter, address in addresses.items():
            say(f"  {letter}  {address}")
        say("\nCtrl-C stops them. What happens:")
        if self._open_browser:
            pages = [_redirect_page(work / f"{name}.html", url) for name, url in addresses.items()]
            # A browser in the terminal would hold up everything else.
            threading.Thread(target=_open_pages, args=(pages,), daemon=True).start()

    def _follow(self, stop: StopRequest, watch: Watch) -> None:
        """Show what happens until asked to stop, or until no server is left."""
        alive = list(self._replicas)
        troubles: dict[str, str] = {}
        while alive and not stop.wait(POLL_SECONDS):
            for replica in list(alive):
                if (status := replica.exit_status()) is not None:
                    alive.remove(replica)
                    say(f"{replica.letter}  has died with status {status}. Its last words:")
                    say(log_tail(replica.log_path))
                    continue
                try:
                    report(watch.see(replica.letter, fetch_status(replica.server, timeout=2.0)))
                    troubles.pop(replica.letter, None)
                except StatusError as error:
                    if troubles.get(replica.letter) != str(error) and replica.exit_status() is None:
                        troubles[replica.letter] = str(error)
                        say(f"{replica.letter}  gives no status: {error}")

    def _stop_servers(self, stop: StopRequest) -> None:
        """End all servers, at once for those who press Ctrl-C again."""
        asked = stop.count
        for replica in self._replicas:
            replica.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        while any(replica.exit_status() is None for replica in self._replicas):
            if time.monotonic() > deadline or stop.count > asked:
                break
            time.sleep(0.05)
        for replica in self._replicas:
            replica.stop(0.0)


def say(line: str) -> None:
    """Print a line at once, whatever standard output is."""
    print(line, flush=True)


def report(lines: Iterator[str]) -> None:
    """Print lines with the time of day."""
    for line in lines:
        say(f"{time.strftime('%H:%M:%S')}  {line}")


def _redirect_page(path: Path, address: str) -> str:
    """Write a page that leads to ``address`` and return its own address.

    The token would otherwise be in the browser's command line, for every user of the machine.
    """
    target = html.escape(address, quote=True)
    path.touch(mode=0o600)
    path.write_text(f'<meta charset="utf-8"><meta http-equiv="refresh" content="0;url={target}">')
    return path.as_uri()


def _open_pages(pages: Sequence[str]) -> None:
    try:
        opened = [webbrowser.open_new_tab(page) for page in pages]
    except (webbrowser.Error, OSError) as error:
        say(f"The browser did not open: {error}")
        return
    if not all(opened):
        say("No browser opened; the addresses are above.")
