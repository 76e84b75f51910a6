"""The door: what documents really produce comes in, and whatever else is refused in words, before
the library sees it and in no time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_ydoc import YNotebook
from pycrdt import (
    Array,
    Awareness,
    Doc,
    Map,
    Text,
    create_awareness_message,
    create_sync_message,
    create_update_message,
    get_state,
    merge_updates,
)
from support import yjs_bytes
from support.hostile import updates
from support.yjs_bytes import (
    HOSTILE,
    array,
    blocks,
    edits,
    mutated,
    nested_arrays,
    number,
    string,
    text,
)

from jupyter_teleportal.core import crdt, update_walk
from jupyter_teleportal.core.crdt import Door, apply, check_update, document
from jupyter_teleportal.core.errors import DocumentBroken, ForeignBytes
from jupyter_teleportal.core.places import MAX_NESTING
from jupyter_teleportal.core.update_walk import (
    MAX_VALUE_NESTING,
    read_awareness,
    read_message,
    read_save_request,
    read_state,
    read_update,
)

FAR_TOO_LONG_S = 1.0
"""What takes so long is not walked over once. A walk over the largest takes some 0.1 s."""


# -- updates -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_what_documents_produce_is_let_in_update_by_update_and_as_one(seed: int) -> None:
    door, updates = Door(), list(edits(seed, 40))
    for update in updates:
        door.check(update)
        check_update(update)
    check_update(merge_updates(*updates))


@pytest.mark.parametrize("seed", range(12, 16))
def test_the_order_in_which_updates_come_is_nobodys_fault(seed: int) -> None:
    door, updates = Door(), list(edits(seed, 40))
    random.Random(seed).shuffle(updates)
    for update in updates:
        door.check(update)


REAL = [
    line.split()
    for line in (Path(yjs_bytes.__file__).parent / "real_yjs.txt").read_text().splitlines()
    if not line.startswith("#")
]


def test_what_yjs_produces_is_let_in() -> None:
    read = {"update": check_update, "state": read_state, "awareness": read_awareness}
    for kind, data in REAL:
        read[kind](bytes.fromhex(data))
    assert {kind for kind, _ in REAL} == set(read)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_nobody_should_send_is_refused_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(ForeignBytes):
        check_update(HOSTILE[name])
    assert time.process_time() - began < FAR_TOO_LONG_S


@pytest.mark.parametrize("seed", range(4))
def test_an_update_that_is_cut_off_is_refused(seed: int) -> None:
    *_, update = edits(seed, 12)
    for end in range(len(update)):
        with pytest.raises(ForeignBytes):
            read_update(update[:end])


@given(st.binary())
def test_anything_else_raises_nothing_else(data: bytes) -> None:
    for read in (read_update, read_state, read_awareness, read_message):
        with contextlib.suppress(ForeignBytes):
            read(data)


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_a_changed_update_raises_nothing_else(seed: int) -> None:
    chance, door = random.Random(seed), Door()
    for update in edits(seed % 50, 6):
        with contextlib.suppress(ForeignBytes):
            door.check(mutated(chance, update))


@given(st.integers(0, 10**6))
def test_what_typing_makes_is_read_as_any_other_update(seed: int) -> None:
    chance = random.Random(seed)
    client, clock = 2 ** chance.randrange(49) + seed, 2 ** chance.randrange(28)
    typed = "".join(chance.choices("ab c\0\x01\x84\n", k=chance.choice((1, 1, 3, 127, 128))))
    follows = (chance.choice((client, 5)), clock - 1)
    update = blocks(client, clock, string(typed, beside=follows))
    walked = [update, mutated(chance, update), update + b"\0", update[:-1]]
    for data in walked:
        assert _read(data) == _read(data, quickly=False)


def _read(update: bytes, *, quickly: bool = True) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if not quickly:
            patch.setattr(update_walk, "_TYPED", re.compile(rb"(?!)"))
        try:
            return read_update(update)
        except ForeignBytes as error:
            return str(error)


def test_a_notebook_is_let_in() -> None:
    notebook = YNotebook()
    cells = [
        {
            "id": str(n),
            "cell_type": "code",
            "source": "x = '日本🎉'\n",
            "metadata": {"a": {"b": [1.5]}},
        }
        | {
            "execution_count": n,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "y"}],
        }
        for n in range(20)
    ]
    notebook.set({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    check_update(notebook.ydoc.get_update())


@pytest.mark.parametrize(("levels", "refused"), [(MAX_NESTING, False), (MAX_NESTING + 1, True)])
def test_shared_types_lie_in_each_other_up_to_a_limit(levels: int, refused: bool) -> None:
    with pytest.raises(ForeignBytes, match="levels deep") if refused else contextlib.nullcontext():
        check_update(nested_arrays(levels))


@pytest.mark.parametrize(
    ("levels", "refused"), [(MAX_VALUE_NESTING, False), (MAX_VALUE_NESTING + 1, True)]
)
def test_values_are_nested_up_to_a_limit(levels: int, refused: bool) -> None:
    with pytest.raises(ForeignBytes, match="levels deep") if refused else contextlib.nullcontext():
        check_update(yjs_bytes.nested_value(levels))


def test_deletions_of_nothing_are_let_in() -> None:
    update = b"\0\1\5\0"
    check_update(update)
    document(update, Doc({"source": Text("a")}, client_id=5).get_update(), update)


# -- many updates that each add a level ----------------------------------------------------


def check_all(door: Door, updates: list[bytes]) -> None:
    for update in updates:
        door.check(update)


def one_by_one(levels: int) -> list[bytes]:
    first, *others = [array(), *(array(within=(5, clock)) for clock in range(levels - 1))]
    return [blocks(5, 0, first), *(blocks(5, clock, one) for clock, one in enumerate(others, 1))]


def by_many_clients(levels: int) -> list[bytes]:
    inner = [blocks(6 + n, 0, array(within=(5 + n, 0))) for n in range(levels - 1)]
    return [blocks(5, 0, array()), *inner]


def beside_something(levels: int) -> list[bytes]:
    """Each level is an array beside a value, so that only the value tells where it lies."""
    found = [blocks(5, 0, array())]
    for level in range(levels - 1):
        within = number(5) + number(2 * level)
        value = b"\x08\0" + within + b"\x01\x7e"
        found.append(blocks(5, 2 * level + 1, value, array(beside=(5, 2 * level + 1))))
    return found


WAYS = [one_by_one, by_many_clients, beside_something]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["outermost first", "innermost first", "shuffled", "as one"])
def test_levels_that_come_one_by_one_count_together(way: Any, order: str) -> None:
    def sent(levels: int) -> list[bytes]:
        updates: list[bytes] = way(levels)
        if order == "innermost first":
            updates.reverse()
        elif order == "shuffled":
            random.Random(7).shuffle(updates)
        return [merge_updates(*updates)] if order == "as one" else updates

    check_all(Door(), sent(MAX_NESTING))
    with pytest.raises(ForeignBytes, match="levels deep"):
        check_all(Door(), sent(MAX_NESTING + 1))


def test_of_what_was_refused_nothing_is_remembered() -> None:
    door = Door()
    for update in one_by_one(MAX_NESTING):
        door.check(update)
    bad = blocks(5, MAX_NESTING, string("a", beside=(5, 3)), array(within=(5, MAX_NESTING - 1)))
    with pytest.raises(ForeignBytes, match="levels deep"):
        door.check(bad)
    # The same numbers, elsewhere.
    door.check(blocks(5, MAX_NESTING, string("a"), array()))


def test_an_item_is_in_one_place() -> None:
    door = Door()
    door.check(blocks(5, 0, string("ab"), array()))
    with pytest.raises(ForeignBytes, match="two places"):
        door.check(blocks(5, 1, b"\x08\x01" + text("cells") + b"\x01\x7e"))
    door.check(blocks(5, 1, string("b", beside=(5, 0))))


def test_after_what_was_refused_its_client_begins_anew() -> None:
    door = Door()
    with pytest.raises(ForeignBytes, match="two places"):
        door.check(
            blocks(
                5,
                0,
                string("a"),
                b"\x08\x01" + text("cells") + b"\x01\x7e",
                b"\xc4" + number(5) + number(0) + number(5) + b"\1" + text("b"),
            )
        )
    door.check(blocks(5, 0, string("a"), string("b", beside=(5, 0))))


def test_what_is_typed_on_lies_where_the_first_of_it_does() -> None:
    door = Door()
    door.check(blocks(5, 0, string("ab"), array()))
    for clock in range(3, 9):
        # In the array, not beside it.
        first = b"\x08\0" + number(5) + number(2) + b"\x01\x7e"
        door.check(blocks(5, clock, first if clock == 3 else string("c", beside=(5, clock - 1))))
    with pytest.raises(ForeignBytes, match="two places"):
        door.check(blocks(5, 9, b"\xc4" + number(5) + number(8) + number(5) + b"\1" + text("d")))
    # What was typed before one that is refused is not remembered either.
    bad = b"\xc4" + number(5) + number(9) + number(5) + b"\1" + text("e")
    with pytest.raises(ForeignBytes, match="two places"):
        door.check(blocks(5, 9, string("d", beside=(5, 8)), bad))
    door.check(blocks(5, 9, string("d", beside=(5, 1))))


def test_items_beside_each_other_in_a_circle_are_refused() -> None:
    circle = [blocks(5 + n, 0, string("a", beside=(5 + (n + 1) % 3, 0))) for n in range(3)]
    with pytest.raises(ForeignBytes, match="circle"):
        check_all(Door(), [*circle, blocks(9, 0, array(beside=(5, 0)))])


# -- what builds on what has not come ------------------------------------------------------


@pytest.mark.parametrize("seed", range(20, 32))
def test_in_whatever_order_updates_come_the_document_becomes_the_same(seed: int) -> None:
    updates = list(edits(seed, 30))
    inorder = document(*updates)
    random.Random(seed).shuffle(updates)
    shuffled = document(*updates)
    assert read_state(shuffled.get_state()) == read_state(inorder.get_state())
    for doc in (shuffled, inorder):
        doc.get("source", type=Text)
        doc.get("cells", type=Array)
    assert str(shuffled["source"]) == str(inorder["source"])
    assert len(shuffled["cells"]) == len(inorder["cells"])


@pytest.mark.parametrize("seed", range(6))
def test_real_updates_in_their_order_lack_nothing(seed: int) -> None:
    doc: Doc = Doc()
    door = Door()
    for update in edits(seed, 40):
        part, lacks = door.sift(update)
        if lacks is not None:  # one of three replicas has not been told yet
            continue
        assert part == update
        door.apply(doc, part)
    whole = doc.get_update()
    assert Door().sift(whole) == (whole, None)


def test_of_what_lacks_something_the_rest_is_taken() -> None:
    doc: Doc = Doc()
    door = Door(doc.get_state)
    merged = merge_updates(
        blocks(5, 0, string("ab")),
        blocks(5, 3, string("x", beside=(5, 2))),
        blocks(6, 0, string("y", beside=(5, 1)), string("z", beside=(9, 4))),
        blocks(7, 0, b"\0\2", string("w", beside=(5, 0))),
    )
    assert door.take(doc, merged) in ((5, 2), (9, 4))
    assert read_state(doc.get_state()) == {5: 2, 6: 1, 7: 3}
    assert doc.get_update() == document(doc.get_update()).get_update()  # nothing waits in there
    # What is there already is no gap, however it is written.
    assert door.take(doc, blocks(5, 2, string("c", beside=(5, 1)))) is None
    assert door.take(doc, blocks(9, 0, string("12345"))) is None
    assert door.take(doc, merged) is None
    assert read_state(doc.get_state()) == {5: 4, 6: 2, 7: 3, 9: 5}


def test_what_waits_for_each_other_by_turns_is_complete() -> None:
    update = merge_updates(
        blocks(5, 0, string("a"), string("b", beside=(6, 0)), string("c", beside=(6, 1))),
        blocks(6, 0, string("d", beside=(5, 0)), string("e", beside=(5, 1))),
    )
    assert Door().sift(update) == (update, None)


def test_what_waits_for_each_other_in_a_circle_is_never_taken() -> None:
    update = merge_updates(
        blocks(5, 0, string("a", beside=(6, 0))), blocks(6, 0, string("d", beside=(5, 0)))
    )
    part, lacks = Door().sift(update)
    assert (part, lacks) in ((b"\0\0", (5, 0)), (b"\0\0", (6, 0)))
    with pytest.raises(ForeignBytes, match="later"):
        Door().sift(blocks(5, 0, string("a", beside=(5, 3))))


def test_what_the_server_has_written_itself_is_known() -> None:
    doc = Doc({"source": Text("own")}, client_id=4)
    door = Door(doc.get_state)
    assert door.take(doc, blocks(5, 0, string("!", beside=(4, 2)))) is None
    assert str(doc.get("source", type=Text)) == "own!"


def test_a_large_forgery_is_sifted_in_no_time() -> None:
    """Each client's only item waits for the one after it, and the last for what never comes."""
    lists = [
        b"\x01" + number(client) + b"\0" + string("a", beside=(client + 1, 0))
        for client in range(10_000, 0, -1)
    ]
    update = number(len(lists)) + b"".join(lists) + b"\0"
    began = time.process_time()
    part, lacks = Door().sift(update)
    assert time.process_time() - began < FAR_TOO_LONG_S
    assert (part, lacks) == (b"\0\0", (10_001, 0))


