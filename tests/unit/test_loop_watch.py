"""What the watch of a server's event loop counts, and what not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from support.loop_watch import LoopWatch, watch
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

BUSY_S = 0.3


def busy(seconds: float = BUSY_S) -> None:
    """Use processor time in Python, which lets other threads go on."""
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def stubborn() -> None:
    """Use processor time and let no other thread go on."""
    size = 1_000_000
    while True:
        began = time.thread_time()
        sum(range(size))
        if time.thread_time() - began > BUSY_S:
            return
        size *= 2


@contextlib.asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Callable[[], float]]:
    """Hands out what returns for how long the loop was held up since."""
    watching = watch(str(path))
    shown = LoopWatch(path)
    await until(lambda: shown.read()[0], what="the first turn")
    before = shown.read()[1]
    try:
        yield lambda: shown.read()[1] - before
        now = time.monotonic()
        await until(lambda: shown.read()[0] > now, what="the next turn")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_work_of_the_loop_counts(tmp_path: Path):
    async with watched(tmp_path / "watch") as held:
        busy()
    assert held() >= BUSY_S


async def test_it_counts_where_nobody_says_how_long_a_thread_was_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("support.loop_watch.SCHEDSTAT", str(tmp_path / "{}"))
    async with watched(tmp_path / "watch") as held:
        busy()
    assert held() >= BUSY_S


async def test_work_of_a_thread_that_lets_the_loop_go_on_does_not_count(tmp_path: Path):
    async with watched(tmp_path / "watch") as held:
        await asyncio.to_thread(busy)
    assert held() < BUSY_S / 2


async def test_work_of_a_thread_that_does_not_counts(tmp_path: Path):
    async with watched(tmp_path / "watch") as held:
        await asyncio.to_thread(stubborn)
    assert held() >= BUSY_S
