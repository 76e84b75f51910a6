"""W7h and W7s: what an edit and an opening cost as history and document grow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from ..load.client import Client
from ..load.door import Scene
from ..load.job import Options, Outcome
from ..load.pairs import (
    ENOUGH,
    Pair,
    TimedOut,
    author_ids,
    check,
    open_pair,
    open_reader,
    open_writer,
    place,
    settle,
    until,
)
from ..load.redis_view import RedisView
from ..load.usage import Busy, Usage
from .base import Figure, Workload, note_busy, percentile
from .many import quiet
from .typing import Stopwatch

HISTORIES = (10, 100, 1_000, 10_000)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DOCUMENTS = 3
MEASURED_EDITS = 100
_WINDOW = 256
_TIMEOUT_SECONDS = 120.0


async def ping_pong(pair: Pair, count: int, timeout: float) -> list[float]:
    """Write one edit after the other, each when the one before it has arrived.

    Returns:
        The milliseconds that each took.

    Raises:
        TimedOut: if one does not arrive.
    """
    done = asyncio.get_running_loop().create_future()
    last = pair.written + count

    def next_one() -> None:
        if pair.written < last:
            stopwatch.type()
        elif not done.done():
            done.set_result(None)

    stopwatch = Stopwatch(pair, next_one)
    stopwatch.type()
    try:
        await asyncio.wait_for(done, timeout)
    except asyncio.TimeoutError:
        raise TimedOut(f"edit {pair.written} of {pair.document} did not arrive") from None
    return stopwatch.took


@dataclass
class Level:
    """What was measured at one length of history or size of document."""

    took_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    open_s: list[float] = field(default_factory=list)
    redis_bytes: list[int] = field(default_factory=list)

    def figures(self, at: int) -> dict[str, float]:
        found = {
            f"p50_ms_{at}": percentile(self.took_ms, 50),
            f"cpu_ms_{at}": 1000 * self.cpu_s / len(self.took_ms),
            f"open_b_ms_{at}": 1000 * median(self.open_s),
        }
        if self.redis_bytes:
            found[f"redis_kb_{at}"] = median(self.redis_bytes) / 1024
        return found


async def _write_history(writer: Client, watcher: Client, count: int) -> None:
    """Write `count` edits, of which `watcher` on the same server sees the arrival."""
    assert writer.pen is not None
    pen = writer.pen

    def fill() -> None:
        room = min(_WINDOW - (pen.written - watcher.seen), count - pen.written)
        if room > 0:
            writer.type(room)

    watcher.watch_arrivals(fill)
    fill()
    await until(lambda: watcher.seen >= count, _TIMEOUT_SECONDS, f"{count} edits of history")


async def _measure(
    scene: Scene, usage: Usage, redis: RedisView | None, stem: str, author: int, level: Level,
    *, history: int, size: int, timeout: float,
) -> list[str]:  # fmt: skip
    """Measure one document, and add what comes out to `level`; return what is wrong."""
    kept = redis.memory_of_keys() if redis is not None else 0
    document = place(scene, stem, size)
    writer, _ = await open_writer(scene, document, author, _TIMEOUT_SECONDS, size)
    watcher, opening = await open_reader(scene.here, document, author, _TIMEOUT_SECONDS)
    await _write_history(writer, watcher, history)
    await quiet(usage)
    if redis is not None:
        level.redis_bytes.append(redis.memory_of_keys() - kept)
    reader, opening = await open_reader(
        scene.there, document, author, _TIMEOUT_SECONDS, round(ENOUGH * opening.size)
    )
    level.open_s.append(opening.synced)
    watcher.close()
    pair = Pair(document, author, writer, [reader])
    try:
        await settle([pair], timeout)
        await quiet(usage)
        cpu = usage.cpu()
        level.took_ms += await ping_pong(pair, MEASURED_EDITS, timeout)
        level.cpu_s += usage.cpu() - cpu
        await quiet(usage)  # the save that follows is not to meet the next document
        return await check(scene, [pair], _TIMEOUT_SECONDS)
    finally:
        pair.close()


async def _grow(scene: Scene, options: Options, steps: Sequence[tuple[int, int, int]]) -> Outcome:
    """Measure at each of `steps`: name of the level, edits of history, bytes of document."""
    outcome = Outcome()
    usage = Usage(scene.processes)
    redis = RedisView(scene.redis_port) if scene.redis_port is not None else None
    new_author = author_ids(options.seed)
    busy = Busy.begin()
    # The first room brings in what all rooms need.
    first = await open_pair(scene, "first", new_author(), options.timeout)
    try:
        await ping_pong(first, MEASURED_EDITS, options.timeout)
        for at, history, size in steps:
            level = Level()
            for number in range(DOCUMENTS):
                outcome.problems += await _measure(
                    scene,
                    usage,
                    redis,
                    f"at-{at}-{number}",
                    new_author(),
                    level,
                    history=history,
                    size=size,
                    timeout=options.timeout,
                )
            outcome.figures |= level.figures(at)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        first.close()
        if redis is not None:
            redis.close()
    outcome.busy = busy.share()
    note_busy(outcome)
    return outcome


async def _w7h(scene: Scene, options: Options) -> Outcome:
    return await _grow(scene, options, [(edits, edits, 0) for edits in HISTORIES])


async def _w7s(scene: Scene, options: Options) -> Outcome:
    return await _grow(scene, options, [(size, 1, size) for size in SIZES])


def _families(levels: Sequence[int], unit: str) -> tuple[Figure, ...]:
    kinds = {
        "p50_ms": ("p50 per edit, ms", 2),
        "cpu_ms": ("CPU ms per edit", 2),
        "open_b_ms": ("first open on B, ms", 1),
        "redis_kb": ("Redis, KB per document", 1),
    }
    return tuple(
        Figure(f"{key}_{at}", f"{at:,}", digits=digits, family=label, at=at, at_unit=unit)
        for key, (label, digits) in kinds.items()
        for at in levels
    )


W7H = Workload(
    "W7h",
    "history: what an edit and an opening cost after so many edits",
    _families(HISTORIES, "edits before"),
    _w7h,
    not_on=("floor",),
)
W7S = Workload(
    "W7s",
    "size: what an edit and an opening cost in a document of so many bytes",
    _families(SIZES, "bytes of document"),
    _w7s,
    not_on=("floor",),
)
