"""Bytes to messages and back, with no I/O.

Three formats, described byte by byte in ``docs/protocol.md``:

*Envelopes* travel on a channel and are never stored. One byte version, one byte kind, the number
of short fields that the kind has, each as one length byte and that many bytes of UTF-8, then the
body, which is all the rest. The Lua script that appends to a log writes the same bytes.

*Payloads* are what a log stores: one flag byte, then a Y update, deflated where that pays. Flags
below 16 belong to this and to later versions: a replica that meets one it does not know, and that
a server of the share says it writes, neither saves nor compacts the room, because it lacks what the
entry holds. Anything else is garbage.

*Notes* lie beside a file that was saved while the transport was away: a line of JSON, then the
saver's document as a payload.

*Crossings* are kept in a map of the room: the version, then two payloads in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from isal import isal_zlib

from .crdt import check_update
from .errors import CodecError, ForeignBytes, NewerFormat
from .update_walk import read_state
from .values import offset_key

VERSION = 1
COMPRESS_ABOVE_BYTES = 1024
MAX_UPDATE_BYTES = 256 * 1024 * 1024
"""No deflated update is larger. Documents are some hundred kilobytes, with large outputs some
megabytes."""
MAX_RATIO = 300
"""So many times its size a payload may inflate to, where that is more than `FREE_BYTES`: logs with
the same line again and again come to half of that."""
FREE_BYTES = 64 * 1024 * 1024
STATE_MAX_BYTES = 16 * 1024
"""A state vector of some thousand clients."""

FORMAT = 1
"""The highest flag of what this version writes."""
FORMATS_BELOW = 16
_RAW = b"\x00"
_DEFLATED = b"\x01"
_Damaged: Any = isal_zlib.error  # its stub takes the class for an instance
# 10 MB/s saved is not worth it where less than a tenth is won.
_WORTHWHILE = 0.9


def encode_payload(update: bytes) -> bytes:
    """Return the Y update `update` as it is stored in a log."""
    if len(update) > COMPRESS_ABOVE_BYTES:
        deflated = isal_zlib.compress(update, 1)
        if len(deflated) < _WORTHWHILE * len(update) and len(update) <= _most(len(deflated)):
            return _DEFLATED + deflated
    return _RAW + update


def _most(deflated: int) -> int:
    """How many bytes may come out of so many deflated ones."""
    return min(MAX_UPDATE_BYTES, max(FREE_BYTES, MAX_RATIO * deflated))


def decode_payload(payload: bytes, most: int | None = None) -> bytes:
    """Return the Y update in `payload`.

    Args:
        payload: what a log holds.
        most: so many bytes may come out, if that is less than `MAX_UPDATE_BYTES`.

    Raises:
        NewerFormat: if the flag is one that a later version may use.
        CodecError: if the flag is unknown, the data is damaged, or the update is too large.
    """
    flag, size = payload[:1], len(payload) - 1
    if flag == _RAW:
        if most is not None and size > most:
            raise CodecError(f"{size} bytes are more than the {most} that may come out")
        return payload[1:]
    if flag != _DEFLATED and flag and flag[0] < FORMATS_BELOW:
        raise NewerFormat(
            f"it has format {flag[0]}, which a newer version of jupyter_teleportal has written; "
            "install that version on this server too",
            flag[0],
        )
    if flag != _DEFLATED:
        raise CodecError(f"payload of {len(payload)} bytes has the unknown flag {flag!r}")
    most = min(_most(size), MAX_UPDATE_BYTES if most is None else most)
    update, whole = _inflate(payload, most)
    if not whole:
        raise CodecError(
            f"payload of {len(payload)} bytes is cut off or inflates to over {most} bytes"
        )
    return update


def encode_state(state: bytes) -> str:
    """Return a state vector as a saver notes it of the file; nothing, if it is too long."""
    return base64.b64encode(state).decode() if len(state) <= STATE_MAX_BYTES else ""


def decode_state(text: str) -> bytes | None:
    """Return the state vector that a saver has noted; None if it has not, or none that can be
    read."""
    if not text or len(text) > 2 * STATE_MAX_BYTES:
        return None
    try:
        state = base64.b64decode(text, validate=True)
        read_state(state)
    except ValueError:
        return None
    return state


def _inflate(payload: bytes, most: int) -> tuple[bytes, bool]:
    """What a deflated payload inflates to, up to `most` bytes, and whether that is all."""
    inflater = isal_zlib.decompressobj()
    # Of a large payload each copy takes as long as a third of its inflation. What the inflater is
    # given beyond what it needs is copied, too.
    data, piece = memoryview(payload), max(most, COMPRESS_ABOVE_BYTES)
    parts: list[bytes] = []
    left = most
    for start in range(1, len(data), piece):
        deflated = data[start : start + piece]
        try:
            # One more, which is none; no limit is meant by none at all.
            part = inflater.decompress(deflated, left + 1)
        except _Damaged as error:
            raise CodecError(
                f"payload of {len(payload)} bytes cannot be inflated: {error}"
            ) from error
        parts.append(part)
        left -= len(part)
        if inflater.eof or left < 0:
            break
    return b"".join(parts), inflater.eof and left >= 0


def inflated_within(payloads: Iterable[bytes], most: int) -> list[bytes] | None:
    """Return payloads that hold the same updates, not deflated; None, if they are larger than
    `most` bytes together. It takes no longer than that many take.

    What cannot be inflated stays as it is.
    """
    found: list[bytes] = []
    for payload in payloads:
        if payload[:1] == _DEFLATED:
            try:
                update, whole = _inflate(payload, most)
            except CodecError:
                found.append(payload)
                continue
            if not whole and len(update) > most:
                return None
            if whole:
                payload = _RAW + update
        most -= len(payload)
        if most < 0:
            return None
        found.append(payload)
    return found


def encode_note(lineage: str, base: Any, update: bytes) -> bytes:
    """Return the note that a saver leaves beside a file when it cannot reach the transport.

    Args:
        lineage: the lineage of the saver's document.
        base: the content that the document's edits are to be told from; None if it is not known.
        update: the saver's document, as it is about to write it.
    """
    try:
        told = json.dumps(base)
    except (TypeError, ValueError):
        told = "null"  # a document type of its own, whose content is no JSON
    header = f'{{"version": {VERSION}, "lineage": {json.dumps(lineage)}, "base": {told}}}'
    return header.encode() + b"\n" + encode_payload(update)


def decode_note(note: bytes) -> tuple[str, Any, bytes]:
    """Return the lineage, the base and the update of a note.

    Raises:
        CodecError: if it is no note, or one of another version.
    """
    lineage, base, payload = _note_parts(note)
    return lineage, base, _decode_update(payload, "a note")


def lineage_noted(note: bytes) -> str:
    """Return the lineage of a note.

    Raises:
        CodecError: if it is no note, or one of another version.
    """
    return _note_parts(note)[0]


def _note_parts(note: bytes) -> tuple[str, Any, bytes]:
    header, _, payload = note.partition(b"\n")
    try:
        fields = json.loads(header)
        version, lineage, base = fields["version"], fields["lineage"], fields["base"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CodecError(f"a note of {len(note)} bytes has no header: {error!r}") from error
    if version != VERSION or not isinstance(lineage, str):
        raise CodecError(f"a note of version {version!r}, this replica reads version {VERSION}")
    return lineage, base, payload


def encode_crossing(state: bytes, update: bytes) -> str:
    """Return what the transport keeps of edits that were brought over from a lost lineage.

    Args:
        state: the document of the other lineage up to which they are brought over, as an update.
        update: the same edits, as an update of the log's document.
    """
    parts = (base64.b64encode(encode_payload(part)).decode() for part in (state, update))
    return " ".join((str(VERSION), *parts))


def decode_crossing(text: str) -> tuple[bytes, bytes]:
    """Return the state and the update of a crossing.

    Raises:
        CodecError: if it is none, or one of another version.
    """
    version, _, parts = text.partition(" ")
    if version != str(VERSION):
        raise CodecError(f"a crossing of version {version[:9]!r}, not {VERSION}")
    try:
        state, update = (base64.b64decode(part, validate=True) for part in parts.split(" "))
    except ValueError as error:
        raise CodecError(f"a crossing of {len(text)} characters is damaged: {error}") from error
    return _decode_update(state, "a crossing"), _decode_update(update, "a crossing")


def _decode_update(payload: bytes, where: str) -> bytes:
    update = decode_payload(payload)
    try:
        check_update(update)
    except ForeignBytes as error:
        raise CodecError(f"the update in {where} is refused: {error}") from error
    return update


@dataclass(frozen=True)
class Envelope:
    """Base of the messages on a channel. `replica` is the sender."""

    kind: ClassVar[bytes] = b""
    replica: str

    def short_fields(self) -> tuple[str, ...]:
        return ()

    def body(self) -> bytes:
        return b""

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> Envelope:
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return the envelope's bytes.

        Raises:
            CodecError: if a short field is longer than 255 bytes.
        """
        parts = [bytes((VERSION,)), self.kind]
        for field in (self.replica, *self.short_fields()):
            raw = field.encode()
            if len(raw) > 255:
                raise CodecError(f"a field of {len(raw)} bytes does not fit into an envelope")
            parts += (bytes((len(raw),)), raw)
        parts.append(self.body())
        return b"".join(parts)


