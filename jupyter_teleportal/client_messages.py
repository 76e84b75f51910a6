"""What a browser may send: y-websocket's messages, looked at before anybody else gets them.

Formats: https://github.com/yjs/y-protocols (sync.js, awareness.js), lib0's variable-length
integers and strings. No I/O.
"""

from __future__ import annotations

import json

from pycrdt import Decoder, merge_updates, write_var_uint

from .errors import CodecError

SYNC, AWARENESS, RAW = 0, 1, 2
STEP1, STEP2, UPDATE = 0, 1, 2
_UPDATE_PREFIX = bytes((SYNC, UPDATE))
_LENGTH_MAX_BYTES = 8


def check_message(message: object) -> None:
    """Make sure that a client's message is whole. Kinds that are not known here are another
    extension's affair, and an update that is no update is found out when it is applied.

    Raises:
        CodecError: saying what is wrong with it.
    """
    if not isinstance(message, bytes):
        raise CodecError("it is text")
    if not message:
        raise CodecError("it is empty")
    if update_in(message) is not None:
        return
    try:
        _check(Decoder(message))
    except (IndexError, RuntimeError) as error:
        raise CodecError("it is cut off") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"its text cannot be read: {error}") from error


def update_in(message: bytes) -> bytes | None:
    """Return the update in a message that is nothing but a whole update; None for all others."""
    if message[:2] != _UPDATE_PREFIX:
        return None
    size, shift = 0, 0
    for position in range(2, min(len(message), _LENGTH_MAX_BYTES + 2)):
        byte = message[position]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            update = message[position + 1 :]
            return update if len(update) == size else None
        shift += 7
    return None


def sync_message(step: int, data: bytes) -> bytes:
    """Return the message of a sync step; of a large document's `data` it makes one copy."""
    return b"".join((bytes((SYNC, step)), write_var_uint(len(data)), data))


def together(messages: list[bytes]) -> list[bytes]:
    """The same messages, with updates of the document that follow on each other as one."""
    if len(messages) < 2:
        return messages
    found: list[bytes] = []
    run: list[bytes] = []
    for message in messages:
        if update_in(message) is None:
            found += _as_one(run)
            run = []
            found.append(message)
        else:
            run.append(message)
    return found + _as_one(run)


def _as_one(messages: list[bytes]) -> list[bytes]:
    if len(messages) < 2:
        return messages
    updates = [update for message in messages if (update := update_in(message)) is not None]
    try:
        return [sync_message(UPDATE, merge_updates(*updates))]
    except ValueError:
        return messages  # one of them is none, which is found out when it is applied


def _check(decoder: Decoder) -> None:
    kind = decoder.read_var_uint()
    if kind == SYNC:
        step = decoder.read_var_uint()
        if step > UPDATE:
            raise CodecError(f"it is of the unknown sync step {step}")
        _payload(decoder)
    elif kind == AWARENESS:
        check_awareness(_payload(decoder))
    elif kind == RAW:
        decoder.read_var_string()
        _not_cut_off(decoder)


def check_awareness(update: bytes) -> set[int]:
    """Return the client ids that an awareness update is about (a count, then for each client its
    id, its clock and its state as JSON).

    Raises:
        IndexError, RuntimeError: if it is cut off.
        ValueError: if a state is no JSON.
    """
    decoder = Decoder(update)
    clients = set()
    for _ in range(decoder.read_var_uint()):
        clients.add(decoder.read_var_uint())
        decoder.read_var_uint()
        json.loads(decoder.read_var_string())
        _not_cut_off(decoder)
    return clients


def _payload(decoder: Decoder) -> bytes:
    payload = decoder.read_message()
    _not_cut_off(decoder)
    if payload is None:
        raise CodecError("it is cut off")
    return payload


def _not_cut_off(decoder: Decoder) -> None:
    # A decoder hands out what there is, and counts below zero.
    if decoder.length < 0:
        raise CodecError("it is cut off")
