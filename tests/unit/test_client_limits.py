"""What a client may do, and whose turn it is: decisions with the time handed in."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.clients.turns import ClientTurns
from jupyter_teleportal.core.client_limits import (
    BURST_S,
    LIGHT_S,
    Allowance,
    ClientLimits,
    Queue,
    TokenBucket,
    Usage,
)
from jupyter_teleportal.core.errors import SettingsError

LIMITS = ClientLimits(
    client_messages_per_s=10,
    client_bytes_per_s=100,
    client_slowed_max_s=5,
    client_message_max_bytes=1000,
    client_question_max_bytes=1000,
)

seconds = st.floats(0, 100, allow_nan=False)
amounts = st.floats(0, 1000, allow_nan=False)


@given(st.lists(st.tuples(seconds, amounts)))
def test_nobody_gets_more_than_burst_and_rate_by_waiting_as_told(steps: list[tuple[float, float]]):
    bucket = TokenBucket(rate=10, burst=50, now=0)
    now = spent = 0.0
    largest = 0.0
    for pause, amount in steps:
        now += pause + bucket.wait(now)
        bucket.spend(amount, now)
        spent += amount
        largest = max(largest, amount)
        assert spent <= 50 + 10 * now + largest + 1e-6
        assert bucket.left(now) <= 50


@given(st.lists(st.tuples(seconds, amounts)))
def test_who_stays_below_the_rate_never_waits(steps: list[tuple[float, float]]):
    bucket = TokenBucket(rate=10, burst=50, now=0)
    now = 0.0
    for pause, amount in steps:
        now += max(pause, amount / 10)
        bucket.spend(min(amount, 50), now)
        assert bucket.wait(now) < 1e-9


def test_a_clock_that_steps_back_gives_nothing():
    bucket = TokenBucket(rate=10, burst=50, now=100)
    bucket.spend(50, 100)
    assert bucket.left(50) == 0


def flood(allowance: Allowance, until: float, now: float = 0.0) -> tuple[float, int, str | None]:
    """Send as fast as allowed; return when and after how many messages it ended, and why."""
    sent = 0
    while now < until:
        now += allowance.wait(now)
        if (excess := allowance.exceeded(now)) is not None:
            return now, sent, excess
        allowance.spend(now, messages=5, size=5)
        sent += 5
    return now, sent, None


def test_a_flood_is_slowed_to_the_rate_and_ends():
    ended, sent, why = flood(Allowance(LIMITS, 0), until=60)
    assert why == "more than 10 messages a second"
    assert 5 <= ended <= 7
    assert sent <= 10 * (BURST_S + ended) + 5


def test_bytes_are_slowed_to_their_rate_too():
    allowance = Allowance(LIMITS, 0)
    allowance.spend(0, messages=1, size=2000)
    assert allowance.wait(0) == pytest.approx(10)
    assert allowance.wait(6) == pytest.approx(4)
    assert allowance.exceeded(6) == "more than 100 bytes a second"


def test_a_burst_is_no_flood():
    allowance = Allowance(LIMITS, 0)
    allowance.spend(0, messages=120)
    assert allowance.wait(0) == pytest.approx(2)
    assert allowance.slowed
    assert allowance.wait(30) == 0
    assert not allowance.slowed
    assert allowance.exceeded(30) is None


def test_one_message_as_large_as_may_be_does_not_wait():
    allowance = Allowance(LIMITS, 0)
    allowance.spend(0, messages=1, size=1000)
    assert allowance.wait(0) == 0


def test_who_is_free_need_not_wait_and_is_not_over_its_limits():
    chance, allowance, now = random.Random(3), Allowance(LIMITS, 0), 0.0
    seen = set()
    for _ in range(3000):
        now += chance.choice((0.0, 0.05, 0.2, 20.0))
        allowance.spend(now, messages=chance.choice((0, 1, 5, 90)), size=chance.choice((1, 700)))
        free = allowance.free
        waits, over = allowance.wait(now) > 0, allowance.exceeded(now) is not None
        assert not (free and (waits or over or allowance.slowed))
        seen.add((free, waits, allowance.slowed))
    assert {(True, False, False), (False, True, True), (False, False, True)} <= seen


@pytest.mark.parametrize(
    ("what", "messages_per_s", "bytes_per_message"),
    [
        ("a kernel at the limit that Jupyter sets for its outputs", 1000, 1000),
        ("a cursor that moves with the screen", 60, 500),
        ("ten plots a second", 10, 1_000_000),
    ],
)
def test_no_person_is_slowed(what: str, messages_per_s: int, bytes_per_message: int):
    allowance, now = Allowance(ClientLimits(), 0), 0.0
    for _ in range(60 * messages_per_s):
        now += 1 / messages_per_s
        allowance.spend(now, messages=1, size=bytes_per_message)
        assert allowance.wait(now) == 0, what


def test_pasting_fifty_megabytes_and_coming_back_with_a_large_document_do_not_wait():
    allowance = Allowance(ClientLimits(), 0)
    allowance.spend(0, messages=1, size=50_000_000)
    allowance.spend(0, messages=1, size=200_000_000)
    assert allowance.wait(0) == 0


# -- turns ---------------------------------------------------------------------------------


def test_what_was_used_long_ago_counts_no_longer():
    usage = Usage(now=-100)
    usage.add(1, now=0)
    assert usage.lately(0) == pytest.approx(1)
    assert usage.lately(1) < 0.4
    assert usage.lately(10) < 0.001


async def test_a_little_in_each_turn_keeps_nobody_waiting():
    turns, typist = ClientTurns(0.01), Allowance(LIMITS, 0)
    for _ in range(100):
        turns.spend(typist, 0.002)
        assert not turns.over
        await asyncio.sleep(0)
    for _ in range(5):
        turns.spend(typist, 0.002)
    assert turns.over


def test_who_has_just_come_is_not_let_past_the_others():
    queue: Queue[str] = Queue(0.01)
    queue.spend(0.02)
    assert not queue.may_go_on(Usage(now=0).lately(0))
    assert queue.may_go_on(Usage(now=0).lately(3))


def test_who_types_never_waits_for_those_who_flood():
    queue: Queue[str] = Queue(0.01)
    queue.spend(5)
    assert queue.may_go_on(0)
    assert not queue.may_go_on(0.1)


def test_who_has_used_least_comes_first():
    queue: Queue[str] = Queue(0.01)
    queue.enter("heavy", 3)
    queue.enter("light", LIGHT_S / 2)
    queue.enter("heavier", 5)
    queue.enter("also light", 0)
    assert queue.next_turn() == ["also light", "light"]
    assert queue.next_turn() == ["heavy"]
    assert queue.next_turn() == ["heavier"]
    assert queue.next_turn() == []


@given(st.lists(st.floats(LIGHT_S, 10), min_size=1, max_size=50))
def test_a_turn_holds_one_of_those_who_flood_however_many_they_are(used: list[float]):
    queue: Queue[int] = Queue(0.01)
    for number, seconds_used in enumerate(used):
        queue.enter(number, seconds_used)
    turns = []
    while queue.waiting:
        turns.append(queue.next_turn())
    assert all(len(turn) == 1 for turn in turns)
    assert sorted(one for (one,) in turns) == list(range(len(used)))


def test_everybody_else_has_as_much_time_as_work_that_cannot_be_cut():
    queue: Queue[str] = Queue(0.01)
    queue.spend(0.012)
    assert queue.rest() == 0
    queue.spend(0.3)
    assert queue.rest() == pytest.approx(0.312)
    queue.next_turn()
    assert queue.rest() == 0


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ClientLimits.__dataclass_fields__))
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1"])
def test_a_limit_is_a_number_above_zero(name: str, value: float):
    with pytest.raises(SettingsError, match=name):
        ClientLimits(**{name: value})


def test_limits_that_contradict_each_other_are_named():
    with pytest.raises(SettingsError, match="client_turn_s"):
        ClientLimits(client_turn_s=1)
    with pytest.raises(SettingsError, match="client_question_max_bytes"):
        ClientLimits(client_message_max_bytes=10)