# -- the library ---------------------------------------------------------------------------


def in_a_process_of_its_own(script: str) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths, "RUST_BACKTRACE": "0"},
    )


@pytest.mark.parametrize(
    "update", ["nested_arrays(MAX_NESTING)", "nested_value(MAX_VALUE_NESTING)"]
)
def test_the_library_bears_what_is_within_the_limits(update: str) -> None:
    script = f"""
import threading
from pycrdt import *
from support.yjs_bytes import *
from jupyter_teleportal.core.places import MAX_NESTING
from jupyter_teleportal.core.update_walk import MAX_VALUE_NESTING
def use():
    for doc in (Doc(), Doc()):
        cells = doc.get("cells", type=Array)
        doc.observe(lambda event: event.update)
        cells.observe_deep(lambda events: None)
        doc.apply_update({update})
        cells.to_py()
        Doc().apply_update(doc.get_update())
        del cells[0]
        merge_updates({update}, doc.get_update())
use()
threading.stack_size(256 * 1024)
thread = threading.Thread(target=use)
thread.start(); thread.join()
print("well")
"""
    done = in_a_process_of_its_own(script)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr[-2000:]


def a_document_of(client: int) -> Doc:
    return Doc({"source": Text("a")}, client_id=client)


def test_panics_and_errors_of_the_library_become_one_error() -> None:
    with pytest.raises(DocumentBroken, match="CRDT library"):
        apply(a_document_of(5), HOSTILE["a list of no blocks"])
    with pytest.raises(ForeignBytes) as caught:
        apply(Doc(), b"\x07")
    assert not isinstance(caught.value, DocumentBroken)
    with pytest.raises(ForeignBytes):
        crdt.merge([b"\x07", b"\x07"])
    with pytest.raises(ForeignBytes):
        crdt.state_of(b"\x07")


