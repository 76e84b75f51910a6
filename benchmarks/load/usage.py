"""What processes have used, as the operating system counts it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import psutil

TOO_BUSY = 0.7
"""A load generator that works more of the time than this may be what is measured."""


class Usage:
    """CPU and memory of a target's processes.

    Args:
        processes: process ids by role; whatever they have started counts too.
    """

    def __init__(self, processes: Mapping[str, Iterable[int]]) -> None:
        self._roots = {
            role: [psutil.Process(pid) for pid in pids] for role, pids in processes.items()
        }

    def cpu_by_role(self) -> dict[str, float]:
        """Seconds of user and system time since each process began."""
        return {
            role: sum(_cpu(process) for process in _family(roots))
            for role, roots in self._roots.items()
        }

    def cpu(self) -> float:
        """Seconds of user and system time, over all roles."""
        return sum(self.cpu_by_role().values())

    def memory_by_role(self) -> dict[str, int]:
        """Resident bytes."""
        return {
            role: sum(_memory(process) for process in _family(roots))
            for role, roots in self._roots.items()
        }


@dataclass
class Busy:
    """How much of the time this process works: CPU seconds per second."""

    wall: float
    own: float

    @classmethod
    def begin(cls) -> Busy:
        return cls(time.perf_counter(), time.process_time())

    def share(self) -> float:
        """CPU seconds per second since `begin`."""
        return (time.process_time() - self.own) / (time.perf_counter() - self.wall)


def _family(roots: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for root in roots:
        yield root
        yield from root.children(recursive=True)


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # Children that have ended are counted by their parent alone.
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
