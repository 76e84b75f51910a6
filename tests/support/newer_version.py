"""A Jupyter server extension for tests: makes this server one of a later version.

What it is given in TELEPORTAL_NEWER says in which way: `kinds` it sends envelopes of a kind and of
a version that this version does not know, `announcements` it announces entries in a later
version's envelopes, `payloads` it stores them in a later version's format.
"""

from __future__ import annotations

import os
from typing import Any

VARIABLE = "TELEPORTAL_NEWER"
LATER_FORMAT = b"\x02"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "support.newer_version"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    {"kinds": _kinds, "announcements": _announcements, "payloads": _payloads}[
        os.environ[VARIABLE]
    ]()


def _kinds() -> None:
    from jupyter_teleportal.core import envelopes
    from jupyter_teleportal.sync.live_doc import LiveDoc

    on_update = LiveDoc._on_update

    class Later(envelopes.Envelope):
        kind = b"Z"

    def also_send(self: LiveDoc, event: Any) -> None:
        on_update(self, event)
        room = self._room
        room.channel.publish(Later(room.replica.id))
        known = envelopes.Notice(room.replica.id, "later", {"what": "a notice nobody knows"})
        room.channel.publish(known)
        room.background.spawn(
            room.replica.transport.publish(
                room.scope, bytes((envelopes.VERSION + 1,)) + known.encode()[1:]
            )
        )

    LiveDoc._on_update = also_send  # type: ignore[method-assign]


def _announcements() -> None:
    from jupyter_teleportal.core import envelopes
    from jupyter_teleportal.transports.redis import scripts, transport

    decode = envelopes.decode_envelope

    def decode_both(data: bytes) -> envelopes.Envelope:
        return decode(bytes((envelopes.VERSION,)) + data[1:] if data[:1] == b"\x02" else data)

    from jupyter_teleportal.jupyter import file_ids, presence
    from jupyter_teleportal.sync import room_link

    for module in (room_link, file_ids, presence):
        module.decode_envelope = decode_both  # type: ignore[attr-defined]
    for name in ("APPEND", "SEED"):
        now = getattr(scripts, name)
        assert "'\\1E'" in now.source
        later = scripts.Script(
            " ".join(now.keys), " ".join(now.arguments), now.source.replace("'\\1E'", "'\\2E'")
        )
        setattr(scripts, name, later)
        assert getattr(transport.scripts, name) is later


def _payloads() -> None:
    from jupyter_teleportal.core import envelopes, log_decoding
    from jupyter_teleportal.files import share_agreement
    from jupyter_teleportal.sync import compaction, effects, history

    share_agreement.FORMAT = LATER_FORMAT[0]  # type: ignore[misc]

    decode = envelopes.decode_payload

    def decode_both(payload: bytes, *limits: int) -> bytes:
        return payload[1:] if payload[:1] == LATER_FORMAT else decode(payload, *limits)

    def encode_later(update: bytes) -> bytes:
        return LATER_FORMAT + update

    for module in (compaction, log_decoding, effects, history):
        if hasattr(module, "decode_payload"):
            module.decode_payload = decode_both  # type: ignore[attr-defined]
        if hasattr(module, "encode_payload"):
            module.encode_payload = encode_later  # type: ignore[attr-defined]
