"""W1 and W3: one writer at a steady pace; how long until the last reader has each edit."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable

from ..load.door import Scene
from ..load.job import Options, Outcome
from ..load.pairs import Pair, TimedOut, author_ids, check, open_pair, settle
from ..load.usage import Busy, Usage
from .base import Figure, Workload, note_busy, percentile

WARM_UP_SECONDS = 1.0
JITTER = 0.3
"""Edits come off the beat by up to this share of it, so as not to step with a server's timers."""


class Stopwatch:
    """Milliseconds from each edit of a pair until its last reader has it.

    Args:
        then: is called whenever some have arrived.
    """

    def __init__(self, pair: Pair, then: Callable[[], None] = lambda: None) -> None:
        self.took: list[float] = []
        self._pair = pair
        self._then = then
        self._sent: list[float] = []
        self._arrived = pair.arrived
        self._first = pair.written
        for reader in pair.readers:
            reader.watch_arrivals(self._look)

    def type(self) -> None:
        """Send the next edit."""
        self._sent.append(time.perf_counter())
        self._pair.writer.type()

    def longest(self, start: float, stop: float) -> float:
        """The longest of those that were under way between two times of `time.perf_counter`.

        Returns:
            Milliseconds; NaN if there was none.
        """
        return max(
            (
                took
                for sent, took in zip(self._sent, self.took, strict=False)
                if sent < stop and sent + took / 1000 > start
            ),
            default=math.nan,
        )

    def reset(self) -> None:
        """Forget what was measured so far; everything has to have arrived."""
        self.took.clear()
        self._sent.clear()
        self._first = self._pair.written

    def _look(self) -> None:
        arrived = self._pair.arrived
        if arrived == self._arrived:
            return
        now = time.perf_counter()
        for number in range(self._arrived, arrived):
            self.took.append(1000 * (now - self._sent[number - self._first]))
        self._arrived = arrived
        self._then()


async def at_pace(stopwatch: Stopwatch, per_second: float, seconds: float, seed: int) -> None:
    """Type for `seconds`, in time with the clock and not with the work."""
    chance = random.Random(seed)
    began = time.perf_counter()
    for number in range(round(per_second * seconds)):
        due = began + (number + JITTER * chance.random()) / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        stopwatch.type()


async def _type(scene: Scene, options: Options, *, per_second: float, readers: int) -> Outcome:
    outcome = Outcome()
    author = author_ids(options.seed)()
    pair = await open_pair(scene, "typing", author, options.timeout, readers=readers)
    try:
        stopwatch = Stopwatch(pair)
        await at_pace(stopwatch, per_second, WARM_UP_SECONDS, options.seed)
        await settle([pair], options.timeout)
        stopwatch.reset()
        usage = Usage(scene.processes)
        cpu, busy = usage.cpu(), Busy.begin()
        await at_pace(stopwatch, per_second, options.seconds, options.seed + 1)
        outcome.busy = busy.share()
        await settle([pair], options.timeout)
        outcome.figures = {
            "p50_ms": percentile(stopwatch.took, 50),
            "p99_ms": percentile(stopwatch.took, 99),
            "max_ms": max(stopwatch.took),
            "cpu_ms": 1000 * (usage.cpu() - cpu) / len(stopwatch.took),
            "edits": len(stopwatch.took),
        }
        outcome.problems += await check(scene, [pair], options.timeout)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        pair.close()
    note_busy(outcome)
    return outcome


async def _w1(scene: Scene, options: Options) -> Outcome:
    return await _type(scene, options, per_second=20, readers=1)


async def _w3(scene: Scene, options: Options) -> Outcome:
    return await _type(scene, options, per_second=50, readers=50)


_FIGURES = (
    Figure("p50_ms", "p50, ms"),
    Figure("p99_ms", "p99, ms"),
    Figure("max_ms", "longest, ms", ratio=False),
    Figure("cpu_ms", "CPU ms per edit"),
    Figure("edits", "edits", digits=0, ratio=False),
)

W1 = Workload("W1", "typing: one writer on A at 20/s, one reader on B", _FIGURES, _w1)
W3 = Workload("W3", "class: one writer on A at 50/s, last of 50 readers on B", _FIGURES, _w3)
