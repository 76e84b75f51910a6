"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.02


async def until(
    predicate: Callable[[], Any],
    timeout: float = 10.0,
    what: str = "the condition",
    poll: float = POLL_SECONDS,
) -> Any:
    """Poll `predicate` (sync or async) until its value is true, and return that value.

    Raises:
        AssertionError: naming what was waited for and the last value, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last value: {value!r}")
        await asyncio.sleep(poll)


async def holds(
    predicate: Callable[[], Any], seconds: float, what: str = "the condition", poll: float = 0.1
) -> None:
    """Check that `predicate` stays true for that long: for what must NOT happen.

    Raises:
        AssertionError: as soon as the predicate is false.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        assert value, f"{what} no longer holds; value: {value!r}"
        await asyncio.sleep(poll)
