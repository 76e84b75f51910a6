"""Python's garbage collector beside hundreds of open documents."""

from __future__ import annotations

import gc
import time
from typing import Any

WHOLE_EVERY_S = 600.0


class ShortCollections:
    """Keeps full collections short: they look at what is new since the one before.

    A full collection stops everything while it looks at every object that there is, for 0.2 s with
    300 documents open. So what has survived one is set aside (`gc.freeze`), until something is
    closed that may be garbage now, or for some minutes.
    """

    def __init__(self, whole_every_s: float = WHOLE_EVERY_S) -> None:
        """
        Args:
            whole_every_s: how long objects are set aside at most.
        """
        self._whole_every_s = whole_every_s
        self._whole_at = time.monotonic()

    def start(self) -> None:
        gc.callbacks.append(self._around)
        # Nor at what the server has begun with: the first large document would wait for that.
        gc.freeze()

    def stop(self) -> None:
        gc.callbacks.remove(self._around)
        gc.unfreeze()

    def look_at_all(self) -> None:
        """Let the next full collection look at every object."""
        self._whole_at = -self._whole_every_s

    def _around(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != 2:
            return
        if phase == "stop":
            gc.freeze()
        elif time.monotonic() - self._whole_at >= self._whole_every_s:
            self._whole_at = time.monotonic()
            gc.unfreeze()
