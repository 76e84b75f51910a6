"""One watch for all files: whoever watches hears of a change, and of nothing else."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.errors import LeavesShare
from jupyter_teleportal.files.watching import FileWatch


class Watcher:
    """Watches files, and counts what it is told."""

    def __init__(self, folder: Path) -> None:
        self.watch = FileWatch(0.02)
        self.paths = {name: folder / name for name in "ab"}
        self.told: Counter[str] = Counter()
        self.errors: list[Exception] = []
        self.broken: set[str] = set()
        self.checked: Counter[str] = Counter()
        self.forbidden: set[str] = set()

    def add(self, name: str, by: str = "room") -> None:
        async def changed() -> None:
            self.told[name] += 1
            if name in self.broken or not self.paths[name].exists():
                raise OSError(name)

        def check() -> None:
            self.checked[name] += 1
            if name in self.forbidden:
                raise LeavesShare(name)

        self.watch.add(name, by, lambda: str(self.paths[name]), check, changed, self.errors.append)

    async def seen(self) -> None:
        await until(lambda: not self._pending(), what="the first look")
        self.told.clear()

    def _pending(self) -> bool:
        return any(watched.seen == () for watched in self.watch._files.values())


@pytest.fixture
async def watcher(tmp_path: Path) -> AsyncIterator[Watcher]:
    watcher = Watcher(tmp_path)
    for path in watcher.paths.values():
        path.write_text("text")
    yield watcher
    for name in watcher.paths:
        watcher.watch.remove(name, "room")


async def test_a_change_is_told_once_and_to_whom_it_concerns(watcher: Watcher) -> None:
    watcher.add("a")
    watcher.add("b")
    await watcher.seen()
    watcher.paths["a"].write_text("other text")
    await until(lambda: watcher.told["a"] == 1, what="the change")
    await holds(lambda: watcher.told == {"a": 1}, seconds=0.2, what="nothing more")


async def test_what_is_as_it_was_is_not_checked_again(watcher: Watcher) -> None:
    watcher.add("a")
    await watcher.seen()
    checked = watcher.checked["a"]
    await holds(lambda: watcher.checked["a"] == checked, seconds=0.2, what="no check")


async def test_what_may_not_be_looked_at_counts_as_a_change(
    watcher: Watcher, tmp_path: Path
) -> None:
    watcher.add("a")
    await watcher.seen()
    watcher.forbidden.add("a")
    (tmp_path / "elsewhere").write_text("text")
    watcher.paths["a"].unlink()
    watcher.paths["a"].symlink_to("elsewhere")
    # Each time, since it is not taken for seen.
    await until(lambda: watcher.told["a"] > 2, what="the change")


async def test_the_same_size_and_time_in_another_file_is_a_change(
    watcher: Watcher, tmp_path: Path
) -> None:
    watcher.add("a")
    await watcher.seen()
    path, other = watcher.paths["a"], tmp_path / "other"
    other.write_text("same")
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    await until(lambda: watcher.told["a"] == 1, what="the change")


async def test_a_file_that_is_renamed_is_told_of(watcher: Watcher, tmp_path: Path) -> None:
    watcher.add("a")
    await watcher.seen()
    watcher.paths["a"] = watcher.paths["a"].rename(tmp_path / "c")
    await until(lambda: watcher.told["a"] >= 1, what="the new path")
    await asyncio.sleep(0)
    assert not watcher.errors


async def test_an_error_is_told_and_the_file_looked_at_again(watcher: Watcher) -> None:
    watcher.add("a")
    watcher.add("b")
    await watcher.seen()
    watcher.broken.add("a")
    for path in watcher.paths.values():
        path.write_text("other text")
    await until(lambda: watcher.told["a"] > 2, what="more than one attempt")
    watcher.broken.clear()
    tried = watcher.told["a"]
    await until(lambda: watcher.told["a"] > tried, what="the last attempt")
    await holds(lambda: watcher.told["a"] <= tried + 2, seconds=0.2, what="peace")
    assert watcher.told["b"] == 1
    assert watcher.errors


async def test_a_file_that_is_gone_is_tried_until_it_is_back(watcher: Watcher) -> None:
    watcher.add("a")
    await watcher.seen()
    watcher.paths["a"].unlink()
    await until(lambda: len(watcher.errors) > 2, what="errors")
    watcher.paths["a"].write_text("text")
    await watcher.seen()
    await holds(lambda: watcher.told["a"] <= 1, seconds=0.2, what="peace")


async def test_it_stops_when_nobody_watches(watcher: Watcher) -> None:
    watcher.add("a")
    watcher.add("a", by="another room")
    await watcher.seen()
    watcher.watch.remove("a", "room")
    watcher.paths["a"].write_text("other text")
    await until(lambda: watcher.told["a"] == 1, what="the change")
    watcher.watch.remove("a", "another room")
    watcher.watch.remove("a", "another room")
    await until(
        lambda: all(task.get_name() != "teleportal-files" for task in asyncio.all_tasks()),
        what="no task",
    )
