"""What a room is handed: where its content comes from, and who saves it; or neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.content import SeedContent
from ..core.crdt import EMPTY_UPDATE
from ..core.envelopes import Envelope
from ..transports.base import TransportState


class ContentSide(Protocol):
    """Where a room's content comes from, and what becomes of it where the log is another one."""

    async def load(self) -> SeedContent:
        """Return what a new log begins with.

        Raises:
            Exception: if it cannot be loaded; whoever opens the room gets it.
        """
        ...

    def provided(self, seed: SeedContent) -> None:
        """The document begins with this seed, unless another replica comes first."""
        ...

    async def before_convert(self, lineage: str, updates: tuple[bytes, ...]) -> None:
        """The document is about to be converted, unless the log turns out to be another one again:
        the log's lineage is `lineage`, its whole content `updates`.

        Raises:
            TransportError: if it has to wait until the transport answers.
        """
        ...

    def convert(self, updates: tuple[bytes, ...]) -> None:
        """Make the document the log's, whose whole content is `updates`.

        Raises:
            DocumentBroken: if it is neither the one nor the other document now.
        """
        ...

    async def abandon(self, updates: tuple[bytes, ...]) -> None:
        """The log is about to be dropped, of which `updates` can be read."""
        ...

    def log_lost(self, offset: str) -> None:
        """The log has lost the entry at `offset`, and perhaps more before it."""
        ...

    async def before_put_back(self) -> None:
        """What the log has lost, or all of it, is about to be put back from here."""
        ...


class SaverSide(Protocol):
    """Whoever saves what a room holds, while the room's lease or an outage lets it."""

    @property
    def claims_first(self) -> bool:
        """Whether this replica has to be the saver before others are, whoever was the last."""
        ...

    async def opened(self) -> None:
        """The room is open."""
        ...

    async def closing(self) -> None:
        """The room is about to be closed, and still follows the log."""
        ...

    async def leaving(self) -> None:
        """All of the room is shared, and its lease is about to be given back."""
        ...

    def transport_changed(self, state: TransportState) -> None:
        """The transport is about to be left, or followed again."""
        ...

    def cut_off(self) -> None:
        """The transport refuses the room from now on, as if it were away."""
        ...

    def taken_again(self) -> None:
        """The transport does not refuse the room any more."""
        ...

    def lease_changed(self) -> None:
        """The lease is held by somebody else than before."""
        ...

    def lease_answered(self) -> None:
        """The transport was asked for the lease, whatever it has answered."""
        ...

    def received(self, envelope: Envelope) -> None:
        """Take a message that is neither an entry nor about awareness."""
        ...


class Empty:
    """The content of a room without a file: it begins empty."""

    def __init__(self, apply: Callable[[tuple[bytes, ...]], None]) -> None:
        """
        Args:
            apply: applies updates to the document.
        """
        self._apply = apply

    async def load(self) -> SeedContent:
        return SeedContent("empty", EMPTY_UPDATE, None, None)

    def provided(self, seed: SeedContent) -> None:
        pass

    async def before_convert(self, lineage: str, updates: tuple[bytes, ...]) -> None:
        pass

    def convert(self, updates: tuple[bytes, ...]) -> None:
        self._apply(updates)

    async def abandon(self, updates: tuple[bytes, ...]) -> None:
        pass

    def log_lost(self, offset: str) -> None:
        pass

    async def before_put_back(self) -> None:
        pass


class Unsaved:
    """The saver's side of a room without a file."""

    claims_first = False

    async def opened(self) -> None:
        pass

    async def closing(self) -> None:
        pass

    async def leaving(self) -> None:
        pass

    def transport_changed(self, state: TransportState) -> None:
        pass

    def cut_off(self) -> None:
        pass

    def taken_again(self) -> None:
        pass

    def lease_changed(self) -> None:
        pass

    def lease_answered(self) -> None:
        pass

    def received(self, envelope: Envelope) -> None:
        pass
