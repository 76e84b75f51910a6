"""How edits come into a log once that several replicas may have to bring.

*Crossings* bring the edits of a document of another lineage.

A document that was opened, or went on, while the log could not be reached may have another lineage
than the log. Its edits are replayed on the log's document. Several may have them to bring: its own
server when that is back, another one that was given the same document, and the saver that finds
it noted beside the file. Nobody can know whether the others still live, so each asks the transport
how far that lineage was brought over already, and the first to go on decides for all with which
update that is done. The others apply the same one, which changes nothing.

The same is done with what another program has changed in the file: a saver that dies, or is cut
off, has perhaps brought that into the log, perhaps not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..core.content import document_of
from ..core.crdt import EMPTY_UPDATE
from ..core.envelopes import decode_crossing, encode_crossing
from ..core.errors import CodecError
from ..core.merging import edit_between
from ..core.reading import read
from ..core.values import Scope
from ..transports.base import SyncTransport

MAP = "saved"
KNOWN_MAX_BYTES = 16 * 1024 * 1024


class Known:
    """The crossings that one replica knows of, for a transport that forgets them."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}

    def add(self, key: str, value: str) -> None:
        """Keep a crossing in mind, and as many of those before it as there is room for."""
        self._there.pop(key, None)
        self._there[key] = value
        size = sum(map(len, self._there.values()))
        while size > KNOWN_MAX_BYTES:
            size -= len(self._there.pop(next(iter(self._there))))

    async def restore(self, transport: SyncTransport, scope: Scope) -> None:
        """Give back to the transport what it has forgotten of them.

        Raises:
            TransportError: if it cannot be reached.
        """
        if self._there:
            await transport.write_map(scope, MAP, dict(self._there), keep=True)


async def cross(
    transport: SyncTransport,
    scope: Scope,
    file_type: str,
    *,
    into: str,
    log: Sequence[bytes],
    lineage: str,
    document: bytes,
    base: Any,
    known: Known,
) -> list[bytes]:
    """Bring the edits of a document of another lineage into the log.

    Args:
        transport: where the log is.
        scope: the room.
        file_type: the contents type.
        into: the log's lineage.
        log: the log's updates, as far as it is read.
        lineage: the document's lineage.
        document: the document, as an update.
        base: the content that the document's edits are told from, if it is the first of its
            lineage that is brought over.
        known: is given the crossings.

    Returns:
        The updates that have to be applied to the log's document, and appended if they are new.

    Raises:
        TransportError: if the transport cannot be asked; nothing is lost, ask again.
    """
    carried: list[bytes] = []
    states: list[bytes] = []
    while True:
        # Lineages and counts have no blanks in them.
        key = f"crossing {lineage} {into} {len(carried) + 1}"
        there = await transport.read_map(scope, MAP, [key])
        if key not in there:
            before = read(document_of(file_type, *states)) if states else base
            after = read(document_of(file_type, *states, document))
            update = edit_between(file_type, [*log, *carried], before, after)
            if update is None:
                return carried
            ours = encode_crossing(document, update)
            there = await transport.write_map(scope, MAP, {key: ours}, keep=True)
            if there.get(key) == ours:
                known.add(key, ours)
                return [*carried, update]
        try:
            state, brought = await asyncio.to_thread(decode_crossing, there[key])
        except CodecError:
            # Whatever it is, nobody can have applied it.
            await transport.write_map(scope, MAP, {key: None})
            continue
        known.add(key, there[key])
        states.append(state)
        carried.append(brought)


async def agree(transport: SyncTransport, scope: Scope, key: str, update: bytes) -> bytes:
    """Return the update that stands for the change `key`: `update`, if nobody has brought that
    change into the log before.

    Raises:
        TransportError: if the transport cannot be asked; ask again.
    """
    ours = encode_crossing(EMPTY_UPDATE, update)
    there = await transport.write_map(scope, MAP, {key: ours}, keep=True)
    try:
        return (await asyncio.to_thread(decode_crossing, there.get(key, ours)))[1]
    except CodecError:
        await transport.write_map(scope, MAP, {key: ours})
        return update