@dataclass(frozen=True)
class EntryEnvelope(Envelope):
    """A new entry of the log: `payload` is None where it has to be read from the log."""

    kind: ClassVar[bytes] = b"E"
    log: str
    previous: str
    offset: str
    payload: bytes | None

    def short_fields(self) -> tuple[str, ...]:
        return (self.log, self.previous, self.offset)

    def body(self) -> bytes:
        return self.payload or b""

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> EntryEnvelope:
        replica, log, previous, offset = fields
        for value in (previous, offset):
            offset_key(value)
        return cls(replica, log, previous, offset, body or None)


@dataclass(frozen=True)
class AwarenessEnvelope(Envelope):
    """An awareness update, as y-protocols encodes it."""

    kind: ClassVar[bytes] = b"A"
    update: bytes

    def body(self) -> bytes:
        return self.update

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> AwarenessEnvelope:
        return cls(fields[0], body)


@dataclass(frozen=True)
class AwarenessQuery(Envelope):
    """Asks every replica for the awareness states of its own clients."""

    kind: ClassVar[bytes] = b"Q"

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> AwarenessQuery:
        return cls(*fields)


@dataclass(frozen=True)
class SaveRequest(Envelope):
    """Asks the saver to write the file now."""

    kind: ClassVar[bytes] = b"S"
    request: str

    def short_fields(self) -> tuple[str, ...]:
        return (self.request,)

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> SaveRequest:
        return cls(*fields)


