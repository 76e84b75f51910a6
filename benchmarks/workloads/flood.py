"""W2 and W2s: as many edits as arrive, with a fixed number in flight per document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from ..load.door import Scene
from ..load.job import Options, Outcome
from ..load.pairs import Pair, TimedOut, author_ids, check, open_pair, settle, until
from ..load.usage import Busy, Usage
from .base import Figure, Workload, note_busy

DOCUMENTS = 5
WARM_UP_SECONDS = 1.0


class Flood:
    """Keeps `window` edits of each pair in flight, until stopped."""

    def __init__(self, pairs: Sequence[Pair], window: int) -> None:
        self._pairs = pairs
        self._window = window
        self._running = True
        for pair in pairs:
            for reader in pair.readers:
                reader.watch_arrivals(partial(self._fill, pair))
            self._fill(pair)

    @property
    def arrived(self) -> int:
        """Edits that have reached the readers, over all pairs."""
        return sum(pair.arrived for pair in self._pairs)

    def stop(self) -> None:
        """Write nothing more; what is in flight still arrives."""
        self._running = False

    def _fill(self, pair: Pair) -> None:
        room = self._window - pair.in_flight
        if room > 0 and self._running:
            pair.writer.type(room)


async def _load(scene: Scene, options: Options, *, window: int) -> Outcome:
    outcome = Outcome()
    new_author = author_ids(options.seed)
    pairs = [
        await open_pair(scene, f"load-{number}", new_author(), options.timeout)
        for number in range(DOCUMENTS)
    ]
    try:
        flood = Flood(pairs, window)
        await until(lambda: flood.arrived > 0, options.timeout, "the first edit")
        await asyncio.sleep(WARM_UP_SECONDS)
        usage = Usage(scene.processes)
        cpu, busy = usage.cpu_by_role(), Busy.begin()
        arrived, began = flood.arrived, time.perf_counter()
        await asyncio.sleep(options.seconds)
        arrived, took = flood.arrived - arrived, time.perf_counter() - began
        outcome.busy = busy.share()
        used = {role: value - cpu[role] for role, value in usage.cpu_by_role().items()}
        flood.stop()
        await settle(pairs, options.timeout)
        outcome.figures = {
            "per_s": arrived / took,
            "cpu_s": 1000 * sum(used.values()) / arrived if arrived else float("nan"),
            **{f"busy_{role}": seconds / took for role, seconds in used.items()},
        }
        outcome.problems += await check(scene, pairs, options.timeout)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        for pair in pairs:
            pair.close()
    note_busy(outcome)
    return outcome


async def _w2(scene: Scene, options: Options) -> Outcome:
    return await _load(scene, options, window=256)


async def _w2s(scene: Scene, options: Options) -> Outcome:
    return await _load(scene, options, window=4)


_FIGURES = (
    Figure("per_s", "updates/s that arrive", more_is_better=True, digits=0),
    Figure("cpu_s", "CPU s per 1,000", digits=3),
)

W2 = Workload("W2", f"load: {DOCUMENTS} documents, 256 updates in flight each", _FIGURES, _w2)
W2S = Workload("W2s", f"load: {DOCUMENTS} documents, 4 updates in flight each", _FIGURES, _w2s)
