"""A walk over the bytes of Yjs' formats that trusts none of them, with no I/O and no library.

It says what an update, a state vector, an awareness update or a client's message holds, or why it
is not let in. It does not recurse, reads no number of more than ten bytes, allocates nothing by a
count that it was told, and skips text by its length. Its limits are far above what documents hold
and below what makes the CRDT library fail.

Formats: https://github.com/yjs/yjs (UpdateEncoder, version 1), https://github.com/yjs/y-protocols
(sync.js, awareness.js) and lib0's encoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import ForeignBytes

MAX_CLOCK = 2**31 - 1
"""The library counts in 32 bits with a sign in between."""
MAX_CLIENT = 2**53 - 1
"""Yjs keeps client ids in doubles."""
MAX_CLIENTS = 100_000
MAX_VALUE_NESTING = 200
"""Levels of arrays and objects within one value; the library recurses."""
MAX_AWARENESS_CLIENTS = 10_000
MAX_AWARENESS_STATE_BYTES = 1024 * 1024
MAX_JSON_NESTING = 64

SYNC, AWARENESS, RAW = 0, 1, 2
STEP1, STEP2, UPDATE = 0, 1, 2
_UPDATE_PREFIX = bytes((SYNC, UPDATE))

_ORIGIN, _RIGHT_ORIGIN, _PARENT_SUB = 0x80, 0x40, 0x20
_GC, _DELETED, _BINARY, _STRING, _EMBED, _FORMAT, _TYPE, _ANY, _DOC, _SKIP = (
    0, 1, 3, 4, 5, 6, 7, 8, 9, 10,
)  # fmt: skip
_XML_ELEMENT, _XML_HOOK, _LAST_TYPE = 3, 5, 6
_SCALARS = {127: 0, 126: 0, 124: 4, 123: 8, 122: 8, 121: 0, 120: 0}
_TYPED = re.compile(
    rb"\x01\x01([\x80-\xff]{0,6}[\0-\x7f])([\x80-\xff]{0,3}[\0-\x7f])"
    rb"\x84\1([\x80-\xff]{0,3}[\0-\x7f])([\x01-\x7f])([\0-\x7f]+)\0",
    re.DOTALL,
)
"""What typing makes: plain text behind an item of its own client, and nothing else. The numbers are
so short that none of them can be too large."""
_JSON_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


Id = tuple[int, int]
"""A client and the number of one of its items."""
Deleted = tuple[int, int, int]
"""A client, the first of its items that are deleted, and the end of them."""


class Block(NamedTuple):
    """A run of items in an update. Those that were collected do not tell where they lay.

    Attributes:
        client: whose it is.
        clock: its first item's number.
        length: how many items it has.
        is_type: whether it is a shared type, in which others can lie.
        left: the item that it follows on, if it tells.
        right: the item that it was put before, if it tells.
        parent: the shared type that it lies in, by name or by its item; told only where neither
            `left` nor `right` is.
        key: under which of the parent's keys it lies, as it stands in the bytes; empty if under
            none, or if it is not told.
    """

    client: int
    clock: int
    length: int
    is_type: bool
    left: Id | None
    right: Id | None
    parent: str | Id | None
    key: bytes


class Blocks(list[Block]):
    """The blocks of an update, in their order.

    Attributes:
        deleted: the ranges of items that the update deletes.
    """

    deleted: Sequence[Deleted] = ()

    @classmethod
    def together(cls, updates: Sequence[Sequence[Block]]) -> Sequence[Block]:
        """The blocks of several updates, one after the other; those of one as they are."""
        if len(updates) == 1:
            return updates[0]
        found, deleted = cls(), list[Deleted]()
        for blocks in updates:
            found += blocks
            if isinstance(blocks, Blocks):
                deleted += blocks.deleted
        found.deleted = deleted
        return found


class Message(NamedTuple):
    """A client's message.

    Attributes:
        kind: `SYNC`, `AWARENESS`, `RAW` or another extension's.
        step: `STEP1`, `STEP2` or `UPDATE` where the kind is `SYNC`, otherwise -1.
        payload: the state vector, the update or the awareness update; empty for other kinds.
    """

    kind: int
    step: int
    payload: bytes


def read_update(data: bytes) -> Blocks:
    """Return the blocks of an update.

    Raises:
        ForeignBytes: saying what is wrong with it, and where.
    """
    if (typed := _read_typed(data)) is not None:
        client, clock, text = typed
        return Blocks((_typed_block(client, clock, len(text)),))
    try:
        blocks, position = _read_blocks(data)
        position, blocks.deleted = _read_deletions(data, position)
    except IndexError:
        raise ForeignBytes(f"an update of {len(data)} bytes is cut off") from None
    if position != len(data):
        raise ForeignBytes(f"an update of {len(data)} bytes ends at byte {position}")
    return blocks


def read_typed(updates: Iterable[bytes]) -> tuple[bytes, Blocks] | None:
    """Return one update for several of a client who types on, and its block; None if they are
    others, or are in another order."""
    texts: list[bytes] = []
    whose = begin = end = -1
    for data in updates:
        if (typed := _read_typed(data)) is None:
            return None
        client, clock, text = typed
        if not texts:
            whose, begin, end = client, clock, clock
        if client != whose or clock != end:
            return None
        end += len(text)
        texts.append(text)
    if not texts:
        return None
    ids = _encoded(whose), _encoded(begin), b"\x84", _encoded(whose), _encoded(begin - 1)
    update = b"".join((b"\x01\x01", *ids, _encoded(end - begin), *texts, b"\0"))
    return update, Blocks((_typed_block(whose, begin, end - begin),))


def cut(data: bytes, ends: Mapping[int, int]) -> bytes:
    """Return what an update that was read holds of each client before the clock in `ends`, with
    all of its deletions. Blocks end there."""
    marks: list[_Mark] = []
    _, position = _read_blocks(data, marks)
    lists: dict[int, list[_Mark]] = {}
    for mark in marks:
        if mark.clock < mark.end <= ends.get(mark.client, 0):
            lists.setdefault(mark.client, []).append(mark)
    parts = []
    for client, kept in lists.items():
        while kept and kept[-1].is_gap:
            kept.pop()
        if kept:
            parts += [_encoded(len(kept)), _encoded(client), _encoded(kept[0].clock)]
            parts += [data[mark.start : mark.stop] for mark in kept]
    count = sum(map(bool, lists.values()))
    return b"".join((_encoded(count), *parts, data[position:]))


class _Mark(NamedTuple):
    """Where a block or a gap is in an update's bytes."""

    client: int
    clock: int
    end: int
    start: int
    stop: int
    is_gap: bool


