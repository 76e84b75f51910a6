"""Which entries of a room's log come into its document, and when.

What may not come in is *quarantined*: the document goes on without it. What lacks something is
*held*, until that comes, or nobody is left who has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from .completeness import Waiting
from .crdt import EMPTY_UPDATE, Door
from .errors import CodecError, ForeignBytes, NewerFormat
from .log_decoding import Decoded
from .log_effects import Apply, Effect, Position, Problem, Quarantined
from .update_walk import Id

QUARANTINED_MAX = 100
UNREAD_MAX = 100
_BLOCK_BYTES = 200
"""What a block of an entry takes that is kept."""


@dataclass
class Taken:
    """What may come into the document of entries that were read, where that is in the log, and what
    is wrong with the others."""

    updates: list[bytes] = field(default_factory=list)
    offsets: list[str] = field(default_factory=list)
    problems: list[Effect] = field(default_factory=list)

    def effects(self, before: Position) -> list[Effect]:
        apply = [Apply(tuple(self.updates), tuple(self.offsets), before)] if self.updates else []
        return [*apply, *self.problems]


class Intake:
    """Takes the entries of one room's log.

    Attributes:
        door: what comes into the document passes it.
        unread: entries in a later version's format, by offset, that are not quarantined.
        quarantined: offsets of the latest entries of the log without which the document goes on.
        held: entries of the log that lack something, which is waited for.
        given_up: entries that lack something and that the log may forget. Should it come, they are
            put back into the log.
    """

    def __init__(self, written: Callable[[int, bool], bool]) -> None:
        """
        Args:
            written: whether an entry in a later version's format is to be taken for one that a
                server of a later version has written, given the format, and whether that has to be
                known by now.
        """
        self.door = Door(limited=True)
        self.unread: dict[str, NewerFormat] = {}
        self.quarantined: deque[str] = deque(maxlen=QUARANTINED_MAX)
        self.held: Waiting[Decoded] = Waiting()
        self.given_up: Waiting[Decoded] = Waiting()
        self._written = written
        self._unread_format = 0

    @property
    def outdated(self) -> bool:
        """Whether the log holds something that only a newer version reads, so that this document
        is not all of it."""
        return self._unread_format > 0 and self._written(self._unread_format, False)

    @property
    def waits(self) -> bool:
        """Whether any entry lacks something."""
        return bool(self.held or self.given_up)

    def begin(self) -> None:
        """The whole log is read anew, and what was wrong with it is found out again."""
        self._unread_format = 0
        self.unread.clear()
        self.quarantined.clear()
        self.stop_waiting(self.held)

    def take_all(
        self, entries: Sequence[Decoded], door: Door | None, beginning: str | None
    ) -> tuple[tuple[bytes, ...], tuple[str, ...], list[Effect]]:
        """Return the updates that may come into the document, their offsets, and what is wrong with
        the others.

        Args:
            entries: what was read of the log.
            door: the door that they have passed, which is the document's from now on; None, if they
                have not passed any.
            beginning: where in the log is what the document begins with, if that is known.
        """
        if door is not None:
            door.known.state = self.door.known.state
            door.limited = True
            self.door = door
        taken = Taken()
        for entry in entries:
            begins = entry.offset == beginning
            self.take(entry, taken, checked=door is not None, begins=begins)
        return tuple(taken.updates), tuple(taken.offsets), taken.problems

    def take(
        self, entry: Decoded, taken: Taken, *, checked: bool = False, begins: bool = False
    ) -> None:
        """Take what may come into the document of an entry, and of those that have waited for it;
        `begins`: which begins with it."""
        self._take_one(entry, taken, checked=checked, begins=begins)
        while self.held and (coming := self.held.ready(self.door.known)):
            for one in coming:
                self._take_one(one, taken)

    def _take_one(
        self, entry: Decoded, taken: Taken, *, checked: bool = False, begins: bool = False
    ) -> None:
        error, update, lacks = entry.error, entry.update, entry.lacks
        if error is None and not checked:
            try:
                # Whoever has read it has weighed it.
                update, lacks = self.door.sift(entry.update, entry.blocks, weighed=True)
            except ForeignBytes as refused:
                error = refused
        if error is not None:
            taken.problems.append(self.quarantine(entry.offset, error, begins=begins))
            return
        if lacks is not None:
            self.given_up.remove(entry.offset)
            size = len(entry.update) + _BLOCK_BYTES * len(entry.blocks)
            for offset, other, missing in self.held.add(entry.offset, entry, lacks, size):
                self.given_up.add(offset, other, missing, len(other.update))
            if checked:
                return
        if update != EMPTY_UPDATE:
            taken.updates.append(update)
            taken.offsets.append(entry.offset)

    def release(self, taken: Taken) -> bool:
        """Take what need not wait any more; return whether the log may have forgotten any of it."""
        if not self.waits:
            return False
        self.door.known.look()
        while coming := self.held.ready(self.door.known):
            for entry in coming:
                self.take(entry, taken)
        forgotten = False
        while coming := self.given_up.ready(self.door.known):
            forgotten = True
            for entry in coming:
                self.take(entry, taken)
        return forgotten

    def give_up(self, offsets: Collection[str]) -> list[Effect]:
        """Nobody has put into the log what these entries lack."""
        effects: list[Effect] = []
        for offset, lacks in self.stop_waiting(offsets):
            effects.append(
                Quarantined(
                    f"entry {offset} of the log builds on item {lacks[1]} of client {lacks[0]}, "
                    "which no server has; the document goes on without it"
                )
            )
        return effects

    def stop_waiting(self, offsets: Iterable[str]) -> list[tuple[str, Id]]:
        """Give up the entries at these offsets; return where they are, and what each lacks."""
        stopped = []
        for offset in list(offsets):
            if (found := self.held.remove(offset)) is not None:
                entry, lacks = found
                self.given_up.add(offset, entry, lacks, len(entry.update))
                stopped.append((offset, lacks))
        return stopped

    def quarantine(
        self, offset: str, error: CodecError, *, begins: bool = False
    ) -> Problem | Quarantined:
        """An entry is passed over, because it cannot be read or applied; the document goes on
        without it. Where the document `begins` with it, nothing else may be taken for the
        document meanwhile."""
        if isinstance(error, NewerFormat) and (not begins or self._written(error.format, True)):
            self._unread_format = max(self._unread_format, error.format)
            if self.outdated:
                if len(self.unread) < UNREAD_MAX:
                    self.unread[offset] = error
                return Problem(
                    f"entry {offset} of the log cannot be read, so this server does not save the "
                    f"document: {error}"
                )
        return self._pass_over(offset, error)

    def pass_over_unread(self) -> list[Quarantined]:
        """Nobody has written the entries in a later version's format who says so: the document goes
        on without them."""
        unread = list(self.unread.items())
        self.unread.clear()
        return [self._pass_over(offset, error) for offset, error in unread]

    def _pass_over(self, offset: str, error: CodecError) -> Quarantined:
        if offset not in self.quarantined:
            self.quarantined.append(offset)
        return Quarantined(
            f"entry {offset} of the log is passed over, and the document goes on without it: "
            f"{error}"
        )
