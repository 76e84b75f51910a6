"""What a browser is sent is as pycrdt has it, and what it has sent is made fewer only where it can
be read. What it may send is tested with the door (`test_crdt.py`)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import (
    Doc,
    Text,
    create_awareness_message,
    create_sync_message,
    create_update_message,
    handle_sync_message,
)
from support.yjs_bytes import HOSTILE, edits

from jupyter_teleportal.core.crdt import document
from jupyter_teleportal.core.messages import received, sync_message, update_in
from jupyter_teleportal.core.update_walk import (
    STEP2,
    UPDATE,
    read_message,
    read_state,
    read_typed,
    read_update,
)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_message_of_a_sync_step_is_pycrdts(size: int) -> None:
    doc: Doc = Doc(client_id=7)
    doc["text"] = Text("x" * size)
    update = doc.get_update()
    assert sync_message(UPDATE, update) == create_update_message(update)
    question = create_sync_message(Doc())
    assert sync_message(STEP2, update) == handle_sync_message(question[1:], doc)


def test_a_clients_updates_become_one() -> None:
    sent = list(edits(1, 9))
    messages = [create_update_message(update) for update in sent]
    awareness = create_awareness_message(b"\0")
    first, other, last = received([*messages[:5], awareness, *messages[5:]])
    assert other.message == awareness
    updates = [update_in(first.message), update_in(last.message)]
    one, all_of_them = document(*filter(None, updates)), document(*sent)
    assert str(one.get("source", type=Text)) == str(all_of_them.get("source", type=Text))
    assert read_state(one.get_state()) == read_state(all_of_them.get_state())


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "20,000 nested arrays"])
def test_what_nobody_should_send_is_merged_with_nothing(name: str) -> None:
    good = create_update_message(Doc({"text": Text("x")}, client_id=5).get_update())
    messages = [good, create_update_message(HOSTILE[name]), good]
    assert [one.message for one in received(messages)] == messages


def test_what_is_known_of_updates_that_became_one_is_what_the_one_holds() -> None:
    chance = random.Random(7)
    known = 0
    updates: list[bytes] = []
    for _ in range(300):
        docs = [Doc(client_id=number) for number in (5, 300)]
        updates.clear()
        for doc in docs:
            doc.observe(lambda event: updates.append(event.update))
        for _ in range(chance.randrange(2, 8)):
            writer = docs[chance.random() < 0.1]
            text = writer.get("source", type=Text)
            if len(text) > 2 and chance.random() < 0.2:
                del text[1:2]
            else:
                text.insert(chance.choice([0, len(text), len(text)]), chance.choice(["x", "yz"]))
        if chance.random() < 0.3:
            chance.shuffle(updates)
        (one,) = received([create_update_message(update) for update in updates])
        assert one.read is not None
        assert one.read.payload == update_in(one.message)
        if one.blocks is not None:
            known += 1
            assert list(one.blocks) == read_update(one.read.payload)
    assert 50 < known < 300


@given(
    client=st.integers(1, 2**32 - 1),
    before=st.integers(1, 70_000),
    texts=st.lists(st.text(st.characters(max_codepoint=127), min_size=1), min_size=1, max_size=80),
)
def test_what_is_typed_on_is_one_update(client: int, before: int, texts: list[str]) -> None:
    there, *updates = typed(client, ["." * before, *texts])
    one = read_typed(updates)
    assert one is not None or any(len(text) > 127 for text in texts)
    if one is not None:
        assert document(there, one[0]).get_update() == document(there, *updates).get_update()
        assert one[1] == read_update(one[0])


@pytest.mark.parametrize(
    "order", [[1, 0], [0, 0], [0, 2], [0, 1, 1], [0, 3], []], ids=lambda order: f"order {order}"
)
def test_what_is_not_typed_on_is_left_to_the_library(order: list[int]) -> None:
    updates = [*typed(5, ["123", "a", "bc", "d"]), *typed(6, ["12345", "x"])]
    del updates[0], updates[3]
    assert read_typed([updates[number] for number in order]) is None


def typed(client: int, texts: list[str]) -> Iterator[bytes]:
    """What typing these texts makes, one after the other."""
    doc: Doc = Doc(client_id=client)
    source = doc.get("source", type=Text)
    made: list[bytes] = []
    subscription = doc.observe(lambda event: made.append(event.update))
    for text in texts:
        source += text
        yield made.pop()
    doc.unobserve(subscription)


def test_a_clients_messages_are_read_once() -> None:
    question, garbage = create_sync_message(Doc()), b"\x00\x02\x09\x00"
    update = create_update_message(Doc({"text": Text("x")}).get_update())
    found = received([question, garbage, update, b"", update])
    assert [one.message for one in found] == [question, garbage, update, b"", update]
    assert [one.read for one in found] == [
        read_message(question), None, read_message(update), None, read_message(update)
    ]  # fmt: skip
    assert received([]) == []
