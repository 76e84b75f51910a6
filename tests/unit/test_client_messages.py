"""What a browser is sent is as pycrdt has it, and what it has sent is made fewer only where it can
be read. What it may send is tested with the door (`test_crdt.py`)."""

from __future__ import annotations

import pytest
from pycrdt import (
    Doc,
    Text,
    create_awareness_message,
    create_sync_message,
    create_update_message,
    handle_sync_message,
)
from support.yjs_bytes import HOSTILE, edits

from jupyter_teleportal.client_messages import sync_message, together, update_in
from jupyter_teleportal.crdt import document
from jupyter_teleportal.update_walk import STEP2, UPDATE, read_state


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
    first, other, last = together([*messages[:5], awareness, *messages[5:]], foreign=True)
    assert other == awareness
    updates = [update_in(first), update_in(last)]
    one, all_of_them = document(*filter(None, updates)), document(*sent)
    assert str(one.get("source", type=Text)) == str(all_of_them.get("source", type=Text))
    assert read_state(one.get_state()) == read_state(all_of_them.get_state())


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "20,000 nested arrays"])
def test_what_nobody_should_send_is_merged_with_nothing(name: str) -> None:
    good = create_update_message(Doc({"text": Text("x")}, client_id=5).get_update())
    messages = [good, create_update_message(HOSTILE[name]), good]
    assert together(messages, foreign=True) == messages
