"""What a room's replication comes to: how it stands, and what there is to be done.

Effects are carried out in their order, `Apply` and `Convert` at once, and the others in the
background, each with the one call of the `Replicator` that ends it:

============== ===============================================================================
effect         ends with
============== ===============================================================================
`Read`         `read_done` with the effect and what was read, or `failed` with the effect
`Append`       `append_done` with the effect, or `failed` with the effect
`AppendState`  the same, or `nothing_to_append` if there is nothing
`Seed`         `seed_done` with the effect, or `failed` with the effect
`LoadContent`  `provide`, or nothing at all if the content cannot be loaded
`Linger`       `lingered`, some 50 ms later
`Gapped`       `look_again`, some time later
`Apply`        nothing if it is done; `failed` with the effect if not, and then the effects
`Convert`      after it are not carried out: what they are about is found out anew
============== ===============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from .values import ZERO_OFFSET


class Phase(Enum):
    """Where a replicator stands."""

    AWAY = "away"
    """Not following the log: the transport is not there, or refused something."""
    JOINING = "joining"
    """Reading the log, or seeding it."""
    LIVE = "live"
    """Following the log."""


@dataclass(frozen=True)
class Effect:
    """Something to be done; compared by identity of `number`."""

    number: int = field(default_factory=count(1).__next__, init=False)


@dataclass(frozen=True)
class Read(Effect):
    """Read the log `log` after `after`; from its checkpoint on if `log` is None."""

    log: str | None
    after: str


@dataclass(frozen=True)
class Append(Effect):
    """Append these updates, merged, as one entry of `log`."""

    log: str
    updates: tuple[bytes, ...]


@dataclass(frozen=True)
class AppendState(Effect):
    """Append what the document holds now, before the next effect, beyond the state vector
    `since`."""

    log: str
    since: bytes


@dataclass(frozen=True)
class Seed(Effect):
    """Create the log with `update`, or with the whole document if that is None."""

    lineage: str
    update: bytes | None


@dataclass(frozen=True)
class LoadContent(Effect):
    """Nobody has seeded this document: load it from its file and `provide` it."""


@dataclass(frozen=True)
class Position:
    """How far a document holds which log."""

    log: str | None = None
    lineage: str | None = None
    offset: str = ZERO_OFFSET


@dataclass(frozen=True)
class Apply(Effect):
    """Apply these updates to the document. They are everybody's, so they are not appended.
    `offsets` says where they are in the log, if they come from there; `before`, how far the
    document was."""

    updates: tuple[bytes, ...]
    offsets: tuple[str, ...] = ()
    before: Position = Position()


@dataclass(frozen=True)
class Convert(Effect):
    """The document has another lineage than the log, whose whole content is `updates`: make the
    document the log's, and bring what was changed in it over as an edit."""

    updates: tuple[bytes, ...]
    lineage: str
    before: Position


@dataclass(frozen=True)
class Gapped(Effect):
    """The log lacks something that others may still hold: ask them to put it back, and look again
    with `look_again`. If nobody does, the log `log`, which ended at `tail`, is worth nothing and
    has to go."""

    updates: tuple[bytes, ...]
    log: str
    tail: str


@dataclass(frozen=True)
class Linger(Effect):
    """An entry came before its predecessor; see whether that comes by itself."""


@dataclass(frozen=True)
class Problem(Effect):
    """Something to tell the log about: an entry that cannot be read."""

    message: str


@dataclass(frozen=True)
class Quarantined(Effect):
    """Something to tell the log about: an entry that the document goes on without."""

    message: str
