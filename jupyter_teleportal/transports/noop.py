"""The transport of a server that shares nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from logging import Logger, getLogger
from typing import Any

from ..core.errors import TransportError, TransportUnavailable
from ..core.values import (
    Appended,
    ClusterView,
    History,
    LeaseView,
    LeaseWish,
    LogRead,
    LogSize,
    Scope,
    Seeded,
)
from .base import Listener, TransportBase

_NOTHING = "the no-op transport shares nothing"


class NoopSyncTransport(TransportBase):
    """Accepts subscriptions and messages and drops them; it has no log, so its state stays
    `LOCAL` and whatever needs a log raises `TransportUnavailable`."""

    name = "noop"

    def __init__(
        self,
        *,
        url: str | None = None,
        key_prefix: str = "",
        log: Logger | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(log or getLogger(__name__))

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def subscribe(self, scope: Scope, listener: Listener) -> None:
        pass

    async def unsubscribe(self, scope: Scope) -> None:
        pass

    async def publish(self, scope: Scope, message: bytes) -> int:
        return 0

    async def seed_log(self, scope: Scope, lineage: str, replica: str, payload: bytes) -> Seeded:
        raise TransportUnavailable(_NOTHING)

    async def append_log(self, scope: Scope, log: str, replica: str, payload: bytes) -> Appended:
        raise TransportUnavailable(_NOTHING)

    async def read_log(self, scope: Scope, log: str | None, after: str) -> LogRead:
        raise TransportUnavailable(_NOTHING)

    async def compact_log(self, scope: Scope, log: str, offset: str, payload: bytes) -> None:
        raise TransportUnavailable(_NOTHING)

    async def log_size(self, scope: Scope, log: str) -> LogSize:
        raise TransportUnavailable(_NOTHING)

    async def read_history(
        self, scope: Scope, *, after: str | None = None, max_bytes: int | None = None
    ) -> History:
        raise TransportUnavailable(_NOTHING)

    async def trim_history(
        self,
        scope: Scope,
        log: str,
        first: str,
        base: bytes,
        *,
        entries: int = 0,
        payload_bytes: int = 0,
    ) -> None:
        raise TransportUnavailable(_NOTHING)

    async def hold_lease(
        self, scope: Scope, replica: str, *, want: bool, ttl_s: float, keep_s: float
    ) -> LeaseView:
        raise TransportUnavailable(_NOTHING)

    async def hold_leases(
        self, wishes: Sequence[LeaseWish], replica: str, *, ttl_s: float, keep_s: float
    ) -> list[LeaseView | TransportError]:
        raise TransportUnavailable(_NOTHING)

    async def mark_saved(
        self, scope: Scope, log: str, offset: str, record: Mapping[str, str], keep_s: float
    ) -> None:
        raise TransportUnavailable(_NOTHING)

    async def read_map(
        self, scope: Scope, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, str]:
        raise TransportUnavailable(_NOTHING)

    async def write_map(
        self, scope: Scope, name: str, values: Mapping[str, str | None], *, keep: bool = False
    ) -> dict[str, str]:
        raise TransportUnavailable(_NOTHING)

    async def expire_room(
        self, scope: Scope, log: str, after_s: float, *, tail: str | None = None
    ) -> None:
        raise TransportUnavailable(_NOTHING)

    async def heartbeat(
        self, replica: str, session: str, *, forget_s: float, keep_s: float
    ) -> ClusterView:
        raise TransportUnavailable(_NOTHING)

    async def farewell(self, replica: str) -> None:
        pass
