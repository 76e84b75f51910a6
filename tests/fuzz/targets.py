"""What is fuzzed: each target takes bytes, and raises where a promise is broken."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

from pycrdt import Array, Awareness, Doc, Map, Text, XmlFragment
from support.yjs_bytes import HOSTILE, apart, as_one, edits, forged, mutated, number

from jupyter_teleportal.clients.frames import binary_frame, take_messages
from jupyter_teleportal.core import crdt
from jupyter_teleportal.core import messages as client_messages
from jupyter_teleportal.core.content import foreign_seeds
from jupyter_teleportal.core.envelopes import (
    STATE_MAX_BYTES,
    AwarenessEnvelope,
    AwarenessQuery,
    EntryEnvelope,
    Notice,
    SaveReply,
    SaveRequest,
    decode_crossing,
    decode_envelope,
    decode_note,
    decode_payload,
    decode_state,
    encode_crossing,
    encode_note,
    encode_payload,
    encode_state,
)
from jupyter_teleportal.core.errors import CodecError, DocumentBroken, ForeignBytes
from jupyter_teleportal.core.update_walk import UPDATE, read_message, read_save_request, read_state
from jupyter_teleportal.transports.redis.accounts import format_granted, parse_granted

ROOTS: dict[str, Any] = {"source": Text, "cells": Array, "meta": Map, "xml": XmlFragment}

FRAME_MAX_BYTES = 299


def update(data: bytes) -> None:
    """What the door lets in, the library applies to a new document, gives out again and merges, and
    neither panics nor crashes; what it refuses it refuses with an error."""
    door = crdt.Door()
    try:
        door.check(data)
    except ForeignBytes:
        return
    doc: Doc[Any] = Doc()
    for name, kind in ROOTS.items():
        doc.get(name, type=kind)
    doc.observe(lambda event: event.update)
    with only_errors():
        door.apply(doc, data)
    with only_errors():
        again: Doc[Any] = Doc()
        crdt.apply(again, doc.get_update())
    with only_errors():
        crdt.state_of(data)
        crdt.beyond(data, doc.get_state())
        crdt.merge([data, doc.get_update()])
    read_state(doc.get_state())
    for name in ("cells", "meta"):
        # pycrdt has no Python object for some kinds of shared types within others.
        with only_errors(TypeError, KeyError):
            crdt.guarded(doc[name].to_py)
    with only_errors():
        crdt.guarded(str, doc["source"])


@contextlib.contextmanager
def only_errors(*others: type[Exception]) -> Any:
    """The library may refuse what it is given, and must not panic."""
    try:
        yield
    except DocumentBroken:
        raise
    except (ForeignBytes, *others):
        pass


def sequence(data: bytes) -> None:
    """Of updates that come one after the other, whatever they build on, the library is given what
    it takes without an end or a crash, and nothing that has to wait. They can be folded in pages,
    and what they are folded to can be folded on."""
    doc: Doc[Any] = Doc()
    for name, kind in ROOTS.items():
        doc.get(name, type=kind)
    door = crdt.Door(doc.get_state)
    updates = apart(data)
    for one in updates:
        with only_errors():
            door.take(doc, one)
    sieve, passed = crdt.Sieve(crdt.Door()), []
    for one in updates:
        with only_errors():
            passed += sieve.put(one)
    if passed:
        crdt.state_of(crdt.merge(passed))
    client_messages.received([client_messages.sync_message(UPDATE, one) for one in updates])
    middle = len(updates) // 2
    base = crdt.folded(updates[:middle])
    base = crdt.folded([*([base] if base is not None else []), *updates[middle:]])
    if base is not None:
        assert crdt.folded([base]) is not None
    with only_errors():
        crdt.apply(Doc(), doc.get_update())
    for name in ("cells", "meta"):
        with only_errors(TypeError, KeyError):
            crdt.guarded(doc[name].to_py)
    with only_errors():
        crdt.guarded(str, doc["source"])


def state(data: bytes) -> None:
    try:
        read_state(data)
    except ForeignBytes:
        return
    foreign_seeds(data, b"\0")
    Doc({"text": Text("x")}, client_id=7).get_update(data)


def awareness(data: bytes) -> None:
    there = Awareness(Doc(client_id=7))
    try:
        crdt.apply_awareness(there, data, "fuzz")
    except DocumentBroken:
        raise
    except ForeignBytes:
        return
    for known in there.states.values():
        known.get("user")
    there.encode_awareness_update(list(there.states))


def message(data: bytes) -> None:
    with contextlib.suppress(ForeignBytes):
        read_message(data)
        read_save_request(data)


def envelope(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode_envelope(data)


def payload(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode_payload(data)


def note(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode_note(data)


def crossing(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode_crossing(data.decode("latin-1"))


def saved_state(data: bytes) -> None:
    """What a saver has noted of a file is a state vector or nothing."""
    found = decode_state(data.decode("latin-1"))
    if found is not None:
        read_state(found)
        assert decode_state(encode_state(found)) == (
            found if len(found) <= STATE_MAX_BYTES else None
        )


def granted(data: bytes) -> None:
    found = parse_granted(data)
    if found is not None:
        assert parse_granted(format_granted(found).encode()) == found


def frames(data: bytes) -> None:
    """The same messages come out, none of them too large, in whatever pieces the bytes arrive."""

    def taken(piece: int) -> tuple[list[bytes], int, bool]:
        buffer, messages, size = bytearray(), list[bytes](), 0
        for start in range(0, len(data), piece):
            buffer += data[start : start + piece]
            more = True
            while more:
                found = take_messages(buffer, _unmask, FRAME_MAX_BYTES, 2)
                messages += found.messages
                size, more = size + found.size, found.more
                del buffer[: found.size]
            if found.other:
                return messages, size, True
        return messages, size, False

    whole = taken(len(data) or 1)
    assert taken(1) == taken(3) == whole
    assert whole[1] <= len(data)
    assert all(len(one) <= FRAME_MAX_BYTES for one in whole[0])


def _unmask(mask: bytes, data: bytes) -> bytes:
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


def _client_frame(message: bytes, mask: bytes) -> bytes:
    head = bytearray(binary_frame(message)[: -len(message) or None])
    head[1] |= 0x80
    return bytes(head) + mask + _unmask(mask, message)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "update": update,
    "sequence": sequence,
    "state": state,
    "awareness": awareness,
    "message": message,
    "envelope": envelope,
    "payload": payload,
    "note": note,
    "crossing": crossing,
    "saved_state": saved_state,
    "granted": granted,
    "frames": frames,
}


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target and bad ones that were found before, to begin with."""
    updates = [one for seed in range(3) for one in edits(seed, 10)]
    small = [one for one in HOSTILE.values() if len(one) < 10_000]
    states = [crdt.state_of(one) for one in updates]
    cursors = [b"\1\7\1" + number(len(text)) + text for text in (b"{}", b"null", b'{"a":[1.5]}')]
    match target:
        case "update":
            return updates + small
        case "sequence":
            chance = random.Random(1)
            made = [list(edits(seed, 4)) for seed in range(3)]
            for one in made:
                chance.shuffle(one)
            return [as_one(one) for one in made] + [
                as_one([forged(chance) for _ in range(6)]) for _ in range(10)
            ]
        case "state":
            return states
        case "awareness":
            return cursors
        case "message":
            frames = [(b"\0\0", s) for s in states] + [(b"\0\2", u) for u in updates]
            frames += [(b"\1", c) for c in cursors]
            return [head + number(len(body)) + body for head, body in frames] + [b"\2\4save\1"]
        case "envelope":
            made = [
                EntryEnvelope("r", "l/e", "0-0", "1-0", encode_payload(updates[0])),
                AwarenessEnvelope("r", cursors[0]),
                AwarenessQuery("r"),
                SaveRequest("r", "q"),
                SaveReply("r", "q", "no"),
                Notice("r", "n", {"a": [1]}),
            ]
            return [one.encode() for one in made]
        case "payload":
            return [encode_payload(one) for one in [*updates, updates[0] * 100]]
        case "note":
            return [encode_note("l", {"cells": []}, one) for one in updates]
        case "crossing":
            return [encode_crossing(one, one).encode() for one in updates[:5]]
        case "saved_state":
            return [encode_state(one).encode() for one in states]
        case "granted":
            return [format_granted(one).encode() for one in ([], ["team1"], ["a", "b-2.x"])]
        case "frames":
            made = [
                _client_frame(b"x" * size, mask)
                for size in (0, 1, 125, 126, 300)
                for mask in (b"\0\0\0\0", b"\1\xff\x80\x7f")
            ]
            return [*made, b"".join(made), b"\x81\x80" + made[0]]
    raise KeyError(target)


def mutations(target: str, seed: int) -> Any:
    """Yield inputs without an end: good ones with a few changes."""
    chance = random.Random(seed)
    known = seeds(target)
    while target == "sequence":
        yield as_one(_sequence(chance))
    while True:
        yield mutated(chance, chance.choice(known))


def _sequence(chance: random.Random) -> list[bytes]:
    if chance.random() < 0.8:
        return [forged(chance) for _ in range(chance.randrange(2, 9))]
    made = list(edits(chance.randrange(1000), 8))
    chance.shuffle(made)
    return [mutated(chance, one) if chance.random() < 0.4 else one for one in made]
