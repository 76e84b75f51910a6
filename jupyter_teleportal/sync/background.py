"""Work of one room that goes on in the background, for as long as the room is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Background:
    """The work that one room has begun.

    Attributes:
        tasks: what is under way.
    """

    def __init__(self, went_wrong: Callable[[BaseException], None]) -> None:
        """
        Args:
            went_wrong: is called with the error of whatever fails.
        """
        self.tasks: set[asyncio.Future[Any]] = set()
        self._went_wrong = went_wrong
        self._asked: set[str] = set()
        self._being_done: set[str] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def spawn_once(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what others ask for: once for all who ask while it is being done."""
        self._asked.add(what)
        if what in self._being_done:
            return

        async def do() -> None:
            try:
                while what in self._asked:
                    self._asked.discard(what)
                    await work()
            finally:
                self._being_done.discard(what)

        self._being_done.add(what)
        self.spawn(do())

    async def aclose(self) -> None:
        """End what is under way."""
        under_way = list(self.tasks)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._went_wrong(error)
