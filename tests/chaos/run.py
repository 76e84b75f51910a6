"""One run: rounds of faults, and after each of them the questions whether all is well."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.jupyter_process import JupyterProcess
from support.waiting import until

from . import checks
from . import file_faults as file_faults
from .faults import heal_all
from .kinds import Fault, draw_round, possible
from .tabs import Tab
from .timeline import Timeline
from .world import AWAY, DOCUMENTS, FOREIGN, World, traits

CONVERGE_SECONDS = 5.0
SAVED_SECONDS = 30.0
READY_SECONDS = 60.0
CLOSED_SECONDS = 60.0
# What stays for good is caches, and what a heap in pieces cannot give back.
MEMORY_BYTES = 150_000_000


@dataclass
class Outcome:
    """What a run has shown."""

    seed: int
    rounds: int = 0
    typed: int = 0
    faults: list[str] = field(default_factory=list)
    converged_s: list[float] = field(default_factory=list)
    saves: int = 0
    reads: int = 0
    copies: int = 0
    problems: list[str] = field(default_factory=list)
    story: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    def summary(self) -> str:
        worst = max(self.converged_s, default=0.0)
        return (
            f"seed {self.seed}: {'ok' if self.ok else 'FAILED'}; {self.rounds} rounds, "
            f"{len(self.faults)} faults, {self.typed} edits, equal again after {worst:.2f} s at "
            f"worst, {self.saves} saves, {self.reads} reads of the files, {self.copies} conflict "
            f"copies"
        )


async def run(
    *,
    seed: int,
    minutes: float,
    replicas: int,
    clients: int,
    keep: Path | None = None,
    quiet: bool = False,
    only: str | None = None,
) -> Outcome:
    """Run the chaos for so many minutes; stop at the first thing that is wrong.

    Raises:
        ValueError: if no fault with `only` in its name happens in a run of this seed.
    """
    timeline = Timeline(quiet=quiet)
    outcome = Outcome(seed)
    rng = random.Random(seed)
    names = [one.name for one in possible(traits(seed))]
    if only is not None and not any(only in name for name in names):
        raise ValueError(f"a run of seed {seed} has no fault {only!r}, but {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="teleportal-chaos-") as folder:
        world = World(Path(folder), timeline, seed=seed, replicas=replicas, clients=clients)
        async with world:
            like = ", ".join(sorted(world.traits))
            timeline.note("run", f"seed {seed}: {replicas} servers, {clients} typists ({like})")
            paths = [world.shared / f"{away}{name}" for name in DOCUMENTS for away in ("", AWAY)]
            with checks.Watcher(paths, lambda: time.monotonic() < world.copied_until) as watcher:
                end = time.monotonic() + 60 * minutes
                while time.monotonic() < end and outcome.ok:
                    await _round(world, rng, outcome, only)
                    outcome.problems += watcher.problems
                if outcome.ok:
                    await _end(world, outcome)
                outcome.problems += [p for p in watcher.problems if p not in outcome.problems]
                outcome.reads = watcher.reads
            _judge_the_books(world, outcome)
            for problem in outcome.problems:
                timeline.note("WRONG", problem)
            logs = [(server.name, server.log_path) for server in world.servers]
            outcome.story = timeline.story([] if outcome.ok else logs)
            if keep is not None:
                world.keep(keep)
                (keep / "story.txt").write_text(outcome.story + "\n" + outcome.summary() + "\n")
    return outcome


async def _round(world: World, rng: random.Random, outcome: Outcome, only: str | None) -> None:
    await asyncio.sleep(rng.uniform(0.5, 3))
    faults = draw_round(rng, world.replicas, world.traits)
    while only is not None and not any(only in fault.name for fault in faults):
        faults = draw_round(rng, world.replicas, world.traits)
    outcome.rounds += 1
    lags = [0.0, *(rng.uniform(0, 3) for _ in faults[1:])]
    try:
        await asyncio.gather(
            *(_fault(world, fault, lag) for fault, lag in zip(faults, lags, strict=True))
        )
    except AssertionError as error:
        outcome.problems.append(str(error))
        await heal_all(world)
    outcome.faults += [fault.name for fault in faults]
    # A server comes back to Redis by itself, and within its longest pause between two attempts.
    await _ask(outcome, world.ready(*world.servers, timeout=READY_SECONDS))
    await _settled(world, outcome)
    if outcome.ok and any("files" in fault.needs for fault in faults):
        await _saved(world, outcome)
    world.go_on()


async def _fault(world: World, fault: Fault, lag: float) -> None:
    await asyncio.sleep(lag)
    world.timeline.note("fault", fault.what)
    await fault.run(world)
    world.timeline.note("healed", fault.what)


async def _ask(outcome: Outcome, question: Any) -> None:
    try:
        await question
    except AssertionError as error:
        outcome.problems.append(str(error))


async def _settled(world: World, outcome: Outcome) -> None:
    """Nobody types: all replicas are equal, and hold what was typed."""
    world.pause()
    began = time.monotonic()
    try:
        await until(lambda: not _unequal(world), CONVERGE_SECONDS, what="equal replicas", poll=0.05)
    except AssertionError:
        outcome.problems += [f"not equal after {CONVERGE_SECONDS} s: {x}" for x in _unequal(world)]
    took = time.monotonic() - began
    outcome.converged_s.append(took)
    outcome.problems += _tokens_wrong(world)
    outcome.typed = sum(len(tab.typed) for tab in world.typists)
    world.timeline.note(
        "check", f"equal after {took:.2f} s, {outcome.typed} edits, {len(outcome.problems)} wrong"
    )


def _unequal(world: World) -> list[str]:
    found = []
    for document in DOCUMENTS:
        tabs = world.tabs_on(document)
        away = [tab.name for tab in tabs if not tab.synced.is_set()]
        texts: dict[str, list[str]] = {}
        for tab in tabs:
            texts.setdefault(tab.whole_text, []).append(tab.name)
        if away:
            found.append(f"{document}: {away} are not connected")
        elif len(texts) > 1:
            sizes = {len(text): names for text, names in texts.items()}
            found.append(f"{document}: {sizes}")
    return found


def _tokens_wrong(world: World) -> list[str]:
    copies = "".join(path.read_text() for path in world.copies())
    documents = checks.documents_of(world)
    tabs = [*world.typists, *world.readers]
    typed = [one for tab in tabs for one in tab.typed]
    deleted = {token for tab in tabs for token in tab.deleted}
    problems = checks.tokens_wrong(typed, deleted, documents, copies, FOREIGN)
    problems += checks.crowds_wrong({f"{tab.file} of {tab.name}": tab.clocks() for tab in tabs})
    for token, name in world.foreign_tokens.items():
        for replica, text in documents[name].items():
            if text.count(token) > 1:
                problems.append(f"{token} of another program is there twice in {name} on {replica}")
    return problems


async def _end(world: World, outcome: Outcome) -> None:
    """All faults are over: the files, and what is left when everything is closed."""
    world.stop_typing()
    await _settled(world, outcome)
    await _saved(world, outcome)
    copies = "".join(path.read_text() for path in world.copies())
    for token, name in world.foreign_tokens.items():
        if token not in (world.shared / name).read_text() + copies:
            outcome.problems.append(f"{token}, which another program wrote to {name}, is lost")
    outcome.copies = len(world.copies())
    await asyncio.gather(*(tab.close(goodbye=False) for tab in world.tabs))
    for server in world.servers:
        await _closed(world, server, outcome)
    with world.redis.cli() as client:
        names = [c["name"] for c in client.client_list() if c["name"].startswith("teleportal")]
    if len(names) > 3 * world.replicas:
        outcome.problems.append(f"{len(names)} connections to Redis: {names}")


async def _saved(world: World, outcome: Outcome) -> None:
    """Nobody types: the files are what the documents are, and nothing else is left beside them."""

    def wrong() -> list[str]:
        found = [f"not saved: {name}" for name in _unsaved(world)]
        return found + [f"left over: {name}" for name in world.leftovers()]

    try:
        await until(lambda: not wrong(), SAVED_SECONDS, what="the files", poll=0.1)
    except AssertionError:
        outcome.problems += wrong()


async def _closed(world: World, server: JupyterProcess, outcome: Outcome) -> None:
    """Everything is closed on this server: see what is left."""
    before = world.baseline[server.name]
    after = before

    async def no_rooms() -> bool:
        rooms = (await server.status())["rooms"]
        return not [room for room in rooms if room["share"]]

    async def clean() -> bool:
        nonlocal after
        after = await server.call("GET", "/api/probe/leftovers")
        return not checks.leftovers_wrong(server.name, before, after, memory=MEMORY_BYTES)

    await _ask(outcome, until(no_rooms, CLOSED_SECONDS, what=f"{server.name} without rooms"))
    try:
        await until(clean, 10, what="nothing left over", poll=0.5)
    except AssertionError:
        outcome.problems += checks.leftovers_wrong(server.name, before, after, memory=MEMORY_BYTES)
    world.timeline.note(
        "check",
        f"{server.name} closed: {len(after['tasks'])} tasks, {after['rss'] / 1e6:.0f} MB "
        f"({before['rss'] / 1e6:.0f} MB at its start)",
    )


def _unsaved(world: World) -> list[str]:
    found = []
    for name in DOCUMENTS:
        tab = next(tab for tab in world.readers if tab.file == name)
        path = world.shared / name
        if not path.exists() or not _same(tab, path.read_text()):
            found.append(name)
    return found


def _same(tab: Tab, text: str) -> bool:
    if not tab.file.endswith(".ipynb"):
        return tab.text == text
    content = tab.content()
    assert isinstance(content, dict)
    ours = [_source(cell) for cell in content["cells"]]
    try:
        theirs = [_source(cell) for cell in json.loads(text)["cells"]]
    except ValueError:
        return False
    return ours == theirs


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _judge_the_books(world: World, outcome: Outcome) -> None:
    """What can be read when everything is over: the saves, and the servers' logs."""
    lines = checks.read_saves(world.save_log)
    outcome.saves = len(lines)
    outcome.problems += checks.saves_wrong(lines)
    for server in world.servers:
        outcome.problems += checks.log_wrong(server.name, server.log_text())
        started = len(server.grep("Jupyter Server .* is running at"))
        if started > world.starts[server.name]:
            outcome.problems.append(f"{server.name} has restarted by itself")
