"""Which programs have a file open to write into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .open_folders import Place, reading

_PROCESSES = "/proc"


def has_writer(place: Place) -> bool:
    """Whether a program has the file at `place` open to write into it, as far as that can be told:
    on Linux, of programs on this machine, of this account (root: of all).

    Raises:
        LeavesShare: if a link has been put in the way.
        OSError: if the file cannot be opened.
    """
    with reading(place) as file:
        there = os.fstat(file.fileno())
    return any(os.path.samestat(found, there) for found in _written())


def _written() -> Iterator[os.stat_result]:
    """What programs have open to write into it."""
    for process in filter(str.isdigit, _listed(_PROCESSES)):
        for number in _listed(f"{_PROCESSES}/{process}/fd"):
            # Programs end and close files meanwhile.
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(f"{_PROCESSES}/{process}/fd/{number}")
                if _flags(f"{_PROCESSES}/{process}/fdinfo/{number}") & (os.O_WRONLY | os.O_RDWR):
                    yield found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # another account's, for example


def _flags(path: str) -> int:
    with open(path, encoding="ascii") as info:
        for line in info:
            if line.startswith("flags:"):
                return int(line.split()[1], 8)
    return 0
