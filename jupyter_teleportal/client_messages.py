"""y-websocket's messages: what servers send, and what clients send made fewer. What those are is
found out by `update_walk`. No I/O."""

from __future__ import annotations

from pycrdt import write_var_uint

from .crdt import merge
from .errors import ForeignBytes
from .update_walk import SYNC, UPDATE, read_message, read_update

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


def together(messages: list[bytes], *, foreign: bool = False) -> list[bytes]:
    """The same messages, with updates of the document that follow on each other as one.

    Args:
        messages: what a client is sent, or has sent.
        foreign: whether a client has sent it. What cannot be read stays as it is, for whoever
            handles it.
    """
    if len(messages) < 2:
        return messages
    found: list[bytes] = []
    run: list[bytes] = []
    updates: list[bytes] = []
    for message in messages:
        update = update_in(message)
        if update is None:
            found += _as_one(run, updates, foreign)
            run, updates = [], []
            found.append(message)
        else:
            run.append(message)
            updates.append(update)
    return found + _as_one(run, updates, foreign)


def _as_one(messages: list[bytes], updates: list[bytes], foreign: bool) -> list[bytes]:
    if len(messages) < 2:
        return messages
    try:
        if foreign:
            for update in updates:
                read_update(update)
        return [sync_message(UPDATE, merge(updates))]
    except ForeignBytes:
        return messages
