"""Edits that are made beforehand, and how many of them have arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pycrdt import Array, Doc, Text, get_state, merge_updates

_STRING_AFTER = b"\x84"
_CHECKED = 300
"""So many edits are compared with pycrdt's: past the clocks at which a number grows by a byte."""


def varint(number: int) -> bytes:
    """Return `number` as lib0 writes an unsigned integer."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the unsigned integer at `position`, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def clocks(state: bytes) -> Iterator[tuple[int, int]]:
    """Yield (client id, clock) for each client of a state vector."""
    count, position = read_varint(state, 0)
    for _ in range(count):
        client, position = read_varint(state, position)
        clock, position = read_varint(state, position)
        yield client, clock


def clock_of(state: bytes, author: int) -> int:
    """Return the clock of one client in a state vector; 0 if it is not there."""
    return next((clock for client, clock in clocks(state) if client == author), 0)


def appended(own: bytes, number: int) -> bytes:
    """Return the author's edit `number` (from 1 on), as an update.

    Args:
        own: the author's client id as `varint` writes it.
    """
    return b"".join(
        (b"\x01\x01", own, varint(number), _STRING_AFTER, own, varint(number - 1), b"\x01x\x00")
    )


class Pen:
    """One author who appends one character after the other to a text.

    The first edit is pycrdt's and says where the text is; each further one follows on the one
    before it, so that it differs from that one in two numbers only.

    Args:
        author: the client id; nobody else may write under it.
        document: what the room holds, as an update.
        cell: the text is the source of this cell; None: the root text `source`.
    """

    def __init__(self, author: int, document: bytes, cell: int | None) -> None:
        self.author = author
        self.written = 0
        self._own = varint(author)
        self._first, *others = _reference(author, document, cell)
        for number, expected in enumerate(others, 1):
            if appended(self._own, number) != expected:
                raise AssertionError(f"edit {number} is {expected.hex()} to pycrdt")

    def write(self, count: int = 1) -> list[bytes]:
        """Return the next `count` edits, each an update."""
        start = self.written
        self.written += count
        return [
            appended(self._own, number) if number else self._first
            for number in range(start, self.written)
        ]


def _reference(author: int, document: bytes, cell: int | None) -> list[bytes]:
    """The author's first edits as pycrdt makes them."""
    doc: Doc[Any] = Doc(client_id=author)
    doc.apply_update(document)
    text = (
        doc.get("source", type=Text)
        if cell is None
        else doc.get("cells", type=Array)[cell]["source"]
    )
    updates: list[bytes] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    for _ in range(_CHECKED):
        text.insert(len(text), "x")
    doc.unobserve(subscription)
    return updates


class Counter:
    """Counts one author's edits in updates of which it keeps nothing.

    `seen` is the number of edits that have arrived without a gap.
    """

    def __init__(self, author: int) -> None:
        self.author = author
        self.seen = 0
        self.gaps = 0
        """How often an edit came before the one that it follows."""
        self._own = varint(author)
        self._early: list[bytes] = []

    def take(self, update: bytes) -> None:
        """Count what `update` brings."""
        if self.seen and not self._early and update == appended(self._own, self.seen):
            self.seen += 1
            return
        if self._own not in update:
            return
        # What has arrived stands as one deleted stretch before the update; merged, the state
        # vector reaches as far as there is no gap.
        known = b"\x01\x01" + self._own + b"\x00\x00" + varint(self.seen) + b"\x00"
        stretch = (known,) if self.seen else ()
        state = get_state(merge_updates(*stretch, *self._early, update))
        clock = clock_of(state, self.author)
        if clock > self.seen:
            self.seen = clock
            self._early = [early for early in self._early if self._later(early)]
        elif self._later(update):
            self.gaps += 1
            self._early.append(update)

    def _later(self, update: bytes) -> bool:
        """Whether what the author has in `update` begins after what was seen."""
        begins, _ = read_varint(update, update.find(self._own) + len(self._own))
        return begins > self.seen
