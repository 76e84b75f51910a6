"""Bytes in Yjs' formats for tests: what documents really produce, what nobody should send, and
changes that turn the one into the other."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from pycrdt import (
    Array,
    Doc,
    Map,
    Text,
    UndoManager,
    XmlElement,
    XmlFragment,
    XmlText,
    merge_updates,
)


def number(value: int) -> bytes:
    """lib0's variable-length number."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return number(len(raw)) + raw


def blocks(client: int, clock: int, *parts: bytes, deletions: bytes = b"\0") -> bytes:
    """An update with one list of blocks."""
    count = number(len(parts))
    return b"\x01" + count + number(client) + number(clock) + b"".join(parts) + deletions


def string(value: str, *, beside: tuple[int, int] | None = None) -> bytes:
    """A block of text in the root "source", or right of an item."""
    if beside is None:
        return b"\x04\x01" + text("source") + text(value)
    return b"\x84" + number(beside[0]) + number(beside[1]) + text(value)


def array(*, within: tuple[int, int] | None = None, beside: tuple[int, int] | None = None) -> bytes:
    """A block that is a shared array: in the root "cells", in another, or right of an item."""
    if beside is not None:
        return b"\x87" + number(beside[0]) + number(beside[1]) + b"\0"
    if within is None:
        return b"\x07\x01" + text("cells") + b"\0"
    return b"\x07\0" + number(within[0]) + number(within[1]) + b"\0"


def nested_arrays(levels: int, client: int = 5, clock: int = 0) -> bytes:
    """An update with arrays within each other."""
    first = array() if clock == 0 else array(within=(client, clock - 1))
    others = (array(within=(client, clock + level)) for level in range(levels - 1))
    return blocks(client, clock, first, *others)


def nested_value(levels: int) -> bytes:
    """An update with one value of arrays within each other."""
    value = b"\x75\x01" * levels + b"\x7e"
    return blocks(5, 0, b"\x08\x01" + text("cells") + b"\x01" + value)


HOSTILE: dict[str, bytes] = {
    "a list of no blocks": b"\x01\x00\x05\x00\x00",
    "a clock that overflows": blocks(5, 2**32 - 1, string("ab")),
    "a clock at the edge of 31 bits": blocks(5, 2**31 - 1, string("ab")),
    "blocks that reach over 31 bits": blocks(5, 0, b"\0" + number(2**31 - 1), string("a")),
    "20,000 nested arrays": nested_arrays(20_000),
    "20,000 levels in a value": nested_value(20_000),
    "a number without an end": b"\xff" * 160_000,
    "two lists of one client": b"\x02\x01\x05\x00"
    + string("a")
    + b"\x01\x05\x00"
    + string("b")
    + b"\0",
    "more values than memory": blocks(5, 0, b"\x08\x01" + text("c") + number(2**60)),
    "more members than memory": blocks(5, 0, b"\x08\x01" + text("c") + b"\x01\x76" + number(2**60)),
    "an array larger than memory": blocks(
        5, 0, b"\x08\x01" + text("c") + b"\x01\x75" + number(2**60)
    ),
    "more clients than memory": number(2**32 - 1) + b"\0",
    "more deletions than memory": b"\0\x01\x05" + number(2**32 - 1) + b"\0",
    "deletions out of order": b"\0\x01\x05\x02\x05\x01\x01\x01",
    "a deletion that overflows": b"\0\x01\x05\x01" + number(2**32 - 1) + b"\x05",
    "text that is no UTF-8": blocks(5, 0, b"\x04\x01" + text("source") + text(b"\xff\xfe")),
    "an empty range that is collected": blocks(5, 0, b"\0\0"),
    "an unknown kind of content": blocks(5, 0, b"\x0d\x01" + text("c")),
    "legacy JSON content": blocks(5, 0, b"\x02\x01" + text("c") + b"\x01" + text("1")),
    "a weak link": blocks(5, 0, b"\x07\x01" + text("c") + b"\x07\x00\x05\x00"),
    "an XML hook, whose name the library reads as what follows": (
        b"\x02\x01\x05\x00\x07\x01" + text("xml") + b"\x05\x00\x01\x06\x00\x00\x01\x00"
    ),
    "gaps upon gaps": blocks(5, 0, *[b"\x0a\x01"] * 200_000, string("a")),
    "bytes that follow": b"\0\0\0",
    "nothing": b"",
}
"""What nobody should send, by name."""


