"""What the CRDT library might take long to merge is told from what it does not."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Doc, Text
from support.conflicts import (
    ATTACKS,
    FIRST,
    anchored,
    deletions,
    insertions,
    waiting_for_each_other,
)
from support.histories import edited_together
from support.hostile import fields
from support.yjs_bytes import edits

from jupyter_teleportal.core import crdt
from jupyter_teleportal.core.conflicts import Followers, Work, in_order
from jupyter_teleportal.core.crdt import UNTRIED_MAX_S, Door
from jupyter_teleportal.core.errors import ForeignBytes, Untried
from jupyter_teleportal.core.update_walk import Block, Blocks, read_state, read_update


@pytest.fixture(autouse=True)
def nothing_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have sent is not remembered, nor is it for them what these send."""
    monkeypatch.setattr(crdt, "_refused", type(crdt._refused)())


def plain(*updates: bytes) -> Doc:
    doc: Doc = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc


def work(update: bytes) -> Work:
    return Followers(lambda _: "source").note(in_order(read_update(update)))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    authors=st.integers(1, 6),
    rounds=st.integers(1, 12),
    edits=st.integers(1, 12),
    start=st.integers(0, 5),
)
def test_what_people_edit_at_the_same_time_is_let_in_whole(
    seed: int, authors: int, rounds: int, edits: int, start: int
):
    made = edited_together(random.Random(seed), authors, rounds, edits, start)
    whole = made.get_update()
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    # As it comes to somebody who has part of it, and has edited that.
    early = edited_together(random.Random(seed), authors, rounds // 2, edits, start)
    for update in (early.get_update(), whole):
        door.take(doc, update)
    assert str(doc.get("source", type=Text)) == str(made.get("source", type=Text))
    assert door.untried_s < UNTRIED_MAX_S


def test_what_one_person_writes_is_compared_with_little():
    made = edited_together(random.Random(1), authors=1, rounds=30, edits=20)
    assert work(made.get_update()).compared < 40


def test_keystrokes_where_nobody_else_types_are_not_dear():
    """Also where nothing may come in that has to be compared."""
    doc: Doc = Doc(client_id=7)
    door = Door(doc.get_state)
    door.take(doc, edited_together(random.Random(1), authors=2, rounds=100, edits=40).get_update())
    author = plain(doc.get_update())
    door.limited, door.untried_s = True, UNTRIED_MAX_S
    text = author.get("source", type=Text)
    sent: list[bytes] = []
    subscription = author.observe(lambda event: sent.append(event.update))
    for place in (len(text), 100, 0):
        for number, letter in enumerate("words"):
            text.insert(place + number, letter)
    author.unobserve(subscription)
    for update in sent:
        door.take(doc, update)
    assert str(doc.get("source", type=Text)) == str(text)
    assert door.untried_s < UNTRIED_MAX_S + 1e-3


@pytest.mark.parametrize("attack", ATTACKS)
def test_many_items_at_one_place_have_to_be_tried_first(attack: str):
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    untried = 0
    for update in ATTACKS[attack]:
        before = doc.get_state()
        for _ in range(2):  # of what was not let in, nothing is remembered
            try:
                door.take(doc, update)
            except Untried:
                untried += 1
                assert doc.get_state() == before
    assert untried >= 2


def test_what_deletions_have_cut_counts_as_well():
    """Two messages of 3 KB took 4 s."""
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    cuts = deletions(20_000)
    door.take(doc, anchored(40_001))
    for _ in range(2):
        door.allow(cuts)
        door.take(doc, cuts)
    with pytest.raises(Untried):
        door.take(doc, insertions(range(FIRST, FIRST + 300)))


def test_deletions_that_come_again_cut_nothing():
    """Whoever connects sends all that the document has."""
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.allow(deletions(20_000))
    for update in (anchored(40_001), deletions(20_000)):
        door.take(doc, update)
    door.tried([], full=False)
    for count in (20_000, 19_999):
        door.take(doc, deletions(count))
    assert door.untried_s == 0.0


def test_clients_that_wait_for_each_other_are_tried_or_refused():
    """From about 90,000 on the library overran its stack, which ended the server."""
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored(10))
    with pytest.raises(Untried):
        door.take(doc, waiting_for_each_other(15_000))
    began = time.thread_time()
    # Whoever asks about log entries is told, and goes on.
    assert door.is_dear(read_update(waiting_for_each_other(100_000)))
    door.limited = False
    with pytest.raises(ForeignBytes, match="wait for each other"):
        door.take(doc, waiting_for_each_other(100_000))
    door.limited = True
    assert time.thread_time() - began < 5
    door.take(doc, waiting_for_each_other(5_000))
    assert len(read_state(doc.get_state())) == 5_001


