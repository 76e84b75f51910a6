"""Waiting for what comes to be true of a room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..transports.base import loop_time


class Changes(asyncio.Event):
    """Set whenever something of a room may have changed that somebody waits for."""

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the condition holds; return whether it does by then."""
        deadline = loop_time() + timeout_s
        while not condition():
            left = deadline - loop_time()
            if left <= 0:
                return False
            self.clear()
            # Before Python 3.12 `wait_for` swallows a cancellation that meets the event.
            change = asyncio.ensure_future(self.wait())
            try:
                await asyncio.wait({change}, timeout=left)
            finally:
                change.cancel()
        return True
