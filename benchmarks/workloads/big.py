"""W5 and W5p: a large notebook, and what its opening, editing and saving does to a small one."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from ..load.client import Client
from ..load.door import Scene
from ..load.job import Job, Options, Outcome
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
)
from ..load.process import run_in_process
from ..load.usage import Busy
from .base import Figure, Workload, note_busy, percentile
from .typing import Stopwatch, at_pace

MEGABYTE = 1_000_000
TIMES = 3
PROBE_PER_SECOND = 100
EDITS_PER_SECOND = 20
EDIT_SECONDS = 2.0
CALM_SECONDS = 2.0
_BIG_TIMEOUT_SECONDS = 120.0
PHASES = ("calm", "open_a", "open_b", "edit", "save")


async def _document_size(scene: Scene, document: str) -> int:
    """Bytes of a document that is open on A, as A sends it."""
    client = Client(scene.here, document)
    try:
        return (await client.open(_BIG_TIMEOUT_SECONDS)).size
    finally:
        client.close()


async def _w5(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    new_author = author_ids(options.seed)
    opened: dict[str, list[float]] = {"open_a_s": [], "open_b_s": [], "again_b_s": [], "http_s": []}
    busy = Busy.begin()
    # The first room brings in what all rooms need.
    first = await open_pair(scene, "first", new_author(), options.timeout)
    first.close()
    for number in range(TIMES):
        author = new_author()
        size = options.megabytes * MEGABYTE
        document = place(scene, f"big-{number}", size)
        writer, opening = await open_writer(scene, document, author, _BIG_TIMEOUT_SECONDS, size)
        if scene.folder is not None:
            opened["open_a_s"].append(opening.synced)
        whole = round(ENOUGH * await _document_size(scene, document))
        reader, opening = await open_reader(
            scene.there, document, author, _BIG_TIMEOUT_SECONDS, whole
        )
        opened["open_b_s"].append(opening.synced)
        opened["http_s"].append(opening.known)
        again, opening = await open_reader(
            scene.there, document, author, _BIG_TIMEOUT_SECONDS, whole
        )
        opened["again_b_s"].append(opening.synced)
        pair = Pair(document, author, writer, [reader, again])
        writer.type()
        await settle([pair], options.timeout)
        outcome.problems += await check(scene, [pair], _BIG_TIMEOUT_SECONDS)
        outcome.figures["mb"] = whole / ENOUGH / MEGABYTE
        pair.close()
    outcome.figures |= {key: statistics.median(took) for key, took in opened.items() if took}
    outcome.busy = busy.share()
    return outcome


async def _big_client(scene: Scene, options: Options) -> Outcome:
    """The one with the large notebook, in a process of its own: its work is not the probe's.

    Returns:
        For each phase its beginning and end by the monotonic clock, `<phase>_from` and `_to`.
    """
    outcome = Outcome()
    figures = outcome.figures
    author = author_ids(options.seed + 1)()
    size = options.megabytes * MEGABYTE
    document = place(scene, "big", size)
    figures["open_a_from"] = time.perf_counter()
    writer, _ = await open_writer(scene, document, author, _BIG_TIMEOUT_SECONDS, size)
    figures["open_a_to"] = time.perf_counter()
    whole = round(ENOUGH * await _document_size(scene, document))
    figures["open_b_from"] = time.perf_counter()
    reader, _ = await open_reader(scene.there, document, author, _BIG_TIMEOUT_SECONDS, whole)
    figures["open_b_to"] = time.perf_counter()
    pair = Pair(document, author, writer, [reader])
    try:
        stopwatch = Stopwatch(pair)
        figures["edit_from"] = time.perf_counter()
        await at_pace(stopwatch, EDITS_PER_SECOND, EDIT_SECONDS, options.seed)
        await settle([pair], _BIG_TIMEOUT_SECONDS)
        figures["edit_to"] = time.perf_counter()
        figures["edit_p50_ms"] = percentile(stopwatch.took, 50)
        if scene.saves:
            figures["save_from"] = time.perf_counter()
            reply = await writer.save(1, _BIG_TIMEOUT_SECONDS)
            figures["save_to"] = time.perf_counter()
            if b"success" not in reply and b"skipped" not in reply:
                outcome.problems.append(f"not saved: {reply.decode()}")
        outcome.problems += await check(scene, [pair], _BIG_TIMEOUT_SECONDS)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        pair.close()
    return outcome


async def _probe(stopwatch: Stopwatch) -> None:
    while True:
        await asyncio.sleep(1 / PROBE_PER_SECOND)
        stopwatch.type()


async def _w5p(scene: Scene, options: Options) -> Outcome:
    author = author_ids(options.seed)()
    pair = await open_pair(scene, "probe", author, options.timeout)
    stopwatch = Stopwatch(pair)
    probe = asyncio.ensure_future(_probe(stopwatch))
    busy = Busy.begin()
    try:
        began = time.perf_counter()
        await asyncio.sleep(CALM_SECONDS)
        outcome = await run_in_process(Job("big client", scene, options), 4 * _BIG_TIMEOUT_SECONDS)
        times = outcome.figures
        times |= {"calm_from": began, "calm_to": began + CALM_SECONDS}
        probe.cancel()
        await settle([pair], options.timeout)
        outcome.busy = busy.share()
        outcome.figures = {"edit_p50_ms": times.get("edit_p50_ms", float("nan"))}
        for phase in PHASES:
            if f"{phase}_to" in times:
                start, stop = times[f"{phase}_from"], times[f"{phase}_to"]
                outcome.figures[f"{phase}_s"] = stop - start
                outcome.figures[f"{phase}_pause_ms"] = stopwatch.longest(start, stop)
        outcome.problems += await check(scene, [pair], options.timeout)
    finally:
        probe.cancel()
        pair.close()
    if scene.folder is not None:
        written = (Path(scene.folder) / "big.ipynb").stat().st_size
        outcome.figures["mb"] = written / MEGABYTE
    note_busy(outcome)
    return outcome


W5 = Workload(
    "W5",
    "big: a large notebook that is live on A is opened on B for the first time",
    (
        Figure("open_b_s", "first open on B, s", digits=3),
        Figure("http_s", "of that the request for the room, s", digits=3, ratio=False),
        Figure("again_b_s", "second open on B, s", digits=3),
        Figure("open_a_s", "open on A from the file, s", digits=3),
        Figure("mb", "MB of the document", digits=1, ratio=False),
    ),
    _w5,
    not_on=("floor",),
)
W5P = Workload(
    "W5p",
    f"big beside small: longest round trip of a small document at {PROBE_PER_SECOND}/s meanwhile",
    (
        *(Figure(f"{phase}_pause_ms", f"{phase}: longest, ms", digits=1) for phase in PHASES),
        Figure("open_a_s", "open on A, s", ratio=False),
        Figure("open_b_s", "open on B, s", ratio=False),
        Figure("edit_p50_ms", "edit, p50, ms", ratio=False),
        Figure("save_s", "save, s", ratio=False),
        Figure("mb", "MB of the file", digits=1, ratio=False),
    ),
    _w5p,
    not_on=("floor",),
)
BIG_CLIENT = Workload("big client", "the other half of W5p", (), _big_client)
