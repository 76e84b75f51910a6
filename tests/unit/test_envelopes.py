"""Envelopes and payloads: what goes in comes out, and whatever else comes in is a CodecError."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycrdt import Doc, Text

from jupyter_teleportal.core import envelopes as codec
from jupyter_teleportal.core import log_decoding
from jupyter_teleportal.core.envelopes import (
    COMPRESS_ABOVE_BYTES,
    VERSION,
    AwarenessEnvelope,
    AwarenessQuery,
    EntryEnvelope,
    Envelope,
    Notice,
    SaveReply,
    SaveRequest,
    decode_crossing,
    decode_envelope,
    decode_note,
    decode_payload,
    encode_crossing,
    encode_note,
    encode_payload,
    inflated_within,
)
from jupyter_teleportal.core.errors import CodecError, NewerFormat
from jupyter_teleportal.core.log_decoding import decoded_log
from jupyter_teleportal.core.values import Entry, LogRead

KINDS = (EntryEnvelope, AwarenessEnvelope, AwarenessQuery, SaveRequest, SaveReply, Notice)

texts = st.text(st.characters(exclude_categories=["Cs"]))
fields = texts.filter(lambda text: len(text.encode()) <= 255)
numbers = st.integers(0, 2**63)
offsets = st.builds("{}-{}".format, numbers, numbers)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
envelopes = st.one_of(
    st.builds(EntryEnvelope, fields, fields, offsets, offsets, st.none() | st.binary(min_size=1)),
    st.builds(AwarenessEnvelope, fields, st.binary()),
    st.builds(AwarenessQuery, fields),
    st.builds(SaveRequest, fields, fields),
    st.builds(SaveReply, fields, fields, texts),
    st.builds(Notice, fields, fields, st.dictionaries(texts, json_values, max_size=3)),
)


@given(envelopes)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    assert decode_envelope(envelope.encode()) == envelope


@given(envelopes, st.data())
def test_an_envelope_cut_off_in_its_fields_is_an_error(
    envelope: Envelope, data: st.DataObject
) -> None:
    encoded = envelope.encode()
    header = len(encoded) - len(envelope.body())
    with pytest.raises(CodecError, match=r"too short|cut off"):
        decode_envelope(encoded[: data.draw(st.integers(0, header - 1))])


@given(envelopes, st.integers(0, 255).filter(lambda version: version != VERSION))
def test_another_version_is_an_error_that_names_both(envelope: Envelope, version: int) -> None:
    with pytest.raises(CodecError, match=f"version {version}.*version {VERSION}"):
        decode_envelope(bytes((version,)) + envelope.encode()[1:])


@given(st.integers(0, 255).filter(lambda kind: bytes((kind,)) not in {k.kind for k in KINDS}))
def test_an_unknown_kind_is_an_error_that_names_it(kind: int) -> None:
    with pytest.raises(CodecError, match="unknown kind"):
        decode_envelope(bytes((VERSION, kind)) + b"\x01a")


def outcome_of_decoding(data: bytes) -> Envelope | None:
    try:
        return decode_envelope(data)
    except CodecError:
        return None


@given(st.binary())
def test_garbage_raises_nothing_else(data: bytes) -> None:
    outcome_of_decoding(data)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.binary())
@example(SaveReply, b"\x01a\x01b\xff\xfe")
@example(Notice, b"\x01a\x01b" + b"[" * 200_000)
@example(Notice, b"\x01a\x01b" + b'{"a":' * 200_000)
@example(Notice, b"\x01a\x01b" + b"9" * 10_000)
@example(Notice, b"\x01a\x01b[]")
@example(EntryEnvelope, b"\x01a\x01b\x031-2\x051-2-3")
def test_garbage_after_a_good_beginning_raises_nothing_else(
    kind: type[Envelope], data: bytes
) -> None:
    outcome_of_decoding(bytes((VERSION,)) + kind.kind + data)


@given(envelopes, st.data())
def test_a_damaged_byte_raises_nothing_else(envelope: Envelope, data: st.DataObject) -> None:
    encoded = bytearray(envelope.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    outcome_of_decoding(bytes(encoded))


def test_the_bytes_of_an_entry_are_those_that_the_script_writes() -> None:
    envelope = EntryEnvelope("r1", "lin/e", "1-0", "2-0", b"\x00xy")
    assert envelope.encode() == b"\x01E\x02r1\x05lin/e\x031-0\x032-0\x00xy"


@pytest.mark.parametrize("offset", ["", "1", "1-", "-1", "1-2-3", "a-b"])
def test_an_entry_with_a_bad_offset_is_an_error(offset: str) -> None:
    with pytest.raises(CodecError):
        decode_envelope(EntryEnvelope("r", "l/e", "0-0", offset, None).encode())


def test_a_field_fits_up_to_255_bytes() -> None:
    longest = SaveRequest("r", "é" * 127 + "x")
    assert decode_envelope(longest.encode()) == longest
    with pytest.raises(CodecError, match="256 bytes"):
        SaveRequest("r", "é" * 128).encode()


def test_a_problem_with_an_undecodable_file_name_can_be_sent() -> None:
    problem = f"cannot write {b'caf' + bytes((0xE9,))!r}: caf\udce9"
    reply = decode_envelope(SaveReply("r", "q", problem).encode())
    assert isinstance(reply, SaveReply)
    assert reply.problem.startswith("cannot write")


def test_the_details_of_a_notice_are_an_object() -> None:
    header = Notice("r", "n", {}).encode()[:-2]
    for body in (b"[]", b"1", b"null", b'"x"', b"{", b""):
        with pytest.raises(CodecError):
            decode_envelope(header + body)
    assert decode_envelope(header + json.dumps({"a": 1}).encode()) == Notice("r", "n", {"a": 1})


# -- payloads ------------------------------------------------------------------------------

updates = st.binary(max_size=2 * COMPRESS_ABOVE_BYTES) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=64), st.integers(1, 2000)
)


@given(updates)
def test_a_payload_comes_back_as_it_was(update: bytes) -> None:
    payload = encode_payload(update)
    assert decode_payload(payload) == update
    assert len(payload) <= len(update) + 1


@given(st.binary(max_size=4).map(lambda part: part * 2000), st.integers(0, 9))
def test_what_is_deflated_is_zlibs_format(update: bytes, level: int) -> None:
    payload = encode_payload(update)
    if payload[:1] == b"\x01":
        assert zlib.decompress(payload[1:]) == update
    assert decode_payload(b"\x01" + zlib.compress(update, level)) == update


@given(st.binary(max_size=4000) | st.binary(max_size=4).map(lambda part: part * 2000))
def test_an_inflated_payload_holds_the_same(update: bytes) -> None:
    (payload,) = inflated_within([encode_payload(update)], 10_000) or [b""]
    assert payload[:1] == b"\x00"
    assert decode_payload(payload) == update
    assert inflated_within([payload], 10_000) == [payload]
    small = inflated_within([payload, payload], 2 * len(payload) - 1)
    assert small is None


@pytest.mark.parametrize("payload", [b"", b"\x01garbage", b"\x07a later format", b"\xff"])
def test_what_cannot_be_inflated_is_left_for_whoever_decodes_it(payload: bytes) -> None:
    assert inflated_within([payload], 100) == [payload]


def test_whether_payloads_are_small_is_found_out_at_once() -> None:
    bomb = b"\x01" + zlib.compress(b"\0" * (64 << 20), 9)
    tracemalloc.start()
    try:
        assert inflated_within([bomb] * 5, 100_000) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_inflates_to_hundreds_of_times_its_size_is_refused_and_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "FREE_BYTES", 100_000)
    update = b"\0" * 1_000_000
    with pytest.raises(CodecError, match="inflates to over"):
        decode_payload(b"\x01" + zlib.compress(update, 9))
    assert decode_payload(encode_payload(update)) == update


def test_of_one_reading_no_more_comes_out_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_decoding, "MAX_LOG_BYTES", 250_000)
    update = Doc({"text": Text("x" * 100_000)}).get_update()
    entries = [Entry(f"{n}-1", encode_payload(update), "r", f"{n - 1}-1") for n in range(1, 6)]
    found = decoded_log(LogRead("l/e", False, entries))
    assert [entry.error is None for entry in found] == [True, True, False, False, False]


def test_only_what_pays_is_deflated() -> None:
    repetitive, random = b"edit" * 1000, bytes(range(256)) * 3
    assert encode_payload(repetitive)[:1] == b"\x01"
    assert len(encode_payload(repetitive)) < 100
    assert encode_payload(b"edit" * 10)[:1] == b"\x00"
    noise = zlib.compress(random * 50, 9) * 20
    assert len(noise) > COMPRESS_ABOVE_BYTES
    incompressible = bytes((i * i * 2654435761 >> 13) & 255 for i in range(5000))
    payload = encode_payload(incompressible)
    assert len(payload) <= len(incompressible) + 1


@given(st.binary())
def test_a_garbage_payload_raises_nothing_else(payload: bytes) -> None:
    for data in (payload, b"\x01" + payload):
        try:
            decode_payload(data)
        except CodecError:
            continue


def test_a_payload_without_a_flag_or_with_an_unknown_one_is_an_error() -> None:
    for payload in (b"", b"\x20abc", b"\xff"):
        with pytest.raises(CodecError, match="unknown flag"):
            decode_payload(payload)


@given(st.integers(min_value=0))
def test_a_deflated_payload_that_is_cut_off_is_an_error(cut: int) -> None:
    payload = encode_payload(b"some words of an edit " * 500)
    with pytest.raises(CodecError):
        decode_payload(payload[: 1 + cut % (len(payload) - 1)])


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_damaged_deflated_payload_is_an_error_or_the_same(place: int, flip: int) -> None:
    update = bytes(range(256)) * 20
    payload = bytearray(encode_payload(update))
    payload[1 + place % (len(payload) - 1)] ^= flip
    with contextlib.suppress(CodecError):
        assert decode_payload(bytes(payload)) == update


def test_a_deflate_bomb_is_an_error_and_takes_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "MAX_UPDATE_BYTES", 1 << 20)
    bomb = b"\x01" + zlib.compress(b"\0" * (64 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="inflates to over"):
            decode_payload(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_an_update_of_the_largest_size_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_UPDATE_BYTES", 100_000)
    largest = b"\0" * 100_000
    assert decode_payload(encode_payload(largest)) == largest
    with pytest.raises(CodecError):
        decode_payload(b"\x01" + zlib.compress(largest + b"\0"))


@given(st.integers(2, codec.FORMATS_BELOW - 1), st.binary())
def test_a_later_format_is_told_from_garbage(flag: int, data: bytes) -> None:
    with pytest.raises(NewerFormat, match=f"format {flag}.*newer version"):
        decode_payload(bytes((flag,)) + data)


@given(st.integers(codec.FORMATS_BELOW, 255), st.binary())
def test_garbage_is_no_later_format(flag: int, data: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        decode_payload(bytes((flag,)) + data)
    assert not isinstance(caught.value, NewerFormat)


def test_a_note_comes_back() -> None:
    update = Doc({"text": Text("ä")}).get_update()
    for base in (None, "text", {"cells": [], "metadata": {"a": 1.5}}):
        assert decode_note(encode_note("lineage", base, update)) == ("lineage", base, update)
    assert decode_note(encode_note("lineage", b"no JSON", update)) == ("lineage", None, update)


@pytest.mark.parametrize("note", [b"", b"{}\n\0", b'{"version": 2, "lineage": "a", "base": 1}\n'])
def test_what_is_no_note_says_so(note: bytes) -> None:
    with pytest.raises(CodecError, match="a note of"):
        decode_note(note)


def test_a_crossing_comes_back() -> None:
    state, update = (Doc({"text": Text(text * 999)}).get_update() for text in "ab")
    assert decode_crossing(encode_crossing(state, update)) == (state, update)


@pytest.mark.parametrize("text", ["", "2 AAAA AAAA", "1 AAAA", "1 !!!! AAAA", "1 AGFi AGFi"])
def test_what_is_no_crossing_says_so(text: str) -> None:
    with pytest.raises(CodecError, match="crossing"):
        decode_crossing(text)
