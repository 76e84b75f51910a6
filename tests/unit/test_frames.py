"""Frames in bulk: whatever the pieces in which they arrive, and whatever else comes between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text, create_update_message

from jupyter_teleportal.clients.frames import Taken, binary_frame, take_messages
from jupyter_teleportal.core.messages import together, update_in

masks = st.sampled_from([b"\0\0\0\0", b"\x01\xff\x80\x7f"])
sizes = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])


def unmask(mask: bytes, data: bytes) -> bytes:
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


def client_frame(message: bytes, mask: bytes) -> bytes:
    frame = bytearray(binary_frame(message))
    frame[1] |= 0x80
    at = len(frame) - len(message)
    return bytes(frame[:at]) + mask + unmask(mask, message)


def read_in_pieces(data: bytes, pieces: list[int]) -> tuple[list[bytes], bytearray, bool]:
    buffer, messages, place = bytearray(), [], 0
    for piece in [*pieces, len(data)]:
        buffer += data[place : place + piece]
        place += piece
        taken = take_messages(buffer, unmask, 10**9)
        messages += taken.messages
        del buffer[: taken.size]
        if taken.other:
            return messages, buffer + data[place:], True
    return messages, buffer, False


@given(
    st.lists(st.tuples(st.binary(max_size=300), masks), max_size=6),
    st.lists(st.integers(0, 400), max_size=9),
)
def test_messages_come_out_as_they_went_in(
    sent: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    data = b"".join(client_frame(message, mask) for message, mask in sent)
    messages, left, other = read_in_pieces(data, pieces)
    assert messages == [message for message, _ in sent]
    assert not left
    assert not other


@given(sizes, st.integers(0, 80_000))
def test_every_size_of_a_length(size: int, cut: int) -> None:
    message = b"x" * size
    data = client_frame(message, b"\0\0\0\0")
    messages, left, other = read_in_pieces(data + data, [cut])
    assert messages == [message, message]
    assert (bytes(left), other) == (b"", False)


@given(
    st.lists(st.binary(max_size=200), max_size=4),
    st.sampled_from([b"\x81\x81", b"\x02\x81", b"\x80\x81", b"\x89\x80", b"\x88\x82", b"\xc2\x81"])
    | st.just(b"\x82\x01"),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_other_frames_are_left_where_they_are(
    before: list[bytes], other: bytes, pieces: list[int]
) -> None:
    data = b"".join(client_frame(message, b"\0\0\0\0") for message in before) + other + b"rest"
    messages, left, found = read_in_pieces(data, pieces)
    assert messages == before
    assert left == other + b"rest"
    assert found


def test_what_is_too_large_is_known_by_its_header() -> None:
    small, large = client_frame(b"x" * 10, b"\0\0\0\0"), client_frame(b"x" * 1000, b"\0\0\0\0")
    taken = take_messages(bytearray(small + large[:4]), unmask, 999)
    assert taken == Taken([b"x" * 10], len(small), True)
    assert take_messages(bytearray(large[:3]), unmask, 999) == Taken([], 0, False)


def updates(count: int) -> list[bytes]:
    doc: Doc = Doc()
    text = doc.get("text", type=Text)
    found: list[bytes] = []
    subscription = doc.observe(lambda event: found.append(create_update_message(event.update)))
    for number in range(count):
        text += str(number)
    doc.unobserve(subscription)
    return found


def test_updates_that_came_together_are_one() -> None:
    five, awareness, garbage = updates(5), b"\x01\x01\x00", b"\x00\x02\x03bad"
    one = together(five)
    assert len(one) == 1
    update = update_in(one[0])
    assert update is not None
    doc: Doc = Doc()
    doc.apply_update(update)
    assert str(doc.get("text", type=Text)) == "01234"
    assert together([*five[:2], awareness, *five[2:]])[1] == awareness
    assert len(together([*five[:2], awareness, *five[2:]])) == 3
    assert together([five[0], garbage, five[1]]) == [five[0], garbage, five[1]]
    assert together([]) == []
    assert together([garbage]) == [garbage]


@given(st.binary(max_size=40))
def test_an_update_is_told_from_everything_else(data: bytes) -> None:
    message = create_update_message(data)
    assert update_in(message) == data
    assert update_in(message + b"x") is None
    assert update_in(message[:-1]) is None
    assert update_in(b"\x00\x01" + message[2:]) is None
