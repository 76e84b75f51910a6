"""Updates are tried in another process, which can be ended; that is real here."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pycrdt import Doc, Text
from support.conflicts import ATTACKS, FIRST, anchored, insertions
from support.histories import edited_together
from support.waiting import until

from jupyter_teleportal.core.crdt import EMPTY_UPDATE, Door
from jupyter_teleportal.core.errors import ForeignBytes, Untried
from jupyter_teleportal.core.update_walk import read_state
from jupyter_teleportal.sync import trial
from jupyter_teleportal.sync.trial import FROM_CLIENT_MAX_S, FROM_LOG_MAX_S, Trials, Tried, tried

if TYPE_CHECKING:
    from pathlib import Path

NOTHING_HELD = Tried(EMPTY_UPDATE, 0)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_takes_too_long_is_refused_and_nothing_else(attack: str):
    updates = ATTACKS[attack]
    word = Doc({"other": Text("word")}).get_update()
    verdict = await Trials().run(
        NOTHING_HELD, [tried(update) for update in (*updates, word)], FROM_LOG_MAX_S
    )
    assert verdict.refused
    assert len(updates) not in verdict.refused
    assert verdict.spent_s <= FROM_LOG_MAX_S


async def test_what_people_have_edited_together_is_not_refused():
    for shape in ((2, 100, 20, 50), (20, 4, 100, 50), (50, 20, 10, 1000)):
        update = edited_together(random.Random(1), *shape).get_update()
        verdict = await Trials().run(NOTHING_HELD, [tried(update)], FROM_CLIENT_MAX_S)
        assert not verdict.refused
        assert not verdict.full


async def test_many_small_ones_are_refused_together():
    updates = [anchored(), *(insertions(range(n, n + 500)) for n in range(FIRST, 16_000, 500))]
    verdict = await Trials().run(NOTHING_HELD, [tried(one) for one in updates], FROM_LOG_MAX_S)
    assert 0 not in verdict.refused
    assert 1 not in verdict.refused
    # The later they come, the longer they take.
    first = min(verdict.refused)
    assert first > 3
    assert len(verdict.refused) > 10
    assert verdict.full


async def test_what_the_document_holds_counts_too():
    held = [anchored(), *(insertions(range(n, n + 500)) for n in range(FIRST, 8_000, 500))]
    doc: Doc = Doc()
    for update in held:
        doc.apply_update(update)
    there = tried(doc.get_update())
    more = tried(insertions(range(20_000, 20_500)))
    assert not (await Trials().run(tried(anchored()), [more], 0.05)).refused
    assert (await Trials().run(there, [more], 0.05)).refused


async def test_more_are_tried_than_answers_that_a_pipe_holds():
    """Neither side waits for the other: it took a minute, and then all were refused."""
    author: Doc = Doc(client_id=5)
    author["source"] = text = Text()
    sent: list[bytes] = []
    subscription = author.observe(lambda event: sent.append(event.update))
    for number in range(15_000):
        text.insert(number // 2, "a")
    author.unobserve(subscription)
    began = time.monotonic()
    verdict = await Trials().run(
        tried(anchored(10)), [tried(update) for update in sent], FROM_LOG_MAX_S
    )
    assert time.monotonic() - began < trial.TIMEOUT_S / 2
    assert not verdict.refused


async def test_a_door_lets_in_what_was_tried():
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored())
    few, many = insertions(range(FIRST, FIRST + 1_500)), ATTACKS["within a run"][1]
    for update in (few, many):
        with pytest.raises(Untried):
            door.take(doc, update)
    await Trials().let_in(door, doc, few)
    door.take(doc, few)
    assert len(read_state(doc.get_state())) == 1_501
    with pytest.raises(ForeignBytes, match="too long"):
        await Trials().let_in(door, doc, many)
    with pytest.raises(Untried):
        door.take(doc, many)


async def test_where_no_process_can_be_started_people_work_on(monkeypatch: pytest.MonkeyPatch):
    async def fails(*_: Any, **__: Any) -> Any:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fails)
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored())
    update = insertions(range(FIRST, FIRST + 1_500))
    await Trials().let_in(door, doc, update)
    door.take(doc, update)


async def test_where_no_copy_can_be_made_people_work_on(monkeypatch: pytest.MonkeyPatch):
    """The other process may be the last one that the system allows."""
    fails = "def fork(): raise BlockingIOError('no more processes')"
    monkeypatch.setattr(trial, "_START", f"import os\n{fails}\nos.fork = fork\n{trial._START}")
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored())
    update = insertions(range(FIRST, FIRST + 1_500))
    await Trials().let_in(door, doc, update)
    door.take(doc, update)


async def test_where_nobody_knows_the_interpreter_people_work_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", None)  # as in a program that Python is built into
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored())
    await Trials().let_in(door, doc, insertions(range(FIRST, FIRST + 1_500)))


async def test_a_document_may_get_another_door_during_a_trial(monkeypatch: pytest.MonkeyPatch):
    """As it does when its log is read anew."""
    doc: Doc = Doc()
    doors = [Door(doc.get_state, limited=True) for _ in range(2)]
    for door in doors:
        door.take(doc, anchored())
    update, run, tried_with = insertions(range(FIRST, FIRST + 1_500)), Trials.run, []

    async def and_another_door(*arguments: Any) -> Any:
        tried_with.append(doors[0])
        if len(doors) > 1:
            doors.pop(0)
        return await run(*arguments)

    monkeypatch.setattr(Trials, "run", and_another_door)
    lacks = await Trials().through(
        lambda: doors[0], doc, update, lambda: doors[0].take(doc, update)
    )
    assert lacks is None
    assert len(read_state(doc.get_state())) == 1_501
    assert len(tried_with) == 2


async def test_what_cannot_be_tried_in_time_is_refused_if_it_might_take_long(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(trial, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(trial, "_START", "{path!r}; import time; time.sleep(60)")
    updates = [tried(update) for update in (anchored(), *ATTACKS["one place"][1:])]
    began = time.monotonic()
    verdict = await Trials().run(NOTHING_HELD, updates, FROM_LOG_MAX_S)
    assert verdict.refused == {1, 2}
    assert verdict.full
    assert time.monotonic() - began < 20


async def test_a_process_that_ends_early_refuses_what_might_take_long(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(trial, "_START", "{path!r}")
    large = tried(Doc({"source": Text("x" * 3_000_000)}).get_update())
    verdict = await Trials().run(large, [tried(ATTACKS["one place"][1])], FROM_LOG_MAX_S)
    assert verdict.refused == {0}


async def test_nothing_is_left_of_a_trial_that_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(trial, "_START", "{path!r}; import time; time.sleep(60)")
    trials = Trials()
    under_way = asyncio.ensure_future(trials.run(NOTHING_HELD, [], FROM_LOG_MAX_S))
    me = psutil.Process()
    await until(me.children, what="the process")
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert not me.children(recursive=True)
    del under_way
    gc.collect()
    assert not caplog.records


async def test_one_is_tried_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "_START", "{path!r}; import time; time.sleep(0.3)")
    trials, me, most = Trials(), psutil.Process(), 0
    under_way = [
        asyncio.ensure_future(trials.run(NOTHING_HELD, [], FROM_LOG_MAX_S)) for _ in range(3)
    ]
    while not all(one.done() for one in under_way):
        most = max(most, len(me.children()))
        await asyncio.sleep(0.01)
    assert most == 1


async def test_modules_in_the_working_directory_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is where notebooks are, which anybody of a share may write."""
    for name in ("json", "pycrdt", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    verdict = await Trials().run(NOTHING_HELD, [tried(ATTACKS["one place"][1])], FROM_LOG_MAX_S)
    assert not verdict.refused
