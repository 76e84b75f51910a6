"""A Jupyter server extension for tests: how long a server's own work has held its event loop up.

That stands in a file that the test reads without asking the server, which may be busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

LOOP_WATCH_FILE = "LOOP_WATCH_FILE"
"""The variable of the environment that names the file."""
SCHEDSTAT = "/proc/self/task/{}/schedstat"
"""Where Linux says how long a thread has waited for a processor, if it was built to."""
_FORMAT = struct.Struct("dd")
_LOOK_S = 0.005
_STANDS_S = 0.02
"""A turn of the loop that takes longer waits for another thread, if not for its own work. A thread
that works in Python lets it go on after 5 ms (`sys.getswitchinterval`)."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "support.loop_watch"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    serverapp.loop_watch = watch(os.environ[LOOP_WATCH_FILE])


def watch(path: str) -> asyncio.Task[None]:
    """Watch the event loop that runs in this thread, and write into this file."""
    with open(path, "w+b") as file:
        file.write(bytes(_FORMAT.size))
        file.flush()
        shown = mmap.mmap(file.fileno(), _FORMAT.size)
    path = SCHEDSTAT.format(threading.get_native_id())
    # Without it, waiting for a processor counts as standing: the figure is too large, never too
    # small.
    scheduled = open(path, "rb") if os.path.exists(path) else None  # noqa: SIM115
    return asyncio.ensure_future(_watch(shown, scheduled))


async def _watch(shown: mmap.mmap, scheduled: BinaryIO | None) -> None:
    held = 0.0
    with scheduled or contextlib.nullcontext():
        before = _clocks(scheduled)
        while True:
            await asyncio.sleep(_LOOK_S)
            now = _clocks(scheduled)
            passed, own, all_threads, queued = (
                new - old for new, old in zip(now, before, strict=True)
            )
            stood = passed - queued - _LOOK_S
            held += own
            if stood > _STANDS_S:
                held += max(0.0, min(stood, all_threads) - own)
            before = now
            _FORMAT.pack_into(shown, 0, now[0], held)


def _clocks(schedstat: BinaryIO | None) -> tuple[float, float, float, float]:
    """The time; this thread's and all threads' processor time; and for how long this thread could
    have run and had no processor (Linux, Documentation/scheduler/sched-stats)."""
    queued_ns = 0 if schedstat is None else int(os.pread(schedstat.fileno(), 100, 0).split()[1])
    return time.monotonic(), time.thread_time(), time.process_time(), queued_ns / 1e9


class LoopWatch:
    """What the watch of a server has written."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._shown = mmap.mmap(file.fileno(), _FORMAT.size, prot=mmap.PROT_READ)

    def read(self) -> tuple[float, float]:
        """When the loop turned last (`time.monotonic`), and for how many seconds of processor time
        the server's work has held it up since the start: the loop's own work, and that of other
        threads while it stood."""
        turned, held = _FORMAT.unpack_from(self._shown)
        return turned, held
