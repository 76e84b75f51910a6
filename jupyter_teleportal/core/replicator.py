"""The replicator: how one room on one replica follows the room's log, with no I/O.

Events go in as method calls, what is to be done comes out as a list of effects. There is no
clock, no await and no transport in here, so that thousands of schedules of several replicas, with
messages lost, repeated and reordered, run in seconds.

What whoever drives a `Replicator` has to do with the effects is said in `log_effects`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .completeness import Waiting
from .crdt import NOTHING, Door, merge, state_of
from .envelopes import EntryEnvelope
from .errors import ForeignBytes
from .intake import Intake, Taken
from .log_decoding import Decoded, decoded, decoded_log, lineage_of
from .log_effects import (
    Append,
    AppendState,
    Apply,
    Convert,
    Effect,
    Gapped,
    Linger,
    LoadContent,
    Phase,
    Position,
    Read,
    Seed,
)
from .values import ZERO_OFFSET, Appended, LogRead, Seeded, offset_key

OUTBOX_MAX_BYTES = 1024 * 1024
OUTBOX_MAX_UPDATES = 10_000
EARLY_MAX_ENTRIES = 1000


@dataclass
class Replicator:
    """One room's replication, as a state machine.

    Args:
        sender: names the author of entries; unique to this room, replica and opening.
        writable: whether this replica may append.
        written: whether an entry in a later version's format is to be taken for one that a server
            of a later version has written, given the format, and whether that has to be known by
            now.
    """

    sender: str
    writable: bool = True
    written: Callable[[int, bool], bool] = lambda format, now: True
    phase: Phase = field(default=Phase.AWAY, init=False)
    log: str | None = field(default=None, init=False)
    lineage: str | None = field(default=None, init=False)
    offset: str = field(default=ZERO_OFFSET, init=False)
    intake: Intake = field(init=False)
    """Which of the log's entries come into the document: through its door, at once or later."""
    door: Door = field(init=False)
    """What comes into the document passes it."""
    held: Waiting[Decoded] = field(init=False)
    given_up: Waiting[Decoded] = field(init=False)
    quarantined: deque[str] = field(init=False)
    _outbox: list[bytes] = field(default_factory=list, init=False)
    _outbox_bytes: int = field(default=0, init=False)
    _sending: Effect | None = field(default=None, init=False)
    _reading: Effect | None = field(default=None, init=False)
    _unlisted: bool = field(default=False, init=False)
    _early: dict[str, EntryEnvelope] = field(default_factory=dict, init=False)
    _lingering: bool = field(default=False, init=False)
    _looking: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.intake = Intake(self.written)
        self.door, self.held = self.intake.door, self.intake.held
        self.given_up, self.quarantined = self.intake.given_up, self.intake.quarantined

    # -- what the shell asks ---------------------------------------------------------------

    @property
    def outdated(self) -> bool:
        """Whether the log holds something that only a newer version reads, so that this document
        is not all of it."""
        return self.intake.outdated

    @property
    def unacknowledged(self) -> int:
        """How many local updates the log is not known to hold; a collapsed outbox counts one."""
        sending = self._sending
        under_way = (
            len(sending.updates) if isinstance(sending, Append) else int(sending is not None)
        )
        return len(self._outbox) + under_way + int(self._unlisted)

    @property
    def settled(self) -> bool:
        """Whether the room follows the log and the log holds everything that the room holds."""
        return self.phase is Phase.LIVE and not self.unacknowledged

    def waits_for(self, effect: Effect) -> bool:
        """Whether `effect` has not ended, nor anything has made it needless."""
        return effect is self._reading or effect is self._sending

    # -- events ----------------------------------------------------------------------------

    def connected(self) -> list[Effect]:
        """The transport is there (again), so messages may have been missed."""
        self._take_back()
        return self._rejoin()

    def disconnected(self) -> list[Effect]:
        """The transport is gone."""
        self._take_back()
        self.phase = Phase.AWAY
        self._reading = None
        self._looking = False
        return []

    def local_update(self, update: bytes) -> list[Effect]:
        """The document was changed here, by a client or by the server."""
        if not self.writable or (self._unlisted and self.phase is not Phase.LIVE):
            return []
        self._outbox.append(update)
        self._outbox_bytes += len(update)
        if len(self._outbox) > 1 and (
            self._outbox_bytes > OUTBOX_MAX_BYTES or len(self._outbox) > OUTBOX_MAX_UPDATES
        ):
            self._clear_outbox()
            self._unlisted = True
        return self._send()

    def entry(self, envelope: EntryEnvelope) -> list[Effect]:
        """An entry was announced on the channel."""
        if envelope.log != self.log and self.phase is Phase.LIVE:
            return self._rejoin()
        self._early[envelope.previous] = envelope
        if self.phase is not Phase.LIVE:
            if len(self._early) > EARLY_MAX_ENTRIES:
                # What is dropped here shows as a gap later.
                self._early.clear()
            waiting = self._reading is None and self._sending is None and not self._looking
            if self.phase is Phase.JOINING and waiting:
                return self._rejoin()
            return []
        return self._advance()

    def lingered(self) -> list[Effect]:
        """The time is up that a missing entry had to come by itself."""
        self._lingering = False
        if self._early and self.phase is Phase.LIVE:
            return self._rejoin()
        return []

    def observed(self, log: str | None, tail: str, offset_then: str) -> list[Effect]:
        """Somebody looked at the log, when this room's offset was `offset_then`."""
        if self.phase is not Phase.LIVE:
            stuck = self._reading is None and self._sending is None and not self._looking
            return self._rejoin() if stuck and (log is not None or self.lineage) else []
        if log != self.log:
            return self._rejoin()
        if self.intake.waits:
            taken = Taken()
            self._release(taken)
            if taken.updates:
                return [*taken.effects(self._position), *self._send()]
        if offset_key(tail) < offset_key(offset_then):
            return self.reconcile()
        if offset_key(tail) > offset_key(self.offset) and self._sending is None:
            return self._rejoin()
        if self._unlisted and self._sending is None:
            return self.reconcile()
        return []

    def reconcile(self) -> list[Effect]:
        """Read the whole log and append what it lacks."""
        if self.phase is Phase.AWAY:
            return []
        self._unlisted = True
        return self._rejoin()

    def look_again(self) -> list[Effect]:
        """Somebody may have filled the gap in the log, or the log is gone."""
        self._looking = False
        return self._rejoin() if self.phase is Phase.JOINING else []

    def provide(self, lineage: str, update: bytes) -> list[Effect]:
        """The content that `LoadContent` asked for."""
        if self.log is not None or self.lineage is not None or self._sending is not None:
            return []
        if not self.writable:
            # Whoever may write will seed the log; until then this replica shows the file.
            self.lineage = lineage
            return [Apply((update,))]
        if self.phase is Phase.AWAY:
            self.lineage = lineage
            self._unlisted = True
            return [Apply((update,))]
        return self._begin(Seed(lineage, update))

    def converts(self, read: LogRead) -> bool:
        """Whether `read_done` will answer `read` with a `Convert`."""
        if read.log is None or read.contiguous or self.lineage is None or not read.gapless:
            return False
        return lineage_of(read.log) != self.lineage

    def misses(self, read: LogRead) -> bool:
        """Whether the log has lost entries between what this room has and what `read` holds."""
        if read.log is None or read.contiguous or lineage_of(read.log) != self.lineage:
            return False
        return not read.gapless_after(self.offset if read.log == self.log else ZERO_OFFSET)

    def lost_by(self, read: LogRead) -> str | None:
        """Where this room is in its log, if that has lost what was there, and perhaps more before
        it; None, if it has not."""
        if read.log is None or read.log != self.log or read.contiguous:
            return None
        here = offset_key(self.offset)
        kept = here <= offset_key(read.checkpoint_offset) or any(
            offset_key(entry.offset) == here for entry in read.entries
        )
        return None if kept else self.offset

    def read_done(
        self,
        effect: Read,
        read: LogRead,
        entries: Sequence[Decoded] | None = None,
        door: Door | None = None,
    ) -> list[Effect]:
        """The log was read.

        Args:
            effect: what asked for it.
            read: what it holds.
            entries: the same, decoded, if that was done already.
            door: the door that the entries have passed, if they have passed one. It has to be one
                that nothing else has passed, and the room one that has no lineage.
        """
        if self._reading is not effect:
            return []
        self._reading = None
        if read.log is None:
            return self._vanished()
        if not read.contiguous:
            self.intake.begin()
        if entries is None:
            entries = decoded_log(read)
        beginning = None if read.contiguous else self._beginning(read)
        updates, offsets, effects = self.intake.take_all(entries, door, beginning)
        self.door = self.intake.door
        if read.contiguous:
            return [*effects, *self._catch_up(read, updates, offsets)]
        lineage, fresh, before = lineage_of(read.log), self.lineage is None, self._position
        if lineage != self.lineage and not (read.gapless and self._begins(read)):
            # Taken for the whole document, it would be saved as such.
            self._looking = True
            self.held.clear()
            self.door.unapplied()
            return [*effects, Gapped(updates, read.log, read.tail)]
        if lineage != self.lineage:
            self.given_up.clear()
        if fresh and self.writable:
            # What the room itself wrote before it had any content.
            effects += self._begin(AppendState(read.log, NOTHING))
        if fresh or self.lineage == lineage:
            effects.append(Apply(updates, offsets, before))
        else:
            effects.append(Convert(updates, lineage, before))
        self.log, self.lineage, self.offset = read.log, lineage, read.tail
        self.phase = Phase.LIVE
        if not self.writable:
            self._unlisted = False
        elif not fresh and self._sending is not None:
            self._unlisted = True
        elif not fresh:
            effects += self._begin(AppendState(read.log, _state_of(updates)))
        return [*effects, *self._advance()]

    def append_done(self, effect: Effect, appended: Appended) -> list[Effect]:
        if self._sending is not effect:
            return []
        self._sending = None
        assert isinstance(effect, Append | AppendState)
        if effect.log == self.log and offset_key(appended.offset) > offset_key(self.offset):
            own = EntryEnvelope(self.sender, effect.log, appended.previous, appended.offset, None)
            self._early.setdefault(appended.previous, own)
        return self._advance() if self.phase is Phase.LIVE else []

    def nothing_to_append(self, effect: AppendState) -> list[Effect]:
        """The log holds all that the document holds."""
        if self._sending is not effect:
            return []
        self._sending = None
        return self._advance() if self.phase is Phase.LIVE else []

    def seed_done(self, effect: Seed, seeded: Seeded) -> list[Effect]:
        if self._sending is not effect:
            return []
        self._sending = None
        if not seeded.won:
            if effect.update is None:
                self._unlisted = True
            return self._rejoin(seeded=True)
        self.log, self.lineage, self.offset = seeded.log, effect.lineage, seeded.offset
        self.phase = Phase.LIVE
        if effect.update is None:
            return self._advance()
        return [
            *self._begin(AppendState(seeded.log, NOTHING)),
            Apply((effect.update,)),
            *self._advance(),
        ]

    def failed(self, effect: Effect, *, changed: bool = False, full: bool = False) -> list[Effect]:
        """`effect` raised an error; `changed`: the log is another one; `full`: it takes nothing so
        large."""
        if isinstance(effect, Apply | Convert):
            self._take_back()
            self.door.unapplied()
            here = offset_key(effect.before.offset)
            if isinstance(effect, Apply) and any(offset_key(o) <= here for o in effect.offsets):
                # What has waited would not be read again.
                self._unlisted = True
            self.log, self.lineage = effect.before.log, effect.before.lineage
            self.offset = effect.before.offset
            self._reading, self._lingering = None, False
            self.phase = Phase.AWAY
        elif effect is self._reading:
            self._reading = None
            self.phase = Phase.AWAY
        elif effect is self._sending:
            self._take_back()
            if changed:
                return self._rejoin()
            if full:
                # Updates hold what was deleted since, the document's state does not.
                self._clear_outbox()
                self._unlisted = True
            self.phase = Phase.AWAY
        return []

    # -- inside ----------------------------------------------------------------------------

    @property
    def _position(self) -> Position:
        return Position(self.log, self.lineage, self.offset)

    def _rejoin(self, *, seeded: bool = False) -> list[Effect]:
        """Read what follows on what this room has; everything, if that is not enough."""
        if self._reading is not None:
            return []
        self.phase = Phase.JOINING
        whole = seeded or self._unlisted or self.log is None
        effect = Read(None, ZERO_OFFSET) if whole else Read(self.log, self.offset)
        self._reading = effect
        return [effect]

    def _vanished(self) -> list[Effect]:
        self.log = None
        if self.lineage is None:
            return [LoadContent()]
        self.intake.stop_waiting(self.held)
        if not self.writable:
            return []
        return self._begin(Seed(self.lineage, None)) if self._sending is None else []

    def _begins(self, read: LogRead) -> bool:
        """Whether the beginning of the document, or what stands for it, is not quarantined."""
        return self._beginning(read) not in self.quarantined

    @staticmethod
    def _beginning(read: LogRead) -> str | None:
        """Where in the log is what the document begins with, if that is known."""
        if read.checkpoint is not None:
            return read.checkpoint_offset
        first = read.entries[0] if read.entries else None
        begins = first is not None and first.previous in (None, ZERO_OFFSET)
        return first.offset if first is not None and begins else None

    def _catch_up(
        self, read: LogRead, updates: tuple[bytes, ...], offsets: tuple[str, ...]
    ) -> list[Effect]:
        effects: list[Effect] = [Apply(updates, offsets, self._position)] if updates else []
        if offset_key(read.tail) > offset_key(self.offset):
            self.offset = read.tail
        self.phase = Phase.LIVE
        return [*effects, *self._advance()]

    def _advance(self) -> list[Effect]:
        """Apply what follows on the offset, as far as it is there, and send what waits."""
        if self.offset not in self._early and not self.intake.waits:
            return [*self._clean_early(), *self._send()]
        taken = Taken()
        effects: list[Effect] = []
        before = self._position
        while (envelope := self._early.get(self.offset)) is not None:
            if envelope.log != self.log:
                break
            own = envelope.replica == self.sender
            if envelope.payload is None and not own:
                effects += self._rejoin()
                break
            entry = None
            if not own and envelope.payload is not None:
                entry = decoded(envelope.offset, envelope.payload)
                if self.door.is_dear(entry.blocks):
                    # Whoever reads the log tries what is in it first.
                    effects += self._rejoin()
                    break
            del self._early[self.offset]
            self.offset = envelope.offset
            if entry is not None:
                self.intake.take(entry, taken)
        self._release(taken)
        effects = [*taken.effects(before), *effects, *self._clean_early()]
        return [*effects, *self._send()]

    def _release(self, taken: Taken) -> None:
        """Take what need not wait any more."""
        if self.intake.release(taken):
            # The log may have forgotten it.
            self._unlisted = True

    def _clean_early(self) -> list[Effect]:
        if not self._early:
            return []
        here = offset_key(self.offset)
        for previous, envelope in list(self._early.items()):
            if envelope.log != self.log or offset_key(envelope.offset) <= here:
                del self._early[previous]
            elif offset_key(previous) < here and self.phase is Phase.LIVE:
                # The log goes on from before where this room is: it has forgotten something, unless
                # somebody only says so. If it has, it does not hold where this room is, and the
                # read is one of the whole log.
                self._early.clear()
                return self._rejoin()
        if self._early and not self._lingering and self.phase is Phase.LIVE:
            self._lingering = True
            return [Linger()]
        return []

    def _send(self) -> list[Effect]:
        if self._sending is not None or self.phase is not Phase.LIVE or self.log is None:
            return []
        if self._unlisted:
            return self.reconcile()
        if not self._outbox:
            return []
        effect = Append(self.log, tuple(self._outbox))
        self._clear_outbox()
        self._sending = effect
        return [effect]

    def _begin(self, effect: Seed | AppendState) -> list[Effect]:
        """Send the document's state, which holds whatever is in the outbox."""
        if not isinstance(effect, Seed) or effect.update is None:
            self._clear_outbox()
            self._unlisted = False
        self._sending = effect
        return [effect]

    def _take_back(self) -> None:
        """Whatever was under way may not have arrived."""
        if isinstance(self._sending, Append):
            self._outbox[:0] = self._sending.updates
            self._outbox_bytes += sum(map(len, self._sending.updates))
        elif self._sending is not None:
            self._unlisted = True
        self._sending = None

    def _clear_outbox(self) -> None:
        self._outbox.clear()
        self._outbox_bytes = 0


def _state_of(updates: tuple[bytes, ...]) -> bytes:
    """The state vector of updates; that of none, where the library cannot read all of them, so that
    rather too much is appended."""
    try:
        return state_of(merge(updates)) if updates else NOTHING
    except ForeignBytes:
        return NOTHING
