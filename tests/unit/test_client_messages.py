"""What a browser sends is whole, or it is refused with the reason."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import (
    Awareness,
    Doc,
    Encoder,
    Text,
    create_awareness_message,
    create_sync_message,
    create_update_message,
    handle_sync_message,
)

from jupyter_teleportal.client_messages import STEP2, UPDATE, check_message, sync_message
from jupyter_teleportal.errors import CodecError


def good_messages() -> list[bytes]:
    doc: Doc = Doc(client_id=7)
    doc["text"] = Text("hello")
    awareness = Awareness(doc)
    awareness.set_local_state({"user": {"name": "Zoë"}})
    raw = Encoder()
    raw.write_var_uint(2)
    raw.write_var_string("save")
    return [
        create_sync_message(doc),
        create_update_message(doc.get_update()),
        create_awareness_message(awareness.encode_awareness_update([doc.client_id])),
        raw.to_bytes() + b"\x01",
        b"\x7d\x03abc",
        b"\x03",
    ]


@pytest.mark.parametrize("message", good_messages())
def test_what_a_browser_sends_is_let_through(message: bytes) -> None:
    check_message(message)


@pytest.mark.parametrize("message", good_messages()[:3])
def test_what_is_cut_off_is_refused(message: bytes) -> None:
    for end in range(len(message)):
        with pytest.raises(CodecError):
            check_message(message[:end])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "empty"),
        ("text", "text"),
        (b"\x00", "cut off"),
        (b"\x00\x02\xff\xff\xff\xff\x0f", "cut off"),
        (b"\x00\x07x", "sync step 7"),
        (b"\x01\x04\x01\x01\x01\x00", "cannot be read"),
        (b"\x01\x05\x01\x01\x01\x01\xff", "cannot be read"),
        (b"\x01\x02\x05\x01", "cut off"),
    ],
)
def test_the_reason_is_named(message: object, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        check_message(message)


@given(st.binary())
def test_anything_else_raises_nothing_else(message: bytes) -> None:
    with contextlib.suppress(CodecError):
        check_message(message)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_message_of_a_sync_step_is_pycrdts(size: int) -> None:
    doc: Doc = Doc(client_id=7)
    doc["text"] = Text("x" * size)
    update = doc.get_update()
    assert sync_message(UPDATE, update) == create_update_message(update)
    question = create_sync_message(Doc())
    assert sync_message(STEP2, update) == handle_sync_message(question[1:], doc)
