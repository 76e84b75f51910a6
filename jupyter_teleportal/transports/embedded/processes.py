"""What it takes to own processes: stop signals, locks and children that end with us."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 1 << 20
POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def stop_at_interrupt(*, also_if_ignored: bool = False) -> None:
    """Let SIGINT stop this process in the way that SIGTERM does, where it would raise.

    A Jupyter server that is not on a terminal has no handler for it: `KeyboardInterrupt` ends its
    event loop, and no extension is told.

    Args:
        also_if_ignored: take it as well where this process was started with SIGINT ignored. With
            ``nohup … &`` that is meant: Ctrl-C is for somebody else. Whoever starts a server for
            a hub sends SIGINT to that server alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    stop = signal.getsignal(signal.SIGTERM)
    replaced = [signal.default_int_handler, *([signal.SIG_IGN] if also_if_ignored else [])]
    if callable(stop) and signal.getsignal(signal.SIGINT) in replaced:
        signal.signal(signal.SIGINT, stop)


def try_lock(path: Path) -> int | None:
    """Lock ``path`` and return its descriptor (closing it unlocks), None if it is taken.

    The lock belongs to the descriptor: a child that inherits it holds the lock as well.

    Raises:
        OSError: the file cannot be made, or its filesystem has no locks.
    """
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def poll(seconds: float) -> Iterator[None]:
    """Yield at once and then every :data:`POLL_SECONDS` until ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        yield


def open_log(path: Path) -> IO[bytes]:
    """Open a log file at its end, emptied if it is over :data:`MAX_LOG_BYTES` long."""
    too_long = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    return path.open("wb" if too_long else "ab")


def log_tail(path: Path, lines: int = 8) -> str:
    """Return the last ``lines`` lines of a log file, or why it cannot be read."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({path}: {error})"


def die_with_parent() -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that ends the child (SIGTERM) when the calling thread ends.

    Call it, and start the child, in a thread that lives as long as the child should: the main
    thread. None where the platform cannot do it.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), signal.SIGTERM)

    return in_child


def end_process(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL to its whole group after ``grace_seconds``; reaped on return.

    ``process`` must lead a process group of its own.
    """
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        log.warning("process %d ignored SIGTERM for %g s: killing it", process.pid, grace_seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class StopRequest:
    """Notes SIGINT, SIGTERM and SIGHUP while entered, and wakes whoever waits.

    Main thread only. The signals raise nothing, so nothing that was started gets lost half-way:
    look at :attr:`count`, or use what :meth:`wait` returns.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> StopRequest:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._old: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._note) for number in self.SIGNALS
        }
        # A handler is what makes the end of a child wake `wait`.
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds``, less when any signal comes; return whether to stop."""
        if self.count == 0 and select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 512)
        return self.count > 0
