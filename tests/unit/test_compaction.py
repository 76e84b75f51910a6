"""How much of a history is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.compaction import excess
from jupyter_teleportal.model import ZERO_OFFSET, Entry
from jupyter_teleportal.settings import Timing

TIMING = Timing(history_max_entries=20, history_max_bytes=1000, history_keep_s=100)


def history(sizes: list[int], step_ms: int = 1) -> list[Entry]:
    return [
        Entry(f"{1 + number * step_ms}-0", b"x" * size, "replica")
        for number, size in enumerate(sizes)
    ]


def test_what_is_within_bounds_stays() -> None:
    entries = history([10] * 20)
    assert excess(entries, entries[-1].offset, TIMING) == 0
    assert excess([], ZERO_OFFSET, TIMING) == 0


def test_half_stays_of_too_many_entries() -> None:
    entries = history([1] * 21)
    assert len(entries) - excess(entries, entries[-1].offset, TIMING) == 10


def test_half_stays_of_too_many_bytes() -> None:
    entries = history([200] * 6)
    assert len(entries) - excess(entries, entries[-1].offset, TIMING) == 3


def test_what_is_too_old_goes_and_no_more() -> None:
    entries = history([1] * 10, step_ms=20_000)
    assert len(entries) - excess(entries, entries[-1].offset, TIMING) == 6


def test_what_the_checkpoint_does_not_stand_for_stays() -> None:
    entries = history([1] * 40)
    assert excess(entries, entries[4].offset, TIMING) == 5
    assert excess(entries, ZERO_OFFSET, TIMING) == 0


@given(
    st.lists(st.integers(min_value=0, max_value=1500), min_size=1, max_size=60),
    st.integers(min_value=1, max_value=50_000),
    st.integers(min_value=0, max_value=60),
)
def test_the_last_entry_and_the_uncovered_ones_always_stay(
    sizes: list[int], step_ms: int, covered: int
) -> None:
    entries = history(sizes, step_ms)
    covered = min(covered, len(entries))
    checkpoint = entries[covered - 1].offset if covered else ZERO_OFFSET
    cut = excess(entries, checkpoint, TIMING)
    assert 0 <= cut <= min(covered, len(entries) - 1)
