"""Entries of a room's log: read, and checked for a document that has nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .completeness import Waiting
from .crdt import Door
from .envelopes import decode_payload
from .errors import CodecError, ForeignBytes
from .update_walk import Block, Id, read_update
from .values import LogRead

MAX_LOG_BYTES = 512 * 1024 * 1024
"""So much comes out of one reading of a log. What a checkpoint and the entries after it hold is one
document and its latest edits."""


def lineage_of(log: str) -> str:
    """The lineage in the log id ``lineage/epoch``."""
    return log.split("/", 1)[0]


@dataclass(frozen=True)
class Decoded:
    """An entry of a log, as far as it can be read.

    Attributes:
        offset: where it is in the log.
        update: its update.
        blocks: the update's blocks.
        error: why it cannot be read; then there is no update.
        lacks: the first item that it builds on and that is not there, once that is known.
    """

    offset: str
    update: bytes = b""
    blocks: Sequence[Block] = ()
    error: CodecError | None = None
    lacks: Id | None = None

    def __post_init__(self) -> None:
        # Its frames hold what was read, hundreds of megabytes of what inflates to that.
        if self.error is not None:
            self.error.__traceback__ = self.error.__cause__ = self.error.__context__ = None


def decoded(offset: str, payload: bytes, most: int | None = None) -> Decoded:
    """Read an entry of a log, whose update has no more than `most` bytes."""
    try:
        update = decode_payload(payload, most)
        return Decoded(offset, update, read_update(update))
    except CodecError as error:
        return Decoded(offset, error=error)


def decoded_log(read: LogRead, most_blocks: int | None = None) -> list[Decoded]:
    """Read the checkpoint, if there is one, and the entries of a log, up to `MAX_LOG_BYTES`. With
    `most_blocks` no more of them than have so many blocks together, and one more."""
    offsets = [entry.offset for entry in read.entries]
    if read.checkpoint is not None:
        offsets.insert(0, read.checkpoint_offset)
    found: list[Decoded] = []
    left, blocks = MAX_LOG_BYTES, 0
    for offset, payload in zip(offsets, read.payloads, strict=True):
        found.append(decoded(offset, payload, left))
        left -= len(found[-1].update)
        blocks += len(found[-1].blocks)
        if most_blocks is not None and blocks >= most_blocks:
            break
    return found


def admitted(entries: Sequence[Decoded], door: Door) -> list[Decoded]:
    """What may come in of a log's entries, checked at the door of a document that has nothing else:
    in an order in which each builds on those before, and then those that lack something."""
    found: list[Decoded] = []
    waiting: Waiting[Decoded] = Waiting()
    gone: list[Decoded] = []
    for entry in entries:
        coming = [entry]
        while coming:
            for one in coming:
                if one.error is None:
                    try:
                        update, lacks = door.sift(one.update, one.blocks)
                    except ForeignBytes as error:
                        one = Decoded(one.offset, error=error)
                    else:
                        if lacks is not None:
                            waits, size = replace(one, lacks=lacks), len(one.update)
                            gone += [
                                old for _, old, _ in waiting.add(one.offset, waits, lacks, size)
                            ]
                        one = Decoded(one.offset, update)
                found.append(one)
            coming = waiting.ready(door.known)
    left = [waiting.remove(offset) for offset in list(waiting)]
    return [*found, *gone, *(one[0] for one in left if one is not None)]
