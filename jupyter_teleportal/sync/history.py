"""A YStore over a room's log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from logging import Logger, getLogger

from pycrdt.store import BaseYStore, YDocNotFound

from ..core.crdt import Door, Sieve
from ..core.envelopes import decode_payload, encode_payload
from ..core.errors import CodecError
from ..core.values import Scope
from ..transports.base import SyncTransport


class RedisYStore(BaseYStore):
    """The history of a room, as its log keeps it.

    For a room that is linked to a transport the link appends, in order and knowing what came from
    where; then the store only reads (`appends` is False) and `write` does nothing.
    """

    def __init__(
        self,
        path: str,
        metadata_callback: Callable[[], Awaitable[bytes] | bytes] | None = None,
        log: Logger | None = None,
        *,
        transport: SyncTransport,
        share: str = "default",
        appends: bool = True,
    ) -> None:
        """
        Args:
            path: the room's id.
            metadata_callback: not used; the log keeps the time of each update by itself.
            log: where to log.
            transport: any started transport, Redis or not.
            share: the share that the room belongs to.
            appends: whether `write` appends to the log.
        """
        self.path = path
        self.metadata_callback = metadata_callback
        self.log = log or getLogger(__name__)
        self._transport = transport
        self._scope = Scope(share, path)
        self._appends = appends

    async def write(self, data: bytes) -> None:
        """Append the Y update `data` to the log, creating it if there is none.

        Raises:
            TransportError: if the log cannot be reached.
        """
        if not self._appends:
            return
        payload = encode_payload(data)
        seeded = await self._transport.seed_log(self._scope, "empty", "store", payload)
        if not seeded.won:
            await self._transport.append_log(self._scope, seeded.log, "store", payload)

    async def read(self) -> AsyncIterator[tuple[bytes, bytes, float]]:
        """Yield the updates of the room from the oldest on, each with empty metadata and the time
        in seconds since the epoch at which it was appended.

        Raises:
            YDocNotFound: if the room has no log.
            TransportError: if the log cannot be reached.
        """
        history = await self._transport.read_history(self._scope)
        if not history.entries and history.base is None:
            raise YDocNotFound
        found = [(history.base, 0.0)] if history.base is not None else []
        found += [(entry.payload, _seconds(entry.offset)) for entry in history.entries]
        sieve = Sieve(Door())
        for payload, time in found:
            try:
                for update in sieve.put(decode_payload(payload)):
                    yield update, b"", time
            except CodecError as error:
                self.log.warning("The history of room %s has a gap: %s", self.path, error)
        if left := len(sieve.left()):
            self.log.warning(
                "The history of room %s has a gap: %s of its updates build on others that are not "
                "there",
                self.path,
                left,
            )


def _seconds(offset: str) -> float:
    return int(offset.split("-")[0]) / 1000
