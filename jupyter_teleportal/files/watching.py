"""One watch for the files of all rooms: a room that nobody uses costs a look at its file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

Signature = tuple[int, ...] | None
"""What tells one state of a file from another; None, if it cannot be looked at."""


@dataclass
class _Watched:
    os_path: Callable[[], str]
    check: Callable[[], object]
    changed: Callable[[], Awaitable[object]]
    complain: Callable[[Exception], object]
    by: set[Hashable] = field(default_factory=set)
    seen: Signature = ()
    telling: asyncio.Task[None] | None = None


class FileWatch:
    """Looks at all files at once, in a thread, and tells of those that are not as they were.

    Where whoever is told raises an error, it is told again at the next look.
    """

    def __init__(self, interval_s: float) -> None:
        """
        Args:
            interval_s: how often to look.
        """
        self._interval_s = interval_s
        self._files: dict[Hashable, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    def add(
        self,
        file: Hashable,
        by: Hashable,
        os_path: Callable[[], str],
        check: Callable[[], object],
        changed: Callable[[], Awaitable[object]],
        complain: Callable[[Exception], object],
    ) -> None:
        """Watch a file from now on; the first look counts as a change.

        Args:
            file: names the file.
            by: who watches it; it is watched until all of them have said `remove`.
            os_path: its path now; called in a thread at each look. May raise an error, which counts
                as a change too.
            check: makes sure that what is at this path may be looked at; called in a thread, where
                that is not as it was. May raise an error, which counts as a change too.
            changed: what to do at a change.
            complain: is told of the errors that `changed` raises.
        """
        self._files.setdefault(file, _Watched(os_path, check, changed, complain)).by.add(by)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_ever(), name="teleportal-files")

    def remove(self, file: Hashable, by: Hashable) -> None:
        watched = self._files.get(file)
        if watched is None:
            return
        watched.by.discard(by)
        if not watched.by:
            del self._files[file]
            if watched.telling is not None:
                watched.telling.cancel()
        if not self._files and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Look at all files once, and begin to tell what has changed."""
        changed = await asyncio.to_thread(_changed, list(self._files.items()))
        for file, watched, found in changed:
            if watched.telling is None and self._files.get(file) is watched:
                watched.telling = asyncio.create_task(self._tell(watched, found))

    async def _tell(self, watched: _Watched, signature: Signature) -> None:
        try:
            await watched.changed()
            watched.seen = signature
        except Exception as error:  # noqa: BLE001 (told, and tried again)
            watched.complain(error)
        finally:
            watched.telling = None


def _changed(
    files: list[tuple[Hashable, _Watched]],
) -> list[tuple[Hashable, _Watched, Signature]]:
    """The files that are not as they were, or cannot be looked at, each with what it is now."""
    changed = []
    for file, watched in files:
        found = _signature(watched)
        if found is None or found != watched.seen:
            changed.append((file, watched, found))
    return changed


def _signature(watched: _Watched) -> Signature:
    try:
        path = watched.os_path()
        found = os.stat(path)
        signature = (
            *(hash(path), found.st_dev, found.st_ino),
            *(found.st_mtime_ns, found.st_ctime_ns, found.st_size),
        )
        # A thread that takes long over hundreds of files delays what is typed meanwhile.
        if signature != watched.seen:
            watched.check()
    except Exception:  # noqa: BLE001 (whoever is told of the change meets it again)
        return None
    return signature
