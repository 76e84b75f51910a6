"""Messages of one room to all replicas that have it open."""

from __future__ import annotations

import asyncio

from ..core.envelopes import Envelope
from ..core.errors import TransportError
from ..core.values import Scope
from .background import Background
from .cluster import Replica
from .complaints import RoomComplaints


class RoomChannel:
    """Publishes what does not go through the room's log."""

    def __init__(
        self, replica: Replica, scope: Scope, background: Background, complaints: RoomComplaints
    ) -> None:
        self._replica = replica
        self._scope = scope
        self._background = background
        self._complaints = complaints
        self._under_way: set[asyncio.Task[None]] = set()

    def publish(self, envelope: Envelope) -> None:
        """Send `envelope` to all replicas of the room; a failure is logged and no more."""
        task = self._background.spawn(self._publish(envelope))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish(self, envelope: Envelope) -> None:
        try:
            await self._replica.transport.publish(self._scope, envelope.encode())
        except TransportError as error:
            if self._replica.connected:
                self._complaints.complain(f"A message to the other servers is lost: {error}")

    async def drain(self) -> None:
        """Wait a moment for what is on its way."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=1)
