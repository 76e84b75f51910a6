"""Which right each of a client's messages needs, and what becomes of a client's rights.

No I/O: `admission` asks Jupyter's identity provider and authorizer, and acts.
"""

from __future__ import annotations

from dataclasses import dataclass

from .crdt import EMPTY_UPDATE
from .update_walk import AWARENESS, STEP1, STEP2, SYNC, UPDATE

READ, WRITE = "read", "write"
"""The actions that an Authorizer is asked for, as Jupyter names them."""

QUERY_AWARENESS = 3
_NOTHING = bytes((len(EMPTY_UPDATE),)) + EMPTY_UPDATE


@dataclass(frozen=True)
class Rights:
    """What a client may do with a room's document.

    Attributes:
        read: get the document, and take part in the awareness of who is there.
        write: change the document, and have it saved.
    """

    read: bool = False
    write: bool = False


NONE = Rights()


def needed_right(message: bytes) -> str:
    """Return the right that a client needs for its y-websocket message.

    A question for what the client lacks, who is there, and a document's update that holds nothing
    need `READ`; whatever changes or saves something, and what is not known here, needs `WRITE`.
    """
    if message[:1] in (bytes((AWARENESS,)), bytes((QUERY_AWARENESS,))):
        return READ
    if message[:2] == bytes((SYNC, STEP1)):
        return READ
    if message[:2] in (bytes((SYNC, STEP2)), bytes((SYNC, UPDATE))) and message[2:] == _NOTHING:
        return READ
    return WRITE


def allows(rights: Rights, message: bytes) -> bool:
    """Whether a client with these rights may send the message."""
    return rights.write if needed_right(message) == WRITE else rights.read


def rights_after(
    before: Rights, *, known: bool | None, read: bool | None, write: bool | None
) -> Rights:
    """Return a client's rights after it was asked again what it may do.

    Args:
        before: its rights so far.
        known: whether its token or cookie is still good.
        read, write: what the authorizer says. Of all three None means that there was no answer,
            which changes nothing: whoever answers may be restarting.
    """
    if known is False:
        return NONE
    may_read = before.read if read is None else read
    may_write = before.write if write is None else write
    return Rights(read=may_read, write=may_read and may_write)


def next_question_s(interval_s: float, fraction: float) -> float:
    """Return how long to wait until everybody's rights are asked for again.

    Args:
        interval_s: the longest that it may be.
        fraction: random, from 0 to 1, so that servers do not all ask the hub at the same time.
    """
    return interval_s * (0.7 + 0.3 * fraction)