def edits(seed: int, count: int) -> Iterator[bytes]:
    """Yield the updates of several replicas that edit one document at random.

    No text is formatted: pycrdt's library then confuses its lists, and writes of items that lie in
    two of them.
    """
    chance = random.Random(seed)
    docs: list[Doc[Any]] = [
        Doc(client_id=chance.randrange(1, 2 ** chance.choice((7, 32, 53)))) for _ in "abc"
    ]
    made: list[bytes] = []
    for doc in docs:
        doc.get("source", type=Text)
        doc.get("cells", type=Array)
        doc.get("meta", type=Map)
        doc.get("xml", type=XmlFragment)
        doc.observe(lambda event: made.append(event.update))
    undo = [UndoManager(scopes=[doc.get("source", type=Text)]) for doc in docs]
    for _ in range(count):
        made.clear()
        one = chance.randrange(len(docs))
        with contextlib.suppress(IndexError, KeyError, RuntimeError, ValueError, TypeError):
            chance.choice(_EDITS)(chance, docs[one], undo[one])
        update = merge_updates(*made) if made else docs[one].get_update()
        made.clear()
        yield update
        for other in docs:
            if other is not docs[one] and chance.random() < 0.7:
                other.apply_update(docs[one].get_update(other.get_state()))
        made.clear()
    for doc in docs:
        yield doc.get_update()


def _some_text(chance: random.Random) -> str:
    return "".join(
        chance.choice(["a", "é", "日", "🎉", "\n", " ", "b" * 200])
        for _ in range(chance.randrange(1, 6))
    )


def _some_value(chance: random.Random, levels: int = 3) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.randrange(-(2**53), 2**53),
        lambda: chance.random() * 10 ** chance.randrange(-300, 300),
        lambda: _some_text(chance),
        lambda: b"\x00\xff" * chance.randrange(4),
        lambda: 2.0 ** chance.randrange(60),
    ]
    if levels:
        kinds += [
            lambda: [_some_value(chance, levels - 1) for _ in range(chance.randrange(4))],
            lambda: {
                _some_text(chance): _some_value(chance, levels - 1)
                for _ in range(chance.randrange(4))
            },
        ]
    return chance.choice(kinds)()


def _shared(chance: random.Random) -> Any:
    return chance.choice(
        [
            lambda: Map(
                {"id": "x", "source": Text("s"), "metadata": Map({"a": _some_value(chance)})}
            ),
            lambda: Array([1, Map({"q": Array([])})]),
            lambda: Text(_some_text(chance)),
            lambda: Doc(),
        ]
    )()


