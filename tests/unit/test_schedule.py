"""When a document is saved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.core.schedule import SavePace, SaveSchedule


def test_nothing_is_due_before_a_change() -> None:
    assert SaveSchedule(1, 10).due() is None


def test_a_save_waits_for_a_pause() -> None:
    schedule = SaveSchedule(1, 10)
    schedule.changed(100)
    assert schedule.due() == 101
    schedule.changed(100.5)
    assert schedule.due() == 101.5


def test_a_typist_who_never_pauses_is_saved() -> None:
    schedule = SaveSchedule(1, 10)
    for tenths in range(200):
        schedule.changed(tenths / 10)
    assert schedule.due() == 10


def test_what_was_taken_is_not_due_again() -> None:
    schedule = SaveSchedule(1, 10)
    schedule.changed(5)
    schedule.taken()
    assert schedule.due() is None
    schedule.changed(50)
    assert schedule.due() == 51


gaps = st.floats(0, 20, allow_nan=False)


@given(st.floats(0.1, 5), st.floats(0.1, 30), st.lists(gaps, min_size=1, max_size=40))
def test_a_change_is_saved_after_its_pause_and_within_the_ceiling(
    delay: float, ceiling: float, gaps: list[float]
) -> None:
    schedule = SaveSchedule(delay, ceiling)
    now, unsaved = 0.0, []
    for gap in gaps:
        due = schedule.due()
        if due is not None and due <= now + gap:
            assert due <= unsaved[0] + ceiling
            assert due >= min(unsaved[-1] + delay, unsaved[0] + ceiling)
            schedule.taken()
            unsaved.clear()
        now += gap
        schedule.changed(now)
        unsaved.append(now)
    assert schedule.due() is not None


def test_the_ceiling_is_the_latest() -> None:
    schedule = SaveSchedule(1, 10)
    assert schedule.latest() is None
    schedule.changed(5)
    schedule.changed(7)
    assert schedule.latest() == 15


@given(st.lists(st.floats(0, 1e6, allow_nan=False)), st.integers(0, 10_000))
def test_saves_keep_a_distance_but_none_waits_too_long(took: list[float], waiting: int) -> None:
    pace = SavePace(within=10, share=0.25)
    for seconds in took:
        pace.took(seconds)
    interval = pace.interval(waiting)
    assert 0 < interval <= 0.4
    assert waiting * interval <= 10 * (1 + 1e-9)
