"""How much of a history is forgotten."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from jupyter_teleportal.core.envelopes import encode_payload
from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.values import ZERO_OFFSET, Entry, LogRead, LogSize, Scope
from jupyter_teleportal.sync.compaction import Compactor, Surplus, fold

TIMING = Timing(history_max_entries=20, history_max_bytes=1000, history_keep_s=100)


def history(sizes: list[int], step_ms: int = 1) -> list[Entry]:
    return [
        Entry(f"{1 + number * step_ms}-0", b"x" * size, "replica")
        for number, size in enumerate(sizes)
    ]


def excess(entries: list[Entry], checkpoint: str, timing: Timing, page: int | None = None) -> int:
    """How many of the oldest entries go, if they are read some at a time."""
    if not entries:
        return 0
    size = LogSize(
        len(entries),
        sum(len(entry.payload) for entry in entries),
        entries[0].offset,
        entries[-1].offset,
        0,
    )
    surplus = Surplus(size, checkpoint, timing)
    if not surplus.any:
        return 0
    step = page or len(entries)
    for start in range(0, len(entries), step):
        some = entries[start : start + step]
        if surplus.take(some) < len(some):
            break
    return surplus.taken


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
    assert excess(entries, checkpoint, TIMING, page=7) == cut
    if covered == len(entries):
        kept = sum(len(entry.payload) for entry in entries[cut:])
        assert len(entries) - cut <= 20
        assert kept <= 1000 or len(entries) - cut == 1


def test_one_large_entry_does_not_stay_because_the_next_one_is_small() -> None:
    entries = history([5000, 10])
    assert excess(entries, entries[-1].offset, TIMING) == 1


def compactor() -> Compactor:
    return Compactor(None, Scope("share", "room"), Timing(checkpoint_bytes=200_000))  # type: ignore[arg-type]


def test_a_large_entry_counts_as_soon_as_it_is_read_or_written() -> None:
    """It is announced without its size."""
    for told_first in (True, False):
        counting = compactor()
        if told_first:
            counting.appended("1-0", None)
        counting.appended("1-0", 150_000)
        if not told_first:
            counting.appended("1-0", None)
        assert not counting.due
        counting.appended("2-0", None)
        counting.read(LogRead("log", True, [Entry("2-0", bytes(60_000), "a")]))
        assert counting.due


def test_what_is_read_counts_with_its_size() -> None:
    for contiguous in (True, False):
        counting = compactor()
        counting.read(LogRead("log", contiguous, [Entry("1-0", bytes(200_000), "a")]))
        assert counting.due


def test_what_is_announced_counts_what_it_is_at_least() -> None:
    counting = compactor()
    for number in range(4):
        assert not counting.due
        counting.appended(f"{number}-0", None)
    assert counting.due


def test_nothing_is_remembered_beyond_what_makes_a_checkpoint_due() -> None:
    counting = compactor()
    for number in range(10_000):
        counting.appended(f"{number}-0", 1)
    assert len(counting._sizes) == Timing().checkpoint_entries
    counting.begun()
    assert not counting.due
    assert not counting.has_entries


def test_what_stands_for_the_forgotten_holds_nothing_deleted() -> None:
    doc: Doc[Any] = Doc()
    text = doc.get("source", type=Text)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for number in range(20):
        text += f"{number}" * 1000
        del text[:]
    text += "what is left"
    folded = fold(None, [encode_payload(update) for update in updates])
    assert folded is not None
    assert len(folded) < 1000
    again: Doc[Any] = Doc()
    again.apply_update(folded)
    assert str(again.get("source", type=Text)) == "what is left"
    # Whoever is behind, or ahead, reads on.
    behind: Doc[Any] = Doc()
    behind.apply_update(updates[0])
    behind.apply_update(folded)
    assert str(behind.get("source", type=Text)) == "what is left"
    text += ", and more"
    again.apply_update(updates[-1])
    assert str(again.get("source", type=Text)) == "what is left, and more"


def test_what_waits_for_something_that_is_missing_is_not_lost() -> None:
    doc: Doc[Any] = Doc()
    text = doc.get("source", type=Text)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for word in ("one ", "two ", "three"):
        text += word
    folded = fold(fold(None, [b"\x00" + updates[0]]), [b"\x00" + updates[2], b"garbage"])
    assert folded is not None
    again: Doc[Any] = Doc()
    again.apply_update(folded)
    again.apply_update(updates[1])
    assert str(again.get("source", type=Text)) == "one two three"
    assert fold(None, [b"garbage"]) is None


def test_pages_that_build_on_each_other_are_folded_one_after_the_other() -> None:
    doc: Doc[Any] = Doc()
    text = doc.get("source", type=Text)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for word in ("one ", "two ", "deleted " * 200, "three"):
        text += word
    del text[8:1608]
    text += " four"
    base = None
    for update in updates:
        base = fold(base, [encode_payload(update)])
    assert base is not None
    assert len(base) < 200
    again: Doc[Any] = Doc()
    again.apply_update(base)
    assert str(again.get("source", type=Text)) == "one two three four"


def test_what_comes_later_of_what_waits_is_folded_with_it() -> None:
    doc: Doc[Any] = Doc()
    text = doc.get("source", type=Text)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for word in ("one ", "two ", "three ", "four"):
        text += word
    del text[4:8]
    base = None
    for number in (3, 0, 2, 1, 4):
        base = fold(base, [encode_payload(updates[number])])
    assert base is not None
    again: Doc[Any] = Doc()
    again.apply_update(base)
    assert str(again.get("source", type=Text)) == "one three four"
    assert again.get_state() == doc.get_state()
