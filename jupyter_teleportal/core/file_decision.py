"""What it means for a document that its file holds what it holds: facts in, one outcome out.

A file that is not as this replica left it may hold another server's save, half of one, another
program's change, or something that nobody can explain. `TABLE` says what to do in each case. It is
read from the top, and the first row that fits counts. A fact that a row does not name does not
matter there, so it need not be found out: `decide` asks for the facts one by one, as it needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum


class Outcome(Enum):
    """What has to be done. What is kept in a copy is kept first; if that fails, nothing is done."""

    GIVE_WAY = "give way"
    """Nothing: another replica saves the document."""
    STEP_DOWN = "step down"
    """Save nothing until the transport is back: another replica may have written the file. Its
    edits come by the log; taken from the file as well, they would be there twice."""
    WAIT = "wait"
    """Look again a little later: this may be another document's file."""
    ACCEPT = "accept"
    """The document holds all that the file does, so it may be written over the file."""
    KEEP_FILE = "keep file, accept"
    """The same, once what the file holds is kept in a copy."""
    TAKE = "take"
    """Bring what was changed in the file into the document, as an edit."""
    KEEP_DOCUMENT = "keep document, take"
    """The same, once what the document holds is kept in a copy."""
    WRITE_AGAIN = "write again"
    """The file holds half of something that the document holds: write it, whatever it holds."""
    KEEP_HALF = "keep file, write again"
    """The same, once what the file holds is kept in a copy."""


@dataclass(frozen=True)
class Facts:
    """What is known of a file and its document; None: not found out yet. In a row of the table,
    None stands for "whatever it is"."""

    saver: bool | None = None
    """This replica is the one that writes the file."""
    shared: bool | None = None
    """It can ask the others: the transport is there, and takes what is asked of it."""
    held: bool | None = None
    """It has known what the file holds, and the file was written since."""
    half: bool | None = None
    """A server died while it wrote into the file, and what is missing is nowhere."""
    begun: bool | None = None
    """What there is of it is how the document begins, or can be read by nobody."""
    own: bool | None = None
    """The file holds what this replica has written or accepted, and the document all of that."""
    superseded: bool | None = None
    """Another replica has saved something else since."""
    saved: bool | None = None
    """A saver says that it has written just this, or was about to."""
    lacking: bool | None = None
    """The document lacks some of the edits that this saver had, and nobody could be asked for
    them."""
    elsewhere: bool | None = None
    """The document's file may have been renamed by a server that could not say so yet."""
    noted: bool | None = None
    """A note beside the file says that just this was written, and the note's edits are in the
    document; they may have been written over what was saved last."""
    changed: bool | None = None
    """Another program has changed what a server wrote last, by its note or by what the savers say.
    Nobody can know that where one of several notes may be meant, or where a later save may have
    been forgotten together with the end of the log."""
    seeded: bool | None = None
    """The file holds what the log began with."""
    refused: bool | None = None
    """The document has not let the change in."""
    same: bool | None = None
    """The document holds just what the file holds."""
    unsaved: bool | None = None
    """The document holds what the file did not hold before the change."""
    merges: bool | None = None
    """Merging leaves what both have changed as each of them made it."""


TABLE: tuple[tuple[Facts, Outcome], ...] = (
    # Whether it is this replica's business.
    (Facts(saver=False), Outcome.GIVE_WAY),
    (Facts(shared=False, held=True), Outcome.STEP_DOWN),
    # A save that was cut off.
    (Facts(half=True, begun=True), Outcome.WRITE_AGAIN),
    (Facts(half=True), Outcome.KEEP_HALF),
    # A server has written it.
    (Facts(own=True, superseded=False), Outcome.ACCEPT),
    (Facts(saved=True, lacking=False), Outcome.ACCEPT),
    (Facts(saved=True, same=True), Outcome.ACCEPT),
    (Facts(saved=True), Outcome.KEEP_FILE),
    (Facts(shared=True, elsewhere=True), Outcome.WAIT),
    (Facts(noted=True), Outcome.ACCEPT),
    # Another program has changed it.
    (Facts(shared=False, own=False, changed=True), Outcome.STEP_DOWN),
    (Facts(own=False, changed=True, refused=True), Outcome.KEEP_FILE),
    (Facts(own=False, changed=True, same=True), Outcome.ACCEPT),
    (Facts(own=False, changed=True, unsaved=False), Outcome.TAKE),
    (Facts(own=False, changed=True, merges=True), Outcome.TAKE),
    (Facts(own=False, changed=True), Outcome.KEEP_DOCUMENT),
    # Nobody has written it, or nobody can know who has. What this replica wrote before a later save
    # was put back by another program, or by this replica if it was frozen while it wrote.
    (Facts(own=False, seeded=True), Outcome.ACCEPT),
    (Facts(shared=False), Outcome.STEP_DOWN),
    (Facts(same=True), Outcome.ACCEPT),
    (Facts(), Outcome.KEEP_FILE),
)

NAMES = tuple(field.name for field in fields(Facts))
_ROWS = tuple(
    (
        tuple((name, wanted) for name in NAMES if (wanted := getattr(facts, name)) is not None),
        outcome,
    )
    for facts, outcome in TABLE
)


def decide(facts: Facts) -> Outcome | str:
    """Return what has to be done, or the name of the fact that has to be found out first."""
    for row, outcome in _ROWS:
        for name, wanted in row:
            if (known := getattr(facts, name)) is None:
                return name
            if known is not wanted:
                break
        else:
            return outcome
    raise AssertionError("the last row always fits")
