"""What is remembered of where items lie is the same, however many blocks come at once."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.histories import edited_together
from support.hostile import authors, fields
from support.yjs_bytes import as_one, edits, forged

from jupyter_teleportal.core.completeness import _reach, _reach_alone
from jupyter_teleportal.core.conflicts import in_order
from jupyter_teleportal.core.errors import ForeignBytes
from jupyter_teleportal.core.places import Places
from jupyter_teleportal.core.update_walk import Block, read_update


class OneByOne(Places):
    """Takes no shorter way."""

    def _go_on(self, blocks: Sequence[Block]) -> bool:
        return False

    def _note_all(self, blocks: Sequence[Block], undo: Any) -> None:
        for block in blocks:
            self._note(block, undo)


def remembered(places: Places) -> dict[str, Any]:
    runs = {
        client: (runs.starts, runs.places, runs.end)
        for client, runs in places._runs.items()
        if runs.end
    }
    awaited = {client: there for client, there in places._awaited.items() if there}
    return copy.deepcopy({"runs": runs, "awaited": awaited})


def updates(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    made = list(edits(seed, 60))
    yield from made[:20]
    yield as_one(made)
    yield fields(50, 7)
    yield authors(50, 1000)
    yield authors(50, 1020)
    yield fields(80, 7)
    for _ in range(100):
        yield forged(chance)
    chance.shuffle(made)
    yield from made


@pytest.mark.parametrize("seed", range(10))
def test_the_short_ways_lead_to_the_same(seed: int) -> None:
    short, long = Places(), OneByOne()
    for update in updates(seed):
        try:
            blocks = read_update(update)
        except ForeignBytes:
            continue
        said = []
        for places in (short, long):
            before = remembered(places)
            try:
                places.admit(blocks)
                said.append("")
            except ForeignBytes as error:
                said.append(str(error))
                assert remembered(places) == before
        assert said[0] == said[1]
        assert remembered(short) == remembered(long)


@pytest.mark.parametrize("seed", range(10))
def test_what_can_be_taken_is_the_same(seed: int) -> None:
    known: dict[int, int] = {}
    for update in updates(seed):
        try:
            blocks = read_update(update)
            whole = _reach(blocks, known)
        except ForeignBytes:
            continue
        if (alone := _reach_alone(blocks, known)) is not None:
            assert (alone.ends, alone.lacks) == (whole.ends, whole.lacks)
        known.update(whole.ends)


def test_many_blocks_that_are_refused_leave_nothing() -> None:
    places = Places()
    places.admit(read_update(fields(3, 7)))
    places.admit(read_update(authors(3, 100)))
    before = remembered(places)
    blocks = [*read_update(fields(100, 7)), *read_update(authors(100, 100))]
    bad = Block(300, 0, 1, False, (100, 0), (7, 0), None, b"")
    with pytest.raises(ForeignBytes, match="two places"):
        places.admit([*blocks, bad])
    assert remembered(places) == before
    alone = [block for block in blocks if block.client == 7]
    nowhere = Block(7, 100, 1, False, None, None, "source", b"")
    beside = Block(7, 101, 1, False, (7, 100), (7, 99), None, b"")
    with pytest.raises(ForeignBytes, match="two places"):
        places.admit([*alone, nowhere, beside])
    assert remembered(places) == before


@pytest.mark.parametrize("seed", range(4))
def test_what_several_have_edited_together_for_long_is_let_in_at_once(seed: int) -> None:
    doc = edited_together(random.Random(seed), authors=3 + seed)
    blocks = read_update(doc.get_update())
    places = Places()
    places.admit(blocks)
    assert not remembered(places)["awaited"]
    came: dict[int, int] = {}
    for block in in_order(blocks):
        for item in (block.left, block.right):
            assert item is None or item[1] < came.get(item[0], 0)
        came[block.client] = block.clock + block.length
