"""W6: a class opens one document that nobody has open, all at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from ..load.client import Client
from ..load.door import Entrance, Scene
from ..load.job import Options, Outcome
from ..load.pairs import place
from ..load.usage import Busy
from .base import Figure, Workload, note_busy, percentile

CLIENTS = 50
TIMES = 3
IN_TIME_SECONDS = 1.0
_SOME_CONTENT_BYTES = 50


async def _join(
    scene: Scene, stem: str, entrances: Sequence[Entrance], timeout: float, outcome: Outcome
) -> list[float]:
    """Let all clients in at once, and return how many seconds each took that was synced."""
    document = place(scene, stem)
    # Where no file says what is in a document, it is empty.
    at_least = _SOME_CONTENT_BYTES if scene.folder is not None else 0
    clients = [Client(entrances[number % len(entrances)], document) for number in range(CLIENTS)]
    try:
        openings = await asyncio.gather(
            *(client.open(timeout, at_least) for client in clients), return_exceptions=True
        )
    finally:
        for client in clients:
            client.close()
    failures: Counter[str] = Counter()
    took: list[float] = []
    for opening in openings:
        if isinstance(opening, BaseException):
            failures[f"{type(opening).__name__} {opening}".strip()] += 1
        else:
            took.append(opening.synced)
    for text, count in failures.most_common(3):
        outcome.problems.append(f"{document}: {count} of {CLIENTS} did not get in: {text}")
    return took


async def _w6(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    busy = Busy.begin()
    ways: dict[str, Sequence[Entrance]] = {"one": (scene.here,)}
    if len(scene.entrances) > 1:
        ways["all"] = scene.entrances
    # The first room of a server brings in what all rooms need.
    for number, entrance in enumerate(scene.entrances):
        await _join(scene, f"first-{number}", (entrance,), options.timeout, outcome)
    for way, entrances in ways.items():
        rounds = [
            await _join(scene, f"join-{way}-{time}", entrances, options.timeout, outcome)
            for time in range(TIMES)
        ]
        outcome.figures[f"{way}_in_time"] = min(
            sum(seconds <= IN_TIME_SECONDS for seconds in took) for took in rounds
        )
        outcome.figures[f"{way}_p50_s"] = percentile([s for took in rounds for s in took], 50)
        outcome.figures[f"{way}_last_s"] = max((s for took in rounds for s in took), default=0.0)
    outcome.busy = busy.share()
    note_busy(outcome)
    return outcome


W6 = Workload(
    "W6",
    f"join: {CLIENTS} clients open one unopened document at once, the worst of {TIMES} times",
    (
        Figure("one_in_time", "on A: synced in 1 s", more_is_better=True, digits=0, ratio=False),
        Figure("one_p50_s", "p50, s", digits=3),
        Figure("one_last_s", "last, s", digits=3),
        Figure("all_in_time", "on all: in 1 s", more_is_better=True, digits=0, ratio=False),
        Figure("all_p50_s", "p50, s (all)", digits=3),
        Figure("all_last_s", "last, s (all)", digits=3),
    ),
    _w6,
)
