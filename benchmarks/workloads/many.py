"""W4: many documents that are open at once, idle and with a little typing in each."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..load.client import Client, Opening
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
from ..load.redis_view import RedisView
from ..load.usage import Busy, Usage
from .base import Figure, Workload, note_busy, percentile
from .typing import JITTER, Stopwatch

AT_A_TIME = 16
CHECKED = 20
QUIET_CPUS = 0.15
QUIET_TIMEOUT_SECONDS = 20.0
_QUIET_INTERVAL_SECONDS = 0.5
AT_REST_SECONDS = 20.0
"""Until what an opening brings in its wake is over: saves, and the first renewals of cursors."""

Open = Callable[[str, int], Awaitable[tuple[Client, Opening]]]


@dataclass
class Opened:
    """What became of opening many documents on one server, clients by the document's number."""

    clients: dict[int, Client] = field(default_factory=dict)
    openings: list[Opening] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def _open_all(open: Open, documents: Sequence[str], authors: Sequence[int]) -> Opened:
    """Open all documents, some at a time."""
    opened = Opened()
    places = asyncio.Semaphore(AT_A_TIME)

    async def open_one(number: int) -> None:
        async with places:
            try:
                client, opening = await open(documents[number], authors[number])
            except (OSError, asyncio.TimeoutError) as error:
                opened.failures.append(f"{type(error).__name__} {error}".strip())
            else:
                opened.clients[number] = client
                opened.openings.append(opening)

    began = time.perf_counter()
    await asyncio.gather(*map(open_one, range(len(documents))))
    opened.seconds = time.perf_counter() - began
    return opened


async def quiet(usage: Usage) -> bool:
    """Wait until the target does next to nothing; return whether it came to that."""
    deadline = time.monotonic() + QUIET_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if await idle_cpus(usage, _QUIET_INTERVAL_SECONDS) < QUIET_CPUS:
            return True
    return False


async def idle_cpus(usage: Usage, seconds: float) -> float:
    """Return the CPU seconds per second that the target uses while nobody does anything."""
    cpu, began = usage.cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (usage.cpu() - cpu) / (time.perf_counter() - began)


async def type_here_and_there(
    pairs: Sequence[Pair], seconds: float, seed: int, timeout: float
) -> tuple[list[float], float]:
    """Type one character a second in each document, all at different times, and let it arrive.

    Returns:
        The milliseconds until each edit had arrived, and how busy this process was.

    Raises:
        TimedOut: if some do not arrive.
    """
    chance = random.Random(seed)
    stopwatches = [Stopwatch(pair) for pair in pairs]
    phases = [chance.random() for _ in stopwatches]
    # Off the beat, because a save is due after one second without an edit.
    schedule = sorted(
        (phase + second + JITTER * chance.random(), number)
        for number, phase in enumerate(phases)
        for second in range(round(seconds))
    )
    began, busy = time.perf_counter(), Busy.begin()
    for due, number in schedule:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        stopwatches[number].type()
    share = busy.share()
    await settle(pairs, timeout)
    return [took for stopwatch in stopwatches for took in stopwatch.took], share


async def _w4(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    usage = Usage(scene.processes)
    redis = RedisView(scene.redis_port) if scene.redis_port is not None else None
    new_author = author_ids(options.seed)
    authors = [new_author() for _ in range(options.documents)]
    documents = [place(scene, f"many-{number}") for number in range(options.documents)]
    # The first room brings in what all rooms need.
    first = await open_pair(scene, "first", new_author(), options.timeout)
    pairs: list[Pair] = []
    try:
        await quiet(usage)
        figures = outcome.figures
        figures["empty_cpus"] = await idle_cpus(usage, options.seconds)
        before = usage.memory_by_role()
        used_before = redis.memory() if redis is not None else 0

        timeout = options.timeout
        write = await _open_all(
            lambda document, author: open_writer(scene, document, author, timeout),
            documents,
            authors,
        )
        read = await _open_all(
            partial(open_reader, scene.there, timeout=timeout), documents, authors
        )
        figures["open_a_s"], figures["open_b_s"] = write.seconds, read.seconds
        for where, opened in (("A", write), ("B", read)):
            figures[f"open_{where.lower()}_p99_s"] = percentile(
                [opening.synced for opening in opened.openings], 99
            )
            for text, count in Counter(opened.failures).most_common(3):
                outcome.problems.append(
                    f"{count} of {len(documents)} not opened on {where}: {text}"
                )
        pairs = [
            Pair(documents[number], authors[number], writer, [read.clients[number]])
            for number, writer in write.clients.items()
            if number in read.clients
        ]
        figures["opened"] = len(pairs)
        if not pairs:
            return outcome

        if not await quiet(usage):
            outcome.notes.append("the target did not come to rest after all documents were open")
        _memory(figures, before, usage.memory_by_role(), len(pairs))
        if redis is not None:
            figures["kb_redis_data"] = (redis.memory() - used_before) / 1024 / len(pairs)
            figures["connections"] = redis.connections()
            figures["connections_each"] = redis.connections() / len(scene.entrances)
        await asyncio.sleep(AT_REST_SECONDS)
        figures["idle_cpus"] = await idle_cpus(usage, options.seconds)

        cpu = usage.cpu()
        took, outcome.busy = await type_here_and_there(
            pairs, options.seconds, options.seed, options.timeout
        )
        figures["cpu_ms"] = 1000 * (usage.cpu() - cpu) / len(took)
        figures["p50_ms"], figures["p99_ms"] = percentile(took, 50), percentile(took, 99)
        sample = random.Random(options.seed).sample(pairs, min(CHECKED, len(pairs)))
        outcome.problems += await check(scene, sample, options.timeout)
    except TimedOut as error:
        outcome.problems.append(str(error))
    finally:
        for pair in (first, *pairs):
            pair.close()
        if redis is not None:
            redis.close()
    note_busy(outcome)
    return outcome


def _memory(
    figures: dict[str, float], before: dict[str, int], after: dict[str, int], documents: int
) -> None:
    """Note by how many KB per document the servers and Redis have grown."""
    grown = {role: (after[role] - before[role]) / 1024 / documents for role in after}
    figures["kb_redis"] = grown.pop("Redis", math.nan)
    figures["kb_servers"] = sum(grown.values())
    figures["kb_total"] = sum(kb for kb in (figures["kb_servers"], figures["kb_redis"]) if kb == kb)


W4 = Workload(
    "W4",
    "many: documents with a writer on A and a reader on B each, 1 update/s each",
    (
        Figure("p50_ms", "p50, ms"),
        Figure("p99_ms", "p99, ms"),
        Figure("kb_servers", "servers, KB per document", digits=0),
        Figure("kb_redis", "Redis, KB", digits=0, ratio=False),
        Figure("kb_total", "all, KB", digits=0),
        Figure("kb_redis_data", "Redis' data, KB", digits=1, ratio=False),
        Figure("connections", "Redis connections", digits=0, ratio=False),
        Figure("connections_each", "per server", digits=1, ratio=False),
        Figure("open_a_s", "all opened on A, s"),
        Figure("open_b_s", "then on B, s"),
        Figure("open_a_p99_s", "one on A, p99, s", ratio=False),
        Figure("open_b_p99_s", "one on B, p99, s", ratio=False),
        Figure("empty_cpus", "idle CPU s/s with 1 room", digits=3, ratio=False),
        Figure("idle_cpus", "with all rooms", digits=3, ratio=False),
        Figure("cpu_ms", "CPU ms per edit"),
        Figure("opened", "documents", digits=0, ratio=False),
    ),
    _w4,
)
