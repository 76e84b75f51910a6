"""A small disk of its own, which can be full and read-only."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TRIES = 100
PAUSE_SECONDS = 0.05


class Disk:
    """A disk in memory, mounted at a folder. Use as a context.

    Args:
        folder: where; it has to be there.
        size: in bytes. Only what is used of it takes memory.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def __enter__(self) -> Disk:
        _mount("-t", "tmpfs", "-o", f"size={self.size},mode=755", "none", self.folder)
        return self

    def __exit__(self, *exc: object) -> None:
        # Servers that have just been killed may have files open there.
        subprocess.run(["umount", "--lazy", self.folder], check=False, capture_output=True)

    def fill(self, left: int) -> None:
        """Leave room for about so many bytes.

        Raises:
            OSError: if others write more all the time.
        """

        def shrink() -> None:
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            _mount("-o", f"remount,size={used + left}", self.folder)

        _again(shrink)

    def free(self) -> None:
        """There is room again."""
        _mount("-o", f"remount,size={self.size}", self.folder)

    def set_read_only(self, read_only: bool) -> None:
        """Let nobody write anything there, or everybody.

        Raises:
            OSError: if some file is always open for writing.
        """
        _again(lambda: _mount("-o", "remount," + ("ro" if read_only else "rw"), self.folder))


def _again(do: Callable[[], None]) -> None:
    """Do what somebody who writes right then can be in the way of."""
    for left in reversed(range(TRIES)):
        try:
            do()
            return
        except OSError:
            if not left:
                raise
            time.sleep(PAUSE_SECONDS)


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


@functools.cache
def can_mount() -> bool:
    """Whether whoever runs this may mount disks."""
    try:
        with tempfile.TemporaryDirectory() as folder, Disk(Path(folder), 1 << 20):
            return True
    except OSError:
        return False


def protect(path: Path, protected: bool) -> None:
    """Let nobody write to a file, or make anything new in a folder; or everybody. The superuser
    heeds no mode, only the attribute.

    Raises:
        OSError: if whoever runs this may not do that, or the disk knows no attributes.
    """
    flag = "+i" if protected else "-i"
    done = subprocess.run(["chattr", flag, path], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


@functools.cache
def can_protect() -> bool:
    """Whether whoever runs this may do that."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            protect(Path(folder), True)
            protect(Path(folder), False)
            return True
    except OSError:
        return False
