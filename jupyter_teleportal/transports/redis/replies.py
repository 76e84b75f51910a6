"""What the replies of Redis say of logs, servers and values, of which others may have written any.
No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import LogChanged
from ...core.values import Entry

_NAME_MAX_BYTES = 200
_OFFSET = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_PRINTABLE = bytes(range(0x21, 0x7F))


@dataclass(frozen=True)
class Joined:
    """What a log begins with for who joins.

    Attributes:
        log: its id; None if there is none.
        offset: the checkpoint's.
        entries_bytes: bytes of all entries, as far as they were counted.
        tail: the offset of its last entry; None if it is not known.
    """

    log: str | None
    offset: str
    entries_bytes: int
    tail: str | None


@dataclass(frozen=True)
class Page:
    """A part of a log.

    Attributes:
        log: the id of the log that is there.
        entries: entries of it, if it is the one that was asked for.
        large: bytes of the payloads that are not in there, by offset.
        last: whether nothing follows.
    """

    log: str | None
    entries: list[Entry]
    large: Mapping[str, int]
    last: bool

    def expect(self, log: str) -> None:
        """
        Raises:
            LogChanged: if it is another log's.
        """
        if self.log != log:
            raise LogChanged(f"the log is {self.log or 'gone'}, not {log}")

    def up_to_the_large(self, first: str) -> Page:
        """The same, as far as payloads are there; that of the entry at `first` need not be."""
        for number, entry in enumerate(self.entries):
            if entry.offset in self.large and entry.offset != first:
                return replace(self, entries=self.entries[:number], last=False)
        return self


def page_of(reply: Any, log: str) -> Page:
    """A page as `READ` answers it."""
    if not reply[0]:
        return Page(text_of(reply[1]) or None, [], {}, last=True)
    entries: list[Entry] = []
    large: dict[str, int] = {}
    for raw, parts in reply[1]:
        offset = text_of(raw)
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        if isinstance(fields.get(b"u"), int):
            large[offset] = fields.pop(b"u")
        entries.append(entry_of(offset, fields))
    return Page(log, entries, large, bool(reply[2]))


def entry_of(offset: str, fields: Mapping[bytes, Any]) -> Entry:
    """An entry. A field that is missing makes an empty payload, which the reader reports and passes
    over."""
    payload, replica = fields.get(b"u", b""), fields.get(b"r", b"")
    return Entry(offset, payload, text_of(replica), offset_of(fields.get(b"p")))


def text_of(raw: Any) -> str:
    """What others may have written, as text; nothing, if it is none."""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else ""


def offset_of(raw: Any) -> str | None:
    """`raw` as the offset of an entry; None if it is none."""
    return raw.decode() if isinstance(raw, bytes) and _OFFSET.fullmatch(raw) else None


def expect(log: str, reply: list[bytes]) -> None:
    """
    Raises:
        LogChanged: if a script did nothing, because it was about `log` and there is another one.
    """
    if not reply[0]:
        there = reply[1].decode() or "gone"
        changed = f"the log is {there}, not {log}" if there != log else f"{log} has gone on"
        raise LogChanged(changed)


def name_of(raw: bytes | None) -> str | None:
    """`raw` as a name of ours, which is short and of printable ASCII; None if it is none."""
    if raw and len(raw) <= _NAME_MAX_BYTES and not raw.translate(None, _PRINTABLE):
        return raw.decode()
    return None
