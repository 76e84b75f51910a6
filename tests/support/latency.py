"""How late a keystroke is seen."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.rtc_client import RtcClient


class Latency:
    """One client types, the other measures how late it sees each character.

    Attributes:
        worst: the longest wait, in seconds, also of one that is not over.
        typed: how many characters were typed.
    """

    def __init__(self, typist: RtcClient, reader: RtcClient, pause: float = 0.1) -> None:
        self.typist = typist
        self.reader = reader
        self.worst = 0.0
        self.typed = 0
        self._pause = pause
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        before = len(self.reader.text)
        while True:
            self.typist.write(f"{self.typed % 10}")
            self.typed += 1
            started = time.monotonic()
            while len(self.reader.text) < before + self.typed:
                await asyncio.sleep(0.005)
                self.worst = max(self.worst, time.monotonic() - started)
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