def test_an_update_on_which_the_library_has_failed_is_refused_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crdt, "_refused", type(crdt._refused)())
    monkeypatch.setattr(crdt, "_REMEMBERED", 2)
    monkeypatch.setattr(crdt, "read_update", lambda update: [])
    bad = [b"\x01\x00" + bytes((client,)) + b"\x00\x00" for client in range(3)]
    for client, update in enumerate(bad):
        Door().check(update)
        with pytest.raises(DocumentBroken):
            apply(a_document_of(client), update)
    Door().check(bad[0])  # only the latest are remembered
    for update in bad[1:]:
        with pytest.raises(ForeignBytes, match="before"):
            Door().check(update)


def test_a_document_of_foreign_updates_holds_them_or_there_is_none() -> None:
    good = Doc({"text": Text("words")}).get_update()
    assert str(document(good).get("text", type=Text)) == "words"
    for bad in (HOSTILE["a list of no blocks"], b"\x01", nested_arrays(MAX_NESTING + 1)):
        with pytest.raises(ForeignBytes):
            document(good, bad)


# -- state vectors, awareness, messages ----------------------------------------------------


def test_a_state_vector_comes_back() -> None:
    doc: Doc = Doc({"cells": Array([1, Map({"a": Text("b")})])}, client_id=2**52)
    assert read_state(doc.get_state()) == {2**52: 4}
    assert read_state(get_state(doc.get_update())) == {2**52: 4}
    assert read_state(b"\0") == {}


