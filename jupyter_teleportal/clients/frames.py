"""WebSocket frames in bulk, as far as browsers send them while people type, with no I/O.

What is understood here is a whole binary message in one masked frame (RFC 6455, section 5.2).
Everything else (text, fragments, control frames, extensions) is somebody else's to read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

_BINARY = 0x82
"""The first byte of a frame that is the only one of a binary message."""
_MASKED = 0x80
_NO_MASK = b"\0\0\0\0"


@dataclass(frozen=True)
class Taken:
    """What a buffer begins with.

    Attributes:
        messages: the messages.
        size: how many bytes of the buffer they took.
        other: whether a frame follows that is not understood here; otherwise one that is not
            whole yet, or nothing.
        more: whether a message may follow that was not taken.
    """

    messages: list[bytes]
    size: int
    other: bool
    more: bool = False


def take_messages(
    buffer: bytearray,
    unmask: Callable[[bytes, bytes], bytes],
    max_bytes: int,
    max_messages: int = sys.maxsize,
) -> Taken:
    """Return the messages that `buffer` begins with.

    Args:
        buffer: bytes from a client.
        unmask: returns the data of a frame, given its mask and what came.
        max_bytes: a larger message is not understood.
        max_messages: so many are taken at most.
    """
    messages: list[bytes] = []
    start, there = 0, len(buffer)
    while there - start >= 2:
        if buffer[start] != _BINARY or not buffer[start + 1] & _MASKED:
            return Taken(messages, start, True)
        length = buffer[start + 1] & 0x7F
        mask_at = start + 2
        if length >= 126:
            size_of_length = 2 if length == 126 else 8
            mask_at += size_of_length
            length = int.from_bytes(buffer[start + 2 : mask_at], "big")
        end = mask_at + 4 + length
        if length > max_bytes and mask_at <= there:
            return Taken(messages, start, True)
        if end > there:
            break
        mask, data = bytes(buffer[mask_at : mask_at + 4]), bytes(buffer[mask_at + 4 : end])
        messages.append(data if mask == _NO_MASK else unmask(mask, data))
        start = end
        if len(messages) >= max_messages:
            return Taken(messages, start, other=False, more=True)
    return Taken(messages, start, False)


def binary_frame(message: bytes) -> bytes:
    """Return the frame in which a server sends a binary message."""
    return frame_head(len(message)) + message


def frame_head(size: int) -> bytes:
    """Return what the frame of a server's binary message of `size` bytes begins with."""
    if size < 126:
        return bytes((_BINARY, size))
    if size <= 0xFFFF:
        return bytes((_BINARY, 126)) + size.to_bytes(2, "big")
    return bytes((_BINARY, 127)) + size.to_bytes(8, "big")
