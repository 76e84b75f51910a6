"""A short run of the chaos, and proof that each of its judgements can fail."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.fixtures import CONFINED_TO
from support.notebooks import notebook_json
from support.redis_server import RedisServer

from chaos import checks
from chaos.faults import crowd, heal_all
from chaos.kinds import KINDS, draw_round, possible
from chaos.run import run
from chaos.tabs import END, Typed
from chaos.timeline import log_events
from jupyter_teleportal import create_redis_sync_transport
from jupyter_teleportal.core.update_walk import read_update
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.transports.base import TransportState

SEED = int(os.environ.get("JUPYTER_TELEPORTAL_CHAOS_SEED", "5"))
MINUTES = float(os.environ.get("JUPYTER_TELEPORTAL_CHAOS_MINUTES", "0.5"))
EVERYWHERE = {"confined", "accounts", "disk", "protected"}
ONE = Typed("<t1.1>", "one.ipynb", "t1", 0.0, "A")


@pytest.mark.timeout(60 * MINUTES + 240)
async def test_nothing_is_lost(artefacts: Path) -> None:
    outcome = await run(
        seed=SEED, minutes=MINUTES, replicas=3, clients=6, keep=artefacts, quiet=True
    )
    print(outcome.summary())
    assert outcome.ok, f"{outcome.story}\n" + "\n".join(outcome.problems)
    assert outcome.typed > 50
    assert outcome.saves > 0
    assert outcome.reads > 50


def test_the_same_seed_draws_the_same_faults() -> None:
    drawn = [
        [fault.what for _ in range(50) for fault in draw_round(rng, 3, EVERYWHERE)]
        for rng in (random.Random(1), random.Random(1), random.Random(2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({fault.name for seed in range(9) for fault in _faults(seed)}) == len(KINDS)


def _faults(seed: int) -> list:
    rng = random.Random(seed)
    return [fault for _ in range(50) for fault in draw_round(rng, 3, EVERYWHERE)]


@pytest.mark.parametrize(
    ("trait", "kinds"),
    [
        ("confined", {"right_taken_away"}),
        ("accounts", {"folder_mode"}),
        ("disk", {"disk_full", "disk_read_only"}),
        ("protected", {"file_read_only", "folder_closed"}),
    ],
)
def test_what_needs_a_certain_world_is_drawn_in_one_alone(trait: str, kinds: set[str]) -> None:
    rng, traits = random.Random(1), EVERYWHERE - {trait}
    drawn = {fault.name for _ in range(300) for fault in draw_round(rng, 3, traits)}
    assert drawn == {kind.name for kind in possible(traits)}
    assert {kind.name for kind in KINDS} - drawn == kinds


def test_all_kinds_come_about_as_often() -> None:
    drawn = Counter(fault.name for seed in range(25) for fault in _faults(seed))
    assert max(drawn.values()) < 3 * min(drawn.values())


@pytest.mark.parametrize(("seed", "only"), [(2, "right_taken_away"), (1, "no such fault")])
async def test_rounds_with_a_fault_that_never_happens_are_not_waited_for(
    seed: int, only: str
) -> None:
    with pytest.raises(ValueError, match=only):
        await run(seed=seed, minutes=1, replicas=3, clients=6, quiet=True, only=only)


async def test_whatever_a_fault_leaves_behind_is_undone(confined_redis: RedisServer) -> None:
    with confined_redis.cli() as client:
        client.config_set("maxmemory", "1")
        client.replicaof("127.0.0.1", "1")
        client.script_flush()
    confined_redis.take_right("evalsha")
    world: Any = SimpleNamespace(proxies=[], redis=confined_redis)
    await heal_all(world)
    transport = await create_redis_sync_transport(confined_redis.url)
    try:
        assert transport.state is TransportState.CONNECTED
        await transport.seed_log(Scope(CONFINED_TO[0], "room"), "lineage", "a", b"x")
    finally:
        await transport.aclose()


def test_a_crowd_that_was_let_in_is_found() -> None:
    first, second = ({block.client for block in read_update(crowd(n))} for n in (0, 1))
    assert not checks.crowds_wrong({"one.ipynb of t1": [1, *first]})
    (problem,) = checks.crowds_wrong({"one.ipynb of t1": [1, *second]})
    assert "10000 of a forged crowd" in problem


@pytest.mark.parametrize(
    ("text", "says"), [("", "lost"), ("<t1.1><t1.1>", "there 2 times"), ("<t1.1>", None)]
)
def test_a_token_has_to_be_there_once(text: str, says: str | None) -> None:
    problems = checks.tokens_wrong([ONE], set(), {"one.ipynb": {"B": text}})
    assert (says is None) == (not problems)
    assert says is None or says in problems[0]


def test_a_deleted_token_must_not_come_back() -> None:
    documents = {"one.ipynb": {"B": "<t1.1>"}}
    assert "deleted and there" in checks.tokens_wrong([ONE], {"<t1.1>"}, documents)[0]


def test_only_where_other_programs_write_a_copy_is_enough() -> None:
    documents = {"one.ipynb": {"B": ""}}
    assert checks.tokens_wrong([ONE], set(), documents, "<t1.1>")
    assert not checks.tokens_wrong([ONE], set(), documents, "<t1.1>", ["one.ipynb"])


def save(pid: int, start: float, end: float, believed: str = "x", before: str = "x") -> dict:
    return {
        "pid": pid,
        "path": "one.ipynb",
        "start": start,
        "end": end,
        "believed": believed,
        "before": before,
        "after": "y",
    }


def test_savers_at_once_are_found() -> None:
    assert not checks.saves_wrong([save(1, 0, 1), save(2, 2, 3)])
    assert "two savers" in checks.saves_wrong([save(1, 0, 3), save(2, 2, 4)])[0]


def test_a_save_over_what_was_not_seen_is_found() -> None:
    assert "had not seen" in checks.saves_wrong([save(1, 0, 1, believed="a", before="b")])[0]


def test_a_torn_file_is_found() -> None:
    whole = json.dumps(notebook_json(["x"]))
    assert checks.file_wrong(Path("a.ipynb"), whole) is None
    for torn in (whole[:-5], "", "{}"):
        assert checks.file_wrong(Path("a.ipynb"), torn)
    assert checks.file_wrong(Path("a.txt"), f"text\n{END}\n") is None
    assert checks.file_wrong(Path("a.txt"), "text\n=== e")


def test_the_watcher_sees_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("torn")
    with checks.Watcher([path]) as watcher:
        while not watcher.reads:
            pass
    assert watcher.problems


def test_an_error_in_a_log_is_found() -> None:
    line = "[E 2026-01-01 00:00:00.000 ServerApp] {}\n"
    assert checks.log_wrong("A", line.format("Something went wrong"))
    assert not checks.log_wrong("A", line.format("HTTP 404: Not Found (No such file or directory)"))
    assert checks.log_wrong("A", "Task exception was never retrieved\n")
    traceback = "Traceback (most recent call last):\n  File x\nWebSocketClosedError\n"
    assert not checks.log_wrong("A", line.format("Failed to write message") + traceback)
    assert checks.log_wrong("A", line.replace("E", "I", 1).format("Saved") + traceback)
    assert checks.log_wrong("A", traceback)


def test_what_is_left_over_is_found() -> None:
    before = {"tasks": ["a"], "descriptors": 10, "rss": 10**8}
    assert not checks.leftovers_wrong("A", before, before, memory=10**8)
    for more in ({"tasks": ["a", "b"]}, {"descriptors": 30}, {"rss": 3 * 10**8}):
        assert checks.leftovers_wrong("A", before, {**before, **more}, memory=10**8)


def test_a_traceback_stays_with_its_line() -> None:
    text = "[E 2026-01-01 00:00:01.500 App] bad\n  Traceback\n[I 2026-01-01 00:00:02.000 App] ok\n"
    first, second = log_events("A", text)
    assert "Traceback" in first.text
    assert second.at - first.at == 0.5