@pytest.mark.parametrize(
    "state",
    [
        b"", b"\x01", b"\x01\x05", b"\0\0", b"\xff" * 160_000, number(2**32) + b"\x05\x05",
        b"\x02\x05\x01\x05\x01", b"\x01\x05" + number(2**31), b"\x01" + number(2**53) + b"\x01",
    ],
)  # fmt: skip
def test_what_is_no_state_vector_is_refused_at_once(state: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ForeignBytes):
        read_state(state)
    assert time.process_time() - began < FAR_TOO_LONG_S


def an_awareness_update(*states: str, clock: int = 1) -> bytes:
    parts = (number(7 + n) + number(clock) + text(state) for n, state in enumerate(states))
    return number(len(states)) + b"".join(parts)


def test_awareness_comes_back() -> None:
    state = {"user": {"name": "Zoë"}, "cursors": [{"head": {"a": "[[[["}}]}
    assert read_awareness(an_awareness_update(json.dumps(state), "null")) == {7: state, 8: None}
    awareness = Awareness(Doc(client_id=7))
    assert crdt.apply_awareness(awareness, an_awareness_update('{"a":1}'), "me") == {7: {"a": 1}}


@pytest.mark.parametrize(
    "update",
    [
        an_awareness_update(*states)
        for states in [
            ("[1]",), ("1",), ('"x"',), ("true",), ("{",), ("",), ("NaN",), ('{"a":NaN}',),
            ('{"a":-Infinity}',), ("[" * 100_000,), ('{"a":' * 100_000,), ("9" * 100_000,),
            ('{"a":"' + "x" * 2**20 + '"}',), ("{}", "[1]"),
        ]
    ]
    + [
        b"", b"\x01", b"\xff" * 160_000, an_awareness_update("{}") + b"\0",
        number(2**40) + an_awareness_update("{}"), an_awareness_update("{}", clock=2**31),
        an_awareness_update("{}")[:-1], b"\x02" + 2 * an_awareness_update("{}")[1:],
        b"\x01\x07\x01" + text(b"\xff\xfe"),
    ],
)  # fmt: skip
def test_what_is_no_awareness_is_refused_at_once(update: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ForeignBytes):
        read_awareness(update)
    assert time.process_time() - began < FAR_TOO_LONG_S


