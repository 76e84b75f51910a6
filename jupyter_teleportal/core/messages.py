"""y-websocket's messages: what servers send, and what clients send made fewer. What those are is
found out by `update_walk`. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pycrdt import write_var_uint

from .crdt import merge
from .errors import ForeignBytes
from .update_walk import SYNC, UPDATE, Block, Blocks, Message, read_message, read_typed, read_update

_UPDATE_PREFIX = bytes((SYNC, UPDATE))


def update_in(message: bytes) -> bytes | None:
    """Return the update in a message that is nothing but a whole update; None for all others."""
    if message[:2] != _UPDATE_PREFIX:
        return None
    try:
        return read_message(message).payload
    except ForeignBytes:
        return None


def sync_message(step: int, data: bytes) -> bytes:
    """Return the message of a sync step; of a large document's `data` it makes one copy."""
    return b"".join((bytes((SYNC, step)), write_var_uint(len(data)), data))


class Received(NamedTuple):
    """What a client has sent.

    Attributes:
        message: its bytes, or those of one that stands for several updates.
        read: what it is; None if it cannot be read, for whoever handles it.
        blocks: the blocks of the update in it; None if they were not read yet.
    """

    message: bytes
    read: Message | None
    blocks: Sequence[Block] | None = None


def received(messages: Sequence[bytes]) -> list[Received]:
    """What a client has sent, read, with updates of the document that follow on each other as one.
    Those that cannot be one stay as they are."""
    found: list[Received] = []
    run: list[Received] = []
    for message in messages:
        try:
            one = Received(message, read_message(message))
        except ForeignBytes:
            one = Received(message, None)
        if message[:2] == _UPDATE_PREFIX and one.read is not None:
            run.append(one)
            continue
        if run:
            found += _received_as_one(run)
            run = []
        found.append(one)
    return found + _received_as_one(run)


def _received_as_one(run: list[Received]) -> list[Received]:
    if len(run) < 2:
        return run
    updates = [one.read.payload for one in run if one.read is not None]
    if (typed := read_typed(updates)) is not None:
        return [_one_update(*typed)]
    try:
        blocks = Blocks.together([read_update(update) for update in updates])
        merged = merge(updates)
    except ForeignBytes:
        return run
    # Otherwise they stand in another order in the one update, or twice.
    return [_one_update(merged, blocks if _follow_on_each_other(blocks) else None)]


def _one_update(update: bytes, blocks: Sequence[Block] | None) -> Received:
    return Received(sync_message(UPDATE, update), Message(SYNC, UPDATE, update), blocks)


def _follow_on_each_other(blocks: Sequence[Block]) -> bool:
    for before, after in pairwise(blocks):
        if before.client != after.client or before.clock + before.length != after.clock:
            return False
    return True


def together(messages: list[bytes]) -> list[bytes]:
    """The same messages, which a client is sent, with updates of the document that follow on each
    other as one."""
    if len(messages) < 2:
        return messages
    found: list[bytes] = []
    run: list[bytes] = []
    updates: list[bytes] = []
    for message in messages:
        update = update_in(message)
        if update is None:
            found += _as_one(run, updates)
            run, updates = [], []
            found.append(message)
        else:
            run.append(message)
            updates.append(update)
    return found + _as_one(run, updates)


def _as_one(messages: list[bytes], updates: list[bytes]) -> list[bytes]:
    if len(messages) < 2:
        return messages
    try:
        return [sync_message(UPDATE, merge(updates))]
    except ForeignBytes:
        return messages