@dataclass(frozen=True)
class SaveReply(Envelope):
    """The saver's answer; `problem` is empty if the file was written."""

    kind: ClassVar[bytes] = b"R"
    request: str
    problem: str

    def short_fields(self) -> tuple[str, ...]:
        return (self.request,)

    def body(self) -> bytes:
        # A file name in it may hold bytes that are no text.
        return self.problem.encode(errors="backslashreplace")

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> SaveReply:
        return cls(fields[0], fields[1], body.decode())


@dataclass(frozen=True)
class Notice(Envelope):
    """Something that happened to a room or a share, by name, with JSON details."""

    kind: ClassVar[bytes] = b"N"
    name: str
    details: dict[str, Any]

    def short_fields(self) -> tuple[str, ...]:
        return (self.name,)

    def body(self) -> bytes:
        return json.dumps(self.details, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, fields: list[str], body: bytes) -> Notice:
        details = json.loads(body)
        if not isinstance(details, dict):
            raise CodecError("the details of a notice are no JSON object")
        return cls(fields[0], fields[1], details)


_KINDS: dict[bytes, tuple[type[Envelope], int]] = {
    EntryEnvelope.kind: (EntryEnvelope, 4),
    AwarenessEnvelope.kind: (AwarenessEnvelope, 1),
    AwarenessQuery.kind: (AwarenessQuery, 1),
    SaveRequest.kind: (SaveRequest, 2),
    SaveReply.kind: (SaveReply, 2),
    Notice.kind: (Notice, 2),
}


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope in `data`.

    Raises:
        CodecError: if the version or kind is unknown, or the bytes are cut off or damaged.
    """
    if len(data) < 2:
        raise CodecError(f"an envelope of {len(data)} bytes is too short")
    if data[0] != VERSION:
        raise CodecError(f"envelope of version {data[0]}, this replica reads version {VERSION}")
    known = _KINDS.get(data[1:2])
    if known is None:
        raise CodecError(f"envelope of the unknown kind {data[1:2]!r}")
    envelope_type, count = known
    fields, position = [], 2
    try:
        for _ in range(count):
            start = position + 1
            position = start + data[position]
            if position > len(data):
                raise CodecError(f"envelope of kind {data[1:2]!r} is cut off")
            fields.append(data[start:position].decode())
        return envelope_type.parse(fields, data[position:])
    except IndexError as error:
        raise CodecError(f"envelope of kind {data[1:2]!r} is cut off") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"envelope of kind {data[1:2]!r} cannot be read: {error}") from error