def _encoded(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def read_state(data: bytes) -> dict[int, int]:
    """Return the clock of each client in a state vector.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    found: dict[int, int] = {}
    try:
        count, position = _number(data, 0)
        _check_count(count, 2, data, position, MAX_CLIENTS)
        for _ in range(count):
            client, position = _number(data, position)
            clock, position = _number(data, position)
            if client > MAX_CLIENT or clock > MAX_CLOCK:
                raise ForeignBytes(f"a state vector has clock {clock} of client {client}")
            found[client] = clock
    except IndexError:
        raise ForeignBytes(f"a state vector of {len(data)} bytes is cut off") from None
    if position != len(data) or len(found) != count:
        raise ForeignBytes(f"a state vector of {len(data)} bytes has {len(found)} clients")
    return found


def read_awareness(data: bytes) -> dict[int, Any]:
    """Return the states in an awareness update by client: a dictionary, or None for who has left.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    found: dict[int, Any] = {}
    try:
        count, position = _number(data, 0)
        _check_count(count, 3, data, position, MAX_AWARENESS_CLIENTS)
        for _ in range(count):
            client, position = _number(data, position)
            clock, position = _number(data, position)
            if client > MAX_CLIENT or clock > MAX_CLOCK:
                raise ForeignBytes(f"an awareness update has clock {clock} of client {client}")
            size, position = _number(data, position)
            end = position + size
            if end > len(data):
                raise IndexError
            if size > MAX_AWARENESS_STATE_BYTES:
                raise ForeignBytes(f"an awareness state has {size} bytes")
            found[client] = _awareness_state(data[position:end])
            position = end
    except IndexError:
        raise ForeignBytes(f"an awareness update of {len(data)} bytes is cut off") from None
    if position != len(data) or len(found) != count:
        raise ForeignBytes(f"an awareness update of {len(data)} bytes has {len(found)} clients")
    return found


def awareness_clocks(data: bytes) -> dict[int, int]:
    """Return the clocks in an awareness update that `read_awareness` has read, by client."""
    clocks = {}
    count, position = _number(data, 0)
    for _ in range(count):
        client, position = _number(data, position)
        clocks[client], position = _number(data, position)
        size, position = _number(data, position)
        position += size
    return clocks


def read_message(message: object) -> Message:
    """Return what a client's message is. Kinds that are not known here are another extension's
    affair and pass unread; of the others only the frame is looked at.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    if not isinstance(message, bytes):
        raise ForeignBytes("it is text")
    if not message:
        raise ForeignBytes("it is empty")
    size = len(message) - 3
    if 0 <= size < 0x80 and message[:2] == _UPDATE_PREFIX and message[2] == size:
        return Message(SYNC, UPDATE, message[3:])
    try:
        kind, position = _number(message, 0)
        step = -1
        if kind < 0x80 and position > 1:
            # Who looks at the first byte alone must not take it for another kind.
            raise ForeignBytes("its kind is written in more bytes than it needs")
        if kind == SYNC:
            step = message[position]
            position += 1
            if step > UPDATE:
                raise ForeignBytes(f"it is of the unknown sync step {step}")
        elif kind == RAW:
            _save_request(message, position)
            return Message(kind, step, b"")
        elif kind != AWARENESS:
            return Message(kind, step, b"")
        size, position = _number(message, position)
    except IndexError:
        raise ForeignBytes("it is cut off") from None
    left = len(message) - position
    if size != left:
        raise ForeignBytes("it is cut off" if size > left else f"{left - size} bytes follow on it")
    return Message(kind, step, message[position:])


def read_save_request(message: bytes) -> int | None:
    """Return the number under which a client's message asks for the document to be saved; None if
    it asks for something else.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    if message[:1] != bytes((RAW,)):
        return None
    try:
        return _save_request(message, 1)
    except IndexError:
        raise ForeignBytes("it is cut off") from None


def _save_request(message: bytes, position: int) -> int | None:
    wish, position = _read_text(message, position)
    return _number(message, position)[0] if wish == "save" else None


def _number(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends."""
    number = data[position]
    if number < 0x80:
        return number, position + 1
    byte = data[position + 1]
    if byte < 0x80:
        return number & 0x7F | byte << 7, position + 2
    number = number & 0x7F | (byte & 0x7F) << 7
    shift = 14
    for byte in data[position + 2 : position + 10]:
        if byte < 0x80:
            return number | byte << shift, position + shift // 7 + 1
        number |= (byte & 0x7F) << shift
        shift += 7
    if position + 10 > len(data):
        raise IndexError
    raise ForeignBytes(f"the number at byte {position} has more than ten bytes")


def _read_typed(data: bytes) -> tuple[int, int, bytes] | None:
    """Whose text it is that an update consists of, its number and itself, if it follows on the
    client's item before."""
    typed = _TYPED.fullmatch(data)
    if typed is None:
        return None
    own, at, left, size, text = typed.groups()
    clock = _number(at, 0)[0]
    if size[0] != len(text) or _number(left, 0)[0] != clock - 1:
        return None
    return _client(own), clock, text


def _typed_block(client: int, clock: int, length: int) -> Block:
    return Block(client, clock, length, False, (client, clock - 1), None, None, b"")


@lru_cache(1024)
def _client(data: bytes) -> int:
    return _number(data, 0)[0]


def _text(data: bytes, start: int, end: int) -> str:
    if end > len(data):
        raise IndexError
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise ForeignBytes(f"the text at byte {start} is no UTF-8") from None


def _text_length(data: bytes, start: int, end: int) -> int:
    """How long a text is in Yjs, which counts in UTF-16."""
    if end <= len(data) and data[start:end].isascii():
        return end - start
    return len(_text(data, start, end).encode("utf-16-le")) >> 1


def _check_text(data: bytes, start: int, end: int) -> None:
    # That it is ASCII is found out in a fraction of the time that decoding takes.
    if end > len(data) or not data[start:end].isascii():
        _text(data, start, end)


def _read_text(data: bytes, position: int) -> tuple[str, int]:
    size, position = _number(data, position)
    end = position + size
    return _text(data, position, end), end


def _skip_text(data: bytes, position: int) -> int:
    size, position = _number(data, position)
    end = position + size
    _check_text(data, position, end)
    return end


def _check_count(count: int, size: int, data: bytes, position: int, most: int) -> None:
    """There is room for `count` things of at least `size` bytes."""
    if count > most:
        raise ForeignBytes(f"{count} clients are more than {most}")
    if count * size > len(data) - position:
        raise IndexError


def _read_blocks(data: bytes, marks: list[_Mark] | None = None) -> tuple[Blocks, int]:
    blocks = Blocks()
    add = blocks.append
    seen: set[int] = set()
    number, is_at, new = _number, data.startswith, tuple.__new__
    clients, position = number(data, 0)
    _check_count(clients, 4, data, position, MAX_CLIENTS)
    for _ in range(clients):
        count, position = number(data, position)
        own_from = position
        client, position = number(data, position)
        # Most blocks lie beside others of their client, whose bytes need not be read again.
        own = data[own_from:position]
        own_size = len(own)
        clock, position = number(data, position)
        if client in seen or client > MAX_CLIENT:
            raise ForeignBytes(f"client {client} has two lists of blocks, or is none")
        seen.add(client)
        empty, skipped = True, False
        for _ in range(count):
            start = position
            info = data[position]
            position += 1
            if info in (_SKIP, _GC):
                length, position = number(data, position)
                if not length or (skipped and info == _SKIP):
                    raise ForeignBytes(f"the gap before byte {position} is empty or one of two")
                skipped = info == _SKIP
                empty = empty and skipped
                if marks is not None:
                    end = clock + length
                    marks.append(_Mark(client, clock, end, start, position, skipped))
                if not skipped:
                    add(Block(client, clock, length, False, None, None, None, b""))
                clock += length
                continue
            skipped = False
            left: Id | None = None
            right: Id | None = None
            parent: str | Id | None = None
            key = b""
            if info & _ORIGIN:
                if is_at(own, position):
                    at, position = number(data, position + own_size)
                    left = client, at
                else:
                    left, position = _id(data, position)
            if info & _RIGHT_ORIGIN:
                if is_at(own, position):
                    at, position = number(data, position + own_size)
                    right = client, at
                else:
                    right, position = _id(data, position)
            elif left is None:
                named = data[position]
                position += 1
                if named == 1:
                    parent, position = _read_text(data, position)
                elif named == 0:
                    parent, position = _id(data, position)
                else:
                    raise ForeignBytes(f"the parent before byte {position} is of no known kind")
                if info & _PARENT_SUB:
                    key_from = position
                    position = _skip_text(data, position)
                    key = data[key_from:position]
            kind = info & 0x1F
            if kind == _STRING:
                size, position = number(data, position)
                end = position + size
                length = _text_length(data, position, end)
                position = end
            else:
                length, position = _read_content(data, position, kind)
            if length:  # otherwise the library leaves it out
                empty = False
                if marks is not None:
                    end = clock + length
                    marks.append(_Mark(client, clock, end, start, position, False))
                # `Block(…)` is a call in between.
                add(new(Block, (client, clock, length, kind == _TYPE, left, right, parent, key)))
                clock += length
        if empty or skipped or clock > MAX_CLOCK:
            raise ForeignBytes(f"the blocks of client {client} are none, or end at {clock}")
    return blocks, position


def _id(data: bytes, position: int) -> tuple[Id, int]:
    client, position = _number(data, position)
    clock, position = _number(data, position)
    if client > MAX_CLIENT:
        raise ForeignBytes(f"the item before byte {position} is of client {client}")
    return (client, clock), position


def _read_content(data: bytes, position: int, kind: int) -> tuple[int, int]:
    """How many items the content has, and where it ends."""
    if kind == _ANY:
        count, position = _number(data, position)
        if count > len(data) - position:
            raise IndexError
        return count, _skip_values(data, position, count)
    if kind == _TYPE:
        type_ref = data[position]
        # A hook has a name in Yjs, which the library takes for what follows on it.
        if type_ref > _LAST_TYPE or type_ref == _XML_HOOK:
            raise ForeignBytes(f"the shared type {type_ref} at byte {position} is not known")
        position += 1
        if type_ref == _XML_ELEMENT:
            position = _skip_text(data, position)
        return 1, position
    if kind == _DELETED:
        return _number(data, position)
    if kind == _BINARY:
        size, position = _number(data, position)
        if position + size > len(data):
            raise IndexError
        return 1, position + size
    if kind in (_EMBED, _FORMAT):
        if kind == _FORMAT:
            position = _skip_text(data, position)
        size, position = _number(data, position)
        if position + size > len(data):
            raise IndexError
        _read_json(data[position : position + size], MAX_VALUE_NESTING)
        return 1, position + size
    if kind == _DOC:
        return 1, _skip_values(data, _skip_text(data, position), 1)
    raise ForeignBytes(f"the content {kind} before byte {position} is not known")


def _skip_values(data: bytes, position: int, count: int) -> int:
    """Where `count` values of lib0's kind end."""
    number = _number
    # How many values are left on each outer level; below zero in objects, whose values have keys.
    outer: list[int] = []
    left = count
    while True:
        if not left:
            if not outer:
                return position
            left = outer.pop()
            continue
        if left < 0:
            left += 1
            position = _skip_text(data, position)
        else:
            left -= 1
        tag = data[position]
        position += 1
        if tag == 119 or tag == 116:
            size, position = number(data, position)
            end = position + size
            if tag == 119:
                _check_text(data, position, end)
            elif end > len(data):
                raise IndexError
            position = end
        elif tag == 125:
            _, position = number(data, position)
        elif tag in _SCALARS:
            position += _SCALARS[tag]
            if position > len(data):
                raise IndexError
        elif tag == 117 or tag == 118:
            size, position = number(data, position)
            if size > len(data) - position:
                raise IndexError
            if len(outer) >= MAX_VALUE_NESTING:
                raise ForeignBytes(f"a value is nested more than {MAX_VALUE_NESTING} levels deep")
            outer.append(left)
            left = size if tag == 117 else -size
        else:
            raise ForeignBytes(f"the value {tag} before byte {position} is of no known kind")


def _read_deletions(data: bytes, position: int) -> tuple[int, Sequence[Deleted]]:
    """Where the set of deletions ends that begins at `position`, and its ranges."""
    number = _number
    clients, position = number(data, position)
    if not clients:
        return position, ()
    ranges: list[Deleted] = []
    _check_count(clients, 2, data, position, MAX_CLIENTS)
    seen: set[int] = set()
    for _ in range(clients):
        client, position = number(data, position)
        count, position = number(data, position)
        if client in seen or client > MAX_CLIENT:
            raise ForeignBytes(f"client {client} has two lists of deletions, or is none")
        seen.add(client)
        if 2 * count > len(data) - position:
            raise IndexError
        reached = 0
        for _ in range(count):
            clock, position = number(data, position)
            length, position = number(data, position)
            if clock < reached or not length:
                raise ForeignBytes(f"the deletion before byte {position} is out of order or empty")
            reached = clock + length
            ranges.append((client, clock, reached))
        if reached > MAX_CLOCK:
            raise ForeignBytes(f"the deletions of client {client} reach {reached}")
    return position, ranges


def _awareness_state(text: bytes) -> Any:
    state = _read_json(text, MAX_JSON_NESTING)
    if state is not None and not isinstance(state, dict):
        raise ForeignBytes(f"an awareness state is {type(state).__name__}, not an object")
    return state


def _read_json(text: bytes, most: int) -> Any:
    nesting = 0
    if text.count(b"[") + text.count(b"{") > most:
        for found in _JSON_BRACKETS.finditer(text):
            bracket = found.group()
            if bracket in (b"[", b"{"):
                nesting += 1
                if nesting > most:
                    raise ForeignBytes(f"JSON is nested more than {most} levels deep")
            elif bracket in (b"]", b"}"):
                nesting -= 1
    try:
        return json.loads(text.decode(), parse_int=_parse_int, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ForeignBytes):
            raise
        raise ForeignBytes(f"JSON of {len(text)} bytes cannot be read: {error}") from None


def _parse_int(digits: str) -> int:
    if len(digits) > 400:  # Python takes time that grows with the square
        raise ForeignBytes(f"JSON has a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ForeignBytes(f"JSON has {name}, which browsers cannot read")