def _type(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    shared = doc.get("source", type=Text)
    plain = str(shared)
    shared.insert(len(plain[: chance.randrange(len(plain) + 1)].encode()), _some_text(chance))


def _erase(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    shared = doc.get("source", type=Text)
    plain = str(shared)
    first = chance.randrange(len(plain))
    last = min(len(plain), first + chance.randrange(1, 9))
    # pycrdt counts in bytes.
    del shared[len(plain[:first].encode()) : len(plain[:last].encode())]


def _add(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    cells = doc.get("cells", type=Array)
    cells.insert(chance.randrange(len(cells) + 1), chance.choice([_shared, _some_value])(chance))


def _add_within(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    cells = doc.get("cells", type=Array)
    inner = cells[chance.randrange(len(cells))]
    if isinstance(inner, Map):
        inner[chance.choice("abc")] = chance.choice([_shared, _some_value])(chance)
    elif isinstance(inner, Array):
        inner.append(chance.choice([_shared, _some_value])(chance))
    elif isinstance(inner, Text):
        inner += _some_text(chance)


def _remove(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    cells = doc.get("cells", type=Array)
    del cells[chance.randrange(len(cells))]


def _set(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    doc.get("meta", type=Map)[chance.choice("abc")] = chance.choice([_shared, _some_value])(chance)


def _unset(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    del doc.get("meta", type=Map)[chance.choice("abc")]


def _xml(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    children = doc.get("xml", type=XmlFragment).children
    element = XmlElement("p", {"class": "x"}, [XmlText(_some_text(chance)), XmlElement("b")])
    children.append(chance.choice([element, XmlText("t")]))
    if len(children) > 3:
        del children[0]


def _undo(chance: random.Random, doc: Doc[Any], undo: Any) -> None:
    (undo.undo if chance.random() < 0.7 else undo.redo)()


_EDITS = [
    _type, _type, _type, _erase, _add, _add, _add_within, _add_within, _remove,
    _set, _set, _unset, _xml, _undo,
]  # fmt: skip


def mutated(chance: random.Random, data: bytes) -> bytes:
    """`data` with a few changes that keep much of its form."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(changed) + 1) if changed else 0
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] = chance.randrange(256)
            case 1 if at < len(changed):
                changed[at] = (changed[at] + chance.choice((-1, 1, 2, 64, 128))) % 256
            case 2:
                changed[at:at] = number(
                    chance.choice((0, 1, 2, 127, 128, 2**31 - 1, 2**32 - 1, 2**53))
                )
            case 3:
                del changed[at : at + chance.choice((1, 1, 2, 8))]
            case 4:
                start = chance.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + chance.choice((1, 2, 5, 20))]
            case _ if at < len(changed):
                changed[at] = chance.choice((0, 1, 4, 7, 8, 10, 0x84, 0x87, 0x88, 0xC4, 0x27, 0x28))
    return bytes(changed)


def as_one(updates: list[bytes]) -> bytes:
    """A sequence of updates as the bytes of one input."""
    return b"".join(text(update) for update in updates)


def apart(data: bytes) -> list[bytes]:
    """The updates in a sequence, as far as they are whole."""
    found, position = [], 0
    while position < len(data):
        size, shift = 0, 0
        while position < len(data) and shift < 35:
            byte = data[position]
            size, position, shift = size | (byte & 0x7F) << shift, position + 1, shift + 7
            if byte < 0x80:
                break
        found.append(data[position : position + size])
        position += size
    return found


def forged(chance: random.Random) -> bytes:
    """An update of a few clients that is well formed, and builds on what may never come."""

    def item() -> bytes:
        return number(chance.choice((5, 6, 7))) + number(chance.randrange(12))

    def block() -> bytes:
        kind = chance.randrange(10)
        if kind == 0:
            return b"\x0a" + number(chance.randrange(1, 4)) + string("x", beside=(5, 0))
        if kind == 1:
            return b"\0" + number(chance.randrange(1, 4))
        content = chance.choice(
            ((4, text("abc")), (4, text("d")), (7, b"\0"), (7, b"\2"), (8, b"\1\x7e"))
        )
        origins = chance.choice((0x80, 0x80, 0x40, 0xC0, 0, 0))
        where = b"".join(item() for bit in (0x80, 0x40) if origins & bit)
        if not origins:
            name = chance.choice(("source", "cells", "meta"))
            where = chance.choice((b"\1" + text(name), b"\0" + item()))
            if chance.random() < 0.2:
                origins, where = 0x20, where + text("key")
        return bytes((origins | content[0],)) + where + content[1]

    def list_of(client: int) -> bytes:
        parts = [block() for _ in range(chance.randrange(1, 4))]
        count = sum(1 + (part[:1] == b"\x0a") for part in parts)
        clock = chance.choice((0, 0, 1, 3, chance.randrange(12)))
        return number(count) + number(client) + number(clock) + b"".join(parts)

    clients = chance.sample((7, 6, 5), chance.choice((1, 1, 2, 3)))
    deleted = chance.sample((7, 6, 5), chance.choice((0, 0, 0, 1, 2)))
    deletions = b"".join(
        number(client) + b"\1" + number(chance.randrange(12)) + number(chance.randrange(1, 9))
        for client in deleted
    )
    lists = b"".join(map(list_of, clients))
    return number(len(clients)) + lists + number(len(deleted)) + deletions
