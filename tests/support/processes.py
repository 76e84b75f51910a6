"""Child processes that never outlive the test run.

Every child leads its own session, so that a signal reaches all it has started and nothing else.
What is still alive when the interpreter exits, for whatever reason, is killed then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GRACE_SECONDS = 3.0

_alive: set[ChildProcess] = set()


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChildProcess:
    """One process group with its output in a file.

    Args:
        ignore_interrupt: begin with SIGINT ignored, as with `nohup … &`. Otherwise begin without,
            however the tests themselves were started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        ignore_interrupt: bool = False,
    ) -> None:
        at_interrupt = signal.SIG_IGN if ignore_interrupt else signal.SIG_DFL
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path = log_path
        self._asked_to_stop = False
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, at_interrupt),
            )
        _alive.add(self)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the process runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        return self.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; a group that is gone is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the leader."""
        self.signal(signal.SIGKILL)
        self._popen.wait(10)
        _alive.discard(self)

    def ask_to_stop(self) -> None:
        """SIGTERM, once, without waiting, so that several processes can leave together."""
        if self.running and not self._asked_to_stop:
            self._asked_to_stop = True
            self.thaw()
            self._popen.terminate()

    def terminate(self, grace: float = GRACE_SECONDS) -> bool:
        """SIGTERM, then SIGKILL after the grace. True if SIGTERM was enough."""
        self.ask_to_stop()
        deadline = time.monotonic() + grace
        while self.running and time.monotonic() < deadline:
            time.sleep(0.02)
        left_by_itself = not self.running
        self.kill()
        return left_by_itself


def kill_all() -> None:
    """Kill every child that is still alive."""
    for child in list(_alive):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.kill()


atexit.register(kill_all)