def test_many_that_wait_for_each_other_are_put_in_order_in_time():
    """It takes 0.05 s; it took 1 s, which grew with the square of their number."""
    blocks = read_update(waiting_for_each_other(20_000))
    began = time.thread_time()
    ordered = in_order(blocks)
    assert time.thread_time() - began < 0.5
    assert [block.client for block in ordered] == list(range(FIRST, FIRST + 20_000))


def test_what_was_tried_comes_in_whole():
    doc = plain(anchored())
    door = Door(doc.get_state, limited=True)
    update = insertions(range(FIRST, FIRST + 1_500))
    door.learn(read_update(anchored()))
    with pytest.raises(Untried):
        door.take(doc, update)
    door.tried([update], full=False)
    assert door.take(doc, update) is None
    assert len(read_state(doc.get_state())) == 1_501
    assert door.untried_s == 0.0
    # Once.
    with pytest.raises(Untried):
        door.take(doc, insertions(range(FIRST + 2_000, FIRST + 3_500)))


def test_many_small_ones_add_up():
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    door.take(doc, anchored())
    for client in range(FIRST, FIRST + 5_000):
        try:
            door.take(doc, insertions([client]))
        except Untried:
            break
    assert 500 < client - FIRST < 3_000
    # Where merging all of it takes long, whatever comes to that place is tried.
    door.tried([insertions([client])], full=True)
    door.take(doc, insertions([client]))
    with pytest.raises(Untried):
        door.take(doc, insertions([client + 1]))
    # What comes to another does not have to be.
    author: Doc = plain(doc.get_update())
    before = author.get_state()
    author.get("other", type=Text).insert(0, "words")
    door.take(doc, author.get_update(before))
    assert str(doc.get("other", type=Text)) == "words"


def test_a_door_without_a_limit_takes_all():
    doc: Doc = Doc()
    door = Door(doc.get_state)
    for update in (anchored(), insertions(range(FIRST, FIRST + 1_500))):
        door.take(doc, update)
    assert door.untried_s > UNTRIED_MAX_S


def test_what_was_not_applied_is_compared_when_it_comes_again(monkeypatch: pytest.MonkeyPatch):
    doc = plain(anchored())
    door = Door(doc.get_state)
    door.learn(read_update(anchored()))
    update = insertions(range(FIRST, FIRST + 1_500))

    class Picky:
        transaction = doc.transaction
        get_state = doc.get_state

        def apply_update(self, update: bytes) -> None:
            raise ValueError("not now")

    with pytest.raises(ForeignBytes):
        door.take(Picky(), update)  # type: ignore[arg-type]
    door.limited, door.untried_s = True, 0.0
    with pytest.raises(Untried):
        door.take(doc, update)


@pytest.mark.parametrize("seed", range(10))
def test_edits_of_all_kinds_are_let_in(seed: int):
    doc: Doc = Doc()
    door = Door(doc.get_state, limited=True)
    updates = list(edits(seed, 60))
    for update in updates:
        door.take(doc, update)
    assert read_state(doc.get_state()) == read_state(plain(*updates).get_state())
    assert door.untried_s < UNTRIED_MAX_S / 10


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_that_is_taken_over_knows_what_would_have_been_noted(seed: int):
    chance = random.Random(seed)
    noting, adopting = Followers(lambda _: "source"), Followers(lambda _: "source")
    clients = iter(range(2**40, 2**41))
    for update in edits(seed, 60):
        blocks = read_update(update)
        deleted = blocks.deleted
        copy = adopting.copy_for(blocks, deleted)
        note(copy, blocks)
        meanwhile = chance.random() < 0.3
        if meanwhile:
            another = read_update(inserted(next(clients)))
            for followers in (noting, adopting):
                note(followers, another)
        assert adopting.adopt(copy) == (not meanwhile)
        if meanwhile:
            note(adopting, blocks)
        note(noting, blocks)
        assert tables(adopting) == tables(noting)


def note(followers: Followers, blocks: Blocks) -> None:
    followers.note(in_order(blocks))
    followers.note_deleted(blocks.deleted)


def inserted(client: int) -> bytes:
    doc: Doc = Doc(client_id=client)
    doc.get("source", type=Text).insert(0, "x")
    return doc.get_update()


def tables(followers: Followers) -> dict[str, object]:
    kept = ("pieces", "longest", "_ends", "_cuts", "_starts", "_latest")
    runs = {client: start for client, start in followers._run_starts.items() if start}
    return {name: getattr(followers, name) for name in kept} | {"runs": runs}


def test_a_large_update_is_noted_once(monkeypatch: pytest.MonkeyPatch):
    notes: list[int] = []
    note_blocks = Followers.note

    def counted(followers: Followers, blocks: Sequence[Block]) -> Work:
        notes.append(len(blocks))
        return note_blocks(followers, blocks)

    monkeypatch.setattr(Followers, "note", counted)
    door, update = Door(), fields(10_000, 7)
    blocks = read_update(update)
    door.is_dear(blocks)
    door.sift(update, blocks, weighed=True)
    assert notes == [len(blocks)]
    assert door._followers.pieces == len(blocks)
