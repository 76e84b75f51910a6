"""Forged updates that the CRDT library takes long to merge: many items at one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycrdt import Doc, Map, Text

from support.hostile import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_teleportal.core.update_walk import Id

FIRST = 1000


def anchored(length: int = 50_000) -> bytes:
    """A document with a long text of one client, and a character of it at the beginning."""
    doc: Doc = Doc(client_id=1)
    doc["source"] = text = Text()
    text += "x" * length
    text.insert(0, "y")
    return doc.get_update()


def insertions(
    clients: Iterable[int],
    left: Callable[[int], Id | None] = lambda _: (1, 0),
    right: Callable[[int], Id | None] = lambda _: None,
    parent: bytes = b"\x01\x06source",
    key: bytes = b"",
) -> bytes:
    """One item of each client: `left` and `right` of the number of the client among them."""
    blocks = []
    for number, client in enumerate(clients):
        after, before = left(number), right(number)
        info = 4 | (0x80 if after else 0) | (0x40 if before else 0) | (0x20 if key else 0)
        block = b"\x01" + varint(client) + b"\x00" + bytes((info,))
        for item in (after, before):
            if item is not None:
                block += varint(item[0]) + varint(item[1])
        if after is None and before is None:
            block += parent + (varint(len(key)) + key if key else b"")
        blocks.append(block + b"\x01z")
    return varint(len(blocks)) + b"".join(blocks) + b"\x00"


def of_one_client(client: int, count: int) -> bytes:
    """So many items of one client at one place."""
    blocks = b"".join(b"\xc4\x01\x00\x01\x01\x01z" for _ in range(count))
    return b"\x01" + varint(count) + varint(client) + b"\x00" + blocks + b"\x00"


def twice(count: int, **where: object) -> list[bytes]:
    """Two such updates: the library takes those of the second one from the last client on."""
    return [
        insertions(range(first, first + count), **where)  # type: ignore[arg-type]
        for first in (FIRST, FIRST + count)
    ]


def of_one_client_in_a_run(client: int, count: int) -> bytes:
    """So many items of one client, each between two others of the long text."""
    blocks = b"".join(
        b"\xc4\x01" + varint(3 * n) + b"\x01" + varint(3 * n + 1) + b"\x01z" for n in range(count)
    )
    return b"\x01" + varint(count) + varint(client) + b"\x00" + blocks + b"\x00"


def deletions(count: int) -> bytes:
    """Every other character of the long text is deleted."""
    ranges = b"".join(varint(2 * n) + b"\x01" for n in range(count))
    return b"\0\x01\x01" + varint(count) + ranges


def behind_each_other(client: int, count: int, before: Callable[[int], int]) -> bytes:
    """So many items of one client, each behind the one before, and `before` another of the long
    text."""
    blocks = b"\xc4\x01\x00\x01\x01\x01z" + b"".join(
        b"\xc4" + varint(client) + varint(n) + b"\x01" + varint(before(n)) + b"\x01z"
        for n in range(count - 1)
    )
    return b"\x01" + varint(count) + varint(client) + b"\x00" + blocks + b"\x00"


def waiting_for_each_other(count: int) -> bytes:
    """One item of each of so many clients, each behind that of the client before."""
    return insertions(
        range(FIRST, FIRST + count), left=lambda n: (FIRST + n - 1, 0) if n else (1, 0)
    )


def with_key() -> bytes:
    doc: Doc = Doc(client_id=1)
    doc["state"] = Map({"a": 1})
    return doc.get_update()


COUNT = 5_000
ATTACKS: dict[str, list[bytes]] = {
    "one place": [anchored(), *twice(COUNT)],
    "before a far one": [anchored(), *twice(COUNT, right=lambda _: (1, 49_999))],
    "before the first": [anchored(), *twice(COUNT, right=lambda _: (1, 1))],
    "within a run": [anchored(), *twice(COUNT, left=lambda n: (1, n))],
    "within a run, backwards": [anchored(), *twice(COUNT, left=lambda n: (1, 40_000 - n))],
    "at the beginning": [anchored(), *twice(COUNT, left=lambda _: None)],
    "before what is at the beginning": [
        anchored(),
        *twice(COUNT, left=lambda _: None, right=lambda _: (1, 50_000)),
    ],
    "of one key": [
        with_key(),
        *twice(COUNT, left=lambda _: None, parent=b"\x01\x05state", key=b"a"),
    ],
    "behind one of a key": [with_key(), *twice(COUNT, left=lambda _: (1, 0))],
    "in an empty document": twice(COUNT, left=lambda _: None),
    "of one client": [anchored(), *(of_one_client(FIRST + n, COUNT) for n in range(5))],
    "deletions": [anchored(400_000), deletions(200_000)],
    "between two of a run": [
        anchored(1_000_000),
        of_one_client_in_a_run(FIRST, 100_000),
    ],
    "before others of a run": [
        anchored(400_000),
        behind_each_other(FIRST, 100_000, lambda n: 399_990 - 3 * n),
    ],
    "few in one long text": [
        anchored(8_000_000),
        behind_each_other(FIRST, 500, lambda n: 7_999_990 - 10 * n),
    ],
}
