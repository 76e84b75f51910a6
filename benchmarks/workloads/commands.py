"""W7c and W7b: what an edit asks of Redis: commands with one edit at a time, entries under load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from statistics import fmean

from ..load.door import Scene
from ..load.job import Options, Outcome
from ..load.pairs import (
    Pair,
    TimedOut,
    author_ids,
    check,
    open_pair,
    open_reader,
    open_writer,
    place,
    settle,
)
from ..load.redis_view import Monitor, RedisView
from ..load.usage import Busy, Usage
from .base import Figure, Workload, note_busy
from .flood import DOCUMENTS, Flood
from .growth import ping_pong
from .many import quiet

EDITS = 400
WINDOWS = (1, 4, 16, 64, 256)
WARM_UP_SECONDS = 0.5


async def _open_everywhere(scene: Scene, stem: str, author: int, timeout: float) -> Pair:
    """A pair with a reader on every server but A."""
    document = place(scene, stem)
    writer, _ = await open_writer(scene, document, author, timeout)
    others = scene.entrances[1:] or scene.entrances
    opened = [await open_reader(entrance, document, author, timeout) for entrance in others]
    return Pair(document, author, writer, [reader for reader, _ in opened])


async def _w7c(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    assert scene.redis_port is not None
    redis = RedisView(scene.redis_port)
    usage = Usage(scene.processes)
    pair = await _open_everywhere(scene, "commands", author_ids(options.seed)(), options.timeout)
    try:
        await ping_pong(pair, EDITS // 4, options.timeout)
        await quiet(usage)
        with Monitor(scene.redis_port) as monitor:
            processed, began = redis.commands(), time.perf_counter()
            await ping_pong(pair, EDITS, options.timeout)
            took, processed = time.perf_counter() - began, redis.commands() - processed
        await quiet(usage)
        # What goes on without any edit, for as long.
        with Monitor(scene.redis_port) as background:
            idle = redis.commands()
            await asyncio.sleep(took)
            idle = redis.commands() - idle
        names = Counter(monitor.counts)
        names.subtract(background.counts)
        sent = {name: count / EDITS for name, count in names.items() if count > EDITS / 100}
        outcome.figures = {
            "sent": sum(sent.values()),
            "processed": (processed - idle) / EDITS,
            "took_ms": 1000 * took / EDITS,
        }
        listed = ", ".join(f"{name} {count:.2f}" for name, count in sorted(sent.items()))
        outcome.notes.append(f"per edit: {listed}")
        outcome.problems += await check(scene, [pair], options.timeout)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        pair.close()
        redis.close()
    return outcome


async def _w7b(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    assert scene.redis_port is not None
    redis = RedisView(scene.redis_port)
    usage = Usage(scene.processes)
    new_author = author_ids(options.seed)
    shares: list[float] = []
    try:
        for window in WINDOWS:
            pairs = [
                await open_pair(scene, f"batch-{window}-{number}", new_author(), options.timeout)
                for number in range(DOCUMENTS)
            ]
            flood = Flood(pairs, window)
            await asyncio.sleep(WARM_UP_SECONDS)
            entries, commands, edits = redis.entries(), redis.commands(), flood.arrived
            busy = Busy.begin()
            await asyncio.sleep(options.seconds / 2)
            shares.append(busy.share())
            edits = flood.arrived - edits
            entries, commands = redis.entries() - entries, redis.commands() - commands
            flood.stop()
            await settle(pairs, options.timeout)
            outcome.figures[f"edits_per_entry_{window}"] = edits / entries
            outcome.figures[f"commands_per_edit_{window}"] = commands / edits
            outcome.figures[f"per_s_{window}"] = 2 * edits / options.seconds
            for pair in pairs:
                pair.close()
            await quiet(usage)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        redis.close()
    outcome.busy = fmean(shares) if shares else 0.0
    note_busy(outcome)
    return outcome


def _has_servers(target: str) -> bool:
    return target.startswith(("teleportal-", "hocuspocus-")) and target != "teleportal-local"


def _has_a_log(target: str) -> bool:
    return target.startswith("teleportal-") and target != "teleportal-local"


W7C = Workload(
    "W7c",
    f"commands: what {EDITS} edits, one at a time, ask of Redis",
    (
        Figure("sent", "commands that servers send, per edit"),
        Figure("processed", "with those within scripts"),
        Figure("took_ms", "ms per edit, under MONITOR", ratio=False),
    ),
    _w7c,
    fits=_has_servers,
)
W7B = Workload(
    "W7b",
    f"batches: {DOCUMENTS} documents with so many updates in flight each",
    tuple(
        Figure(
            f"{key}_{window}",
            str(window),
            more_is_better=more,
            digits=digits,
            family=label,
            at=window,
            at_unit="in flight per document",
        )
        for key, label, more, digits in (
            ("edits_per_entry", "edits per entry of the log", True, 1),
            ("commands_per_edit", "Redis commands per edit, with those within scripts", False, 3),
            ("per_s", "updates/s", True, 0),
        )
        for window in WINDOWS
    ),
    _w7b,
    fits=_has_a_log,
)
