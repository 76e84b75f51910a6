"""An event loop whose clock jumps to whatever is due next."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

TICK_S = 1e-6


class Deadlock(Exception):
    """Nothing is due, and nothing can happen any more."""


def _descriptor(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


class _NoSelector(selectors.BaseSelector):
    """Has nothing to select: instead of waiting it lets the time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, _descriptor(fileobj), events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(_descriptor(fileobj))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits for another one")
        # A turn of the loop takes its time too, or whoever waits for a moment waits for ever.
        self.now += max(TICK_S, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """What would run in a thread runs at once, so that a schedule is the same each time."""

    def __init__(self) -> None:
        self._virtual = _NoSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 (whoever waits gets it)
            future.set_exception(error)
        return future


def run_virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` to its end in virtual time; whatever is left of it is cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1))
        loop.close()
