"""``redis_url = "embedded"``: one Valkey for all Jupyter servers of a user on a machine.

:func:`ensure_embedded` starts it or joins it. A small supervisor process owns it, restarts it when
it crashes and stops it when nobody has been connected for a while, so it outlives the Jupyter
server that came first. In the data folder, beside what :mod:`.valkey` keeps:

===================  ===========================================================================
``supervisor.lock``  locked by the supervisor; ``supervisor.json`` says where, once it serves
``supervisor.log``   what it says
``start.lock``       locked while somebody starts or stops the server; its mtime is the last call
                     of :func:`ensure_embedded`
===================  ===========================================================================

On Linux the server ends with its supervisor, however that ends. macOS has no such signal: there a
server whose supervisor was killed with SIGKILL stays until the next :func:`ensure_embedded`,
which replaces it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import StopRequest, log_tail, open_log, poll
from .valkey import (
    FOLDER_VARIABLE,
    EmbeddedServer,
    EmbeddedServerError,
    answers,
    count_clients,
    find_server_binary,
    lock_file,
    make_private,
    socket_path_for,
    url_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "EmbeddedServer",
    "EmbeddedServerError",
    "embedded_folder",
    "ensure_embedded",
    "keep_embedded",
]

log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0


def embedded_folder() -> Path:
    """Return the data folder that all servers of this user share; it may not exist yet.

    It depends on the user alone, never on ``JUPYTER_DATA_DIR``: servers with data folders of
    their own must find each other.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "jupyter-teleportal" / "embedded"


def ensure_embedded(*, idle_seconds: float = IDLE_SECONDS, start_seconds: float = 30.0) -> str:
    """Return the URL of this user's server on this machine, started if it does not run yet.

    Blocks for about 0.2 s when it has to start one. Safe from any number of processes and threads
    at once, and always the same URL, so call it again when the server cannot be reached.

    Args:
        idle_seconds: where this call starts the server: it stops after that time with no client
            connected and no call of this function. Its data stays for the next start.
        start_seconds: how long to wait for it.

    Raises:
        EmbeddedServerError: see :class:`EmbeddedServer`; also when the folder is in use on
            another machine.
    """
    folder = embedded_folder()
    make_private(folder)
    socket_path = socket_path_for(folder)
    launches = 0
    with _starting(folder, start_seconds):
        for _ in poll(start_seconds):
            lock = lock_file(folder / "supervisor.lock")
            if lock is not None:
                if launches == 2:
                    break
                launches += 1
                _launch_supervisor(folder, lock, idle_seconds)
            elif _serves_here(folder) and answers(socket_path):
                return url_of(socket_path)
    said = log_tail(folder / "supervisor.log")
    raise EmbeddedServerError(f"No embedded server came up on {folder}:\n{said}")


async def keep_embedded(connected: Callable[[], bool], interval_seconds: float = 5.0) -> None:
    """Start the shared server again when it is gone for good; runs until it is cancelled.

    Its supervisor restarts a server that crashes. This is for the end of both, such as when memory
    ran out: without it they would stay away until the next Jupyter server starts.

    Args:
        connected: whether this process is connected; asked every ``interval_seconds``.
    """
    complaint = ""
    while True:
        await asyncio.sleep(interval_seconds)
        if connected():
            complaint = ""
            continue
        try:
            await asyncio.to_thread(ensure_embedded)
        except EmbeddedServerError as error:
            if str(error) != complaint:
                complaint = str(error)
                log.warning("the embedded server cannot be started again: %s", error)


@contextmanager
def _starting(folder: Path, seconds: float) -> Iterator[None]:
    """Hold ``start.lock`` and say through its mtime that somebody wants the server."""
    for _ in poll(seconds):
        lock = lock_file(folder / "start.lock")
        if lock is not None:
            break
    else:
        raise EmbeddedServerError(f"Another process holds {folder / 'start.lock'} for too long.")
    try:
        os.utime(lock)
        yield
    finally:
        os.close(lock)


def _launch_supervisor(folder: Path, lock: int, idle_seconds: float) -> None:
    """Start the supervisor, which takes over ``lock``; closed here in any case."""
    try:
        find_server_binary()
        (folder / "supervisor.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "jupyter_teleportal.transports.embedded.server"]
        command += ["--supervise", str(folder), "--idle-seconds", str(idle_seconds)]
        command += ["--lock-fd", str(lock), "--detach"]
        with open_log(folder / "supervisor.log") as output:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
                pass_fds=(lock,),
                timeout=30,
                check=True,
            )
    except (OSError, subprocess.SubprocessError) as error:
        said = log_tail(folder / "supervisor.log")
        raise EmbeddedServerError(f"Cannot start the supervisor: {error}\n{said}") from error
    finally:
        os.close(lock)


