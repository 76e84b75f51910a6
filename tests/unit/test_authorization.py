"""What each message needs, and what becomes of a client's rights."""

from __future__ import annotations

import itertools

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
)

from jupyter_teleportal.core.authorization import (
    NONE,
    READ,
    WRITE,
    Rights,
    allows,
    needed_right,
    next_question_s,
    rights_after,
)

EDITED: Doc = Doc({"source": Text("x")})
EMPTY = b"\x00\x00"
AWARENESS = Awareness(EDITED)
AWARENESS.set_local_state({})


def save() -> bytes:
    encoder = Encoder()
    encoder.write_var_uint(2)
    encoder.write_var_string("save")
    encoder.write_var_uint(1)
    return encoder.to_bytes()


MESSAGES = {
    "sync step 1": (create_sync_message(EDITED), READ),
    "awareness": (
        create_awareness_message(AWARENESS.encode_awareness_update([EDITED.client_id])),
        READ,
    ),
    "who is there?": (b"\x03", READ),
    "empty step 2": (b"\x00\x01\x02" + EMPTY, READ),
    "empty update": (b"\x00\x02\x02" + EMPTY, READ),
    "step 2": (b"\x00\x01" + create_update_message(EDITED.get_update())[2:], WRITE),
    "update": (create_update_message(EDITED.get_update()), WRITE),
    # A length in more bytes than it needs, and a kind: nobody knows who reads what.
    "long length": (b"\x00\x02\x82\x00" + EMPTY, WRITE),
    "long kind": (b"\x80\x00\x00\x01\x00", WRITE),
    "unknown sync step": (b"\x00\x03", WRITE),
    "cut off": (b"\x00", WRITE),
    "save": (save(), WRITE),
    "unknown": (b"\x63", WRITE),
    "nothing": (b"", WRITE),
}


@pytest.mark.parametrize(("message", "right"), MESSAGES.values(), ids=MESSAGES)
def test_what_a_message_needs(message: bytes, right: str) -> None:
    assert needed_right(message) == right
    assert allows(Rights(read=True, write=True), message)
    assert allows(Rights(read=True), message) == (right == READ)
    assert not allows(NONE, message)


@pytest.mark.parametrize(
    ("before", "known", "read", "write"),
    list(
        itertools.product(
            (NONE, Rights(read=True), Rights(read=True, write=True)), *[(None, False, True)] * 3
        )
    ),
)
def test_rights_after_asking(
    before: Rights, known: bool | None, read: bool | None, write: bool | None
) -> None:
    after = rights_after(before, known=known, read=read, write=write)
    assert after.read >= after.write  # who may not read writes nothing
    if known is False:
        assert after == NONE
        return
    assert after.read == (before.read if read is None else read)
    assert after.write == (after.read and (before.write if write is None else write))


@given(interval_s=st.floats(0.01, 1e6), fraction=st.floats(0, 1))
def test_rights_are_asked_for_at_least_once_in_an_interval(
    interval_s: float, fraction: float
) -> None:
    assert interval_s / 2 < next_question_s(interval_s, fraction) <= interval_s