def test_a_message_is_taken_apart() -> None:
    doc: Doc = Doc({"text": Text("x" * 300)}, client_id=7)
    assert read_message(create_sync_message(doc)) == (0, 0, doc.get_state())
    assert read_message(create_update_message(doc.get_update())) == (0, 2, doc.get_update())
    assert read_message(create_awareness_message(b"\0")) == (1, -1, b"\0")
    assert read_message(b"\x02\x04save\x81\x01") == (2, -1, b"")
    assert read_save_request(b"\x02\x04save\x81\x01") == 129
    assert read_save_request(b"\x02\x01x") is None
    assert read_message(b"\x7d\x03abc") == (125, -1, b"")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "empty"),
        ("text", "text"),
        (b"\0", "cut off"),
        (b"\0\x02\x05abc", "cut off"),
        (b"\0\x02\x02abc", "1 bytes follow"),
        (b"\0\x03\0", "unknown sync step 3"),
        (b"\x80\0\x02\x02\0\0", "more bytes than it needs"),
        (b"\0\x82\0\x02\0\0", "unknown sync step"),
        (b"\x01\x05a", "cut off"),
        (b"\x02\x05a", "cut off"),
        (b"\x02\x01\xff", "UTF-8"),
        (b"\x02\x04save", "cut off"),
        (b"\x02\x04save" + b"\xff" * 160_000, "ten bytes"),
        (b"\xff" * 160_000, "ten bytes"),
        (b"\0\x02" + b"\xff" * 160_000, "ten bytes"),
    ],
)
def test_the_reason_why_a_message_is_refused_is_named(message: object, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(ForeignBytes, match=reason):
        read_message(message)
    assert time.process_time() - began < FAR_TOO_LONG_S


def test_many_updates_are_merged_in_no_time() -> None:
    """A flood of small entries in a log: the library takes four times as long for twice as many."""
    many = updates(20_000)
    began = time.process_time()
    merged = crdt.merge(many)
    assert time.process_time() - began < 1.0
    doc: Doc = Doc()
    doc.apply_update(merged)
    assert str(doc.get("source", type=Text)) == "x" * len(many)