def _serves_here(folder: Path) -> bool:
    """Return whether the supervisor has its own server up (not one that is about to end).

    Raises:
        EmbeddedServerError: it runs on another machine; a home on a network has one folder.
    """
    try:
        host = json.loads((folder / "supervisor.json").read_bytes())["host"]
    except (OSError, ValueError, KeyError) as error:
        log.debug("the supervisor has not said yet where it runs: %s", error)
        return False
    if host == socket.gethostname() or answers(socket_path_for(folder)):
        return True
    raise EmbeddedServerError(
        f"The embedded server on {folder} runs on {host}, and a unix socket does not reach across "
        f"machines. Name a folder of this machine in {FOLDER_VARIABLE}, or use a Redis URL that "
        "all servers can reach."
    )


class Supervisor:
    """Owns the shared server of ``folder`` until nobody uses it, or a signal says stop.

    Args:
        folder: as :class:`EmbeddedServer`.
        lock: descriptor of the held ``supervisor.lock``.
        idle_seconds: stop after that time without a client or a call of :func:`ensure_embedded`.
    """

    MAX_STARTS_IN_A_ROW = 5
    STABLE_SECONDS = 10.0

    def __init__(self, folder: Path, lock: int, idle_seconds: float) -> None:
        self.folder = folder
        self._lock = lock
        self._idle_seconds = idle_seconds
        self._server = EmbeddedServer(folder, owned=True, evict=True)
        self._wanted = 0  # mtime of start.lock in ns, when last seen
        self._used = self._started = time.monotonic()

    def run(self) -> int:
        """Serve until unused, stopped by a signal (both 0) or unable to keep it running (1)."""
        starts_in_a_row = 0
        with StopRequest() as stop:
            try:
                while not stop.count:
                    if not self._server.running():
                        if starts_in_a_row == self.MAX_STARTS_IN_A_ROW:
                            log.error("gave up after %d starts", starts_in_a_row)
                            return 1
                        stop.wait(0.1 * starts_in_a_row**2)
                        starts_in_a_row += 1
                        self._start()
                    elif self._stop_if_unused():
                        break
                    else:
                        stop.wait(min(2.0, self._idle_seconds / 4))
                        if time.monotonic() - self._started > self.STABLE_SECONDS:
                            starts_in_a_row = 0
            finally:
                self._server.stop()
        return 0

    def _start(self) -> None:
        if self._server.pid is not None:
            log.error("the server ended by itself; starting it again")
        try:
            self._server.start()
        except EmbeddedServerError as error:
            log.error("%s", error)
        else:
            log.info("serving %s", self._server.url)
            where = {"host": socket.gethostname(), "pid": os.getpid()}
            (self.folder / "supervisor.json").write_text(json.dumps(where))
        self._used = self._started = time.monotonic()

    def _in_use(self) -> bool:
        wanted = (self.folder / "start.lock").stat().st_mtime_ns
        wanted, self._wanted = wanted != self._wanted, wanted
        try:
            return count_clients(self._server.socket_path) > 0 or bool(wanted)
        except (OSError, EmbeddedServerError) as error:
            log.warning("cannot ask the server for its clients: %s", error)
            return True

    def _stop_if_unused(self) -> bool:
        now = time.monotonic()
        if self._in_use():
            self._used = now
        if now - self._used < self._idle_seconds:
            return False
        start_lock = lock_file(self.folder / "start.lock")
        if start_lock is None:
            return False
        try:
            if self._in_use():
                self._used = now
                return False
            log.info("nobody was connected for %g s: stopping", self._idle_seconds)
            self._server.stop()
            os.close(self._lock)  # before start.lock, whose next holder must find it free
            return True
        finally:
            os.close(start_lock)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the supervisor; what :func:`ensure_embedded` starts, not meant for users.

    Returns:
        The process's exit status; 0 at once where another supervisor has the folder.
    """
    parser = argparse.ArgumentParser(prog="python -m jupyter_teleportal.transports.embedded.server")
    parser.add_argument("--supervise", type=Path, required=True, metavar="DIR")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    parser.add_argument("--lock-fd", type=int, help="inherited descriptor of supervisor.lock")
    parser.add_argument("--detach", action="store_true", help="return at once, serve in the back")
    options = parser.parse_args(argv)
    if options.detach and os.fork():
        os._exit(0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder: Path = options.supervise.absolute()
    try:
        make_private(folder)
        lock = options.lock_fd
        if lock is None:
            lock = lock_file(folder / "supervisor.lock")
        if lock is None:
            log.info("another supervisor has %s", folder)
            return 0
        return Supervisor(folder, lock, options.idle_seconds).run()
    except EmbeddedServerError as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
