"""Finding processes by the folder that they work in, whoever started them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def processes_in(*folders: Path) -> list[psutil.Process]:
    """Return the live processes that work in a folder (or below), or whose command names it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            places = [process.cwd(), *process.cmdline()]
        except psutil.Error:
            continue
        if any(str(folder) in place for place in places for folder in folders):
            found.append(process)
    return found


async def kill_processes_in(*folders: Path) -> None:
    """Kill them all; a zombie that nobody reaps counts as gone."""

    def kill() -> bool:
        left = processes_in(*folders)
        for process in left:
            process.kill()
        return not left

    await until(kill, what=f"the end of what works in {folders}")
