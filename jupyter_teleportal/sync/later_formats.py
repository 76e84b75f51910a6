"""Which later formats of payloads the servers of a share are known to write."""

from __future__ import annotations

from ..transports.base import loop_time
from .cluster import Replica

SAID_WITHIN_BEATS = 3
"""Within so many heartbeats a server learns which formats the others of a share write."""


class LaterFormats:
    """What is known of that since one room was opened."""

    def __init__(self, replica: Replica, share: str) -> None:
        self._replica = replica
        self._share = share
        self._spoken = 0
        self._unread_since: float | None = None

    def written(self, format: int, now: bool) -> bool:
        """Whether a server that is alive, or has been since the room was opened, says that it
        writes `format`. Until all can have learnt of it, it may be so, unless that has to be known
        `now`. One server after the other may say so; who waits for it waits once."""
        said = self._replica.formats.get(self._share, 0)
        self._spoken = max(self._spoken, said)
        if self._spoken >= format or now:
            return self._spoken >= format
        if self._unread_since is None:
            self._unread_since = loop_time()
        waited_s = loop_time() - self._unread_since
        return waited_s < SAID_WITHIN_BEATS * self._replica.timing.heartbeat_interval_s
