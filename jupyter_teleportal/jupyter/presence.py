"""Who is there: the users in JupyterLab's collaborators panel, across servers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from pycrdt import Awareness

from ..core.envelopes import AwarenessEnvelope, AwarenessQuery, Envelope, decode_envelope
from ..core.errors import CodecError, TransportError
from ..core.shares import Shares
from ..core.values import Scope
from ..sync.awareness import AwarenessBridge, Sink, State
from ..sync.cluster import Replica
from ..transports.base import TransportState
from .file_ids import FileRegistry

# "notebook:RTC:path" is what somebody looks at, "RTC:path" a document that somebody has open.
_WIDGET = re.compile(r"^[\w-]+:(?:RTC:)?")
_DRIVE = re.compile(r"^(?:RTC:)?")


class PresenceLink:
    """Shares the awareness that belongs to no document.

    A user is seen by the servers of every share that the user's server has, but what they have
    open is seen in a share only if it lies there.
    """

    def __init__(
        self,
        replica: Replica,
        shares: Shares,
        registry: FileRegistry,
        awareness: Awareness,
        broadcast: Callable[[bytes], None],
    ) -> None:
        self.scope = Scope("", "presence")
        self._replica = replica
        sinks = [
            Sink(partial(self._publish, share), partial(visible_state, shares, share))
            for share in shares
        ]
        self.awareness = AwarenessBridge(awareness, replica.id, sinks, broadcast)
        for share in shares:
            registry.on_other(share, self._on_message)
        replica.links[self.scope] = self
        if replica.connected:
            self.awareness.announce()

    def transport_changed(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            self.awareness.announce()

    def replica_left(self, replica: str) -> None:
        self.awareness.replica_left(replica)

    async def tick(self) -> None:
        """There is nothing to look after."""

    def lease_question(self) -> None:
        """There is nothing to save, so no lease."""

    async def aclose(self) -> None:
        if self._replica.links.pop(self.scope, None) is not None:
            self.awareness.close()

    def _on_message(self, message: bytes) -> None:
        try:
            envelope = decode_envelope(message)
        except CodecError:
            return  # reported by the registry, which has seen it first
        if isinstance(envelope, AwarenessEnvelope | AwarenessQuery):
            try:
                self.awareness.received(envelope)
            except CodecError as error:
                self._replica.complain("presence", f"Who is there is not understood: {error}")

    def _publish(self, share: str, envelope: Envelope) -> None:
        self._replica.spawn(self._send(share, envelope))

    async def _send(self, share: str, envelope: Envelope) -> None:
        try:
            await self._replica.transport.publish(Scope(share), envelope.encode())
        except TransportError as error:
            if self._replica.connected:
                self._replica.complain("presence", f"Who is here is not told: {error}")


def visible_state(shares: Shares, share: str, state: State) -> State:
    """What of a user's global awareness state may be seen in `share`: who they are, and those of
    their open documents that lie in it."""

    def inside(path: Any, prefix: re.Pattern[str]) -> bool:
        located = shares.locate(prefix.sub("", path)) if isinstance(path, str) else None
        return located is not None and located.share == share

    if not isinstance(state, dict):
        return {}
    seen: State = {"user": state["user"]} if "user" in state else {}
    if inside(state.get("current"), _WIDGET):
        seen["current"] = state["current"]
    if isinstance(state.get("documents"), list):
        seen["documents"] = [path for path in state["documents"] if inside(path, _DRIVE)]
    return seen
