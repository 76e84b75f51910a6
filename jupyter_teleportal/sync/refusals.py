"""What a transport that can be reached refuses of one room, which then has an outage of its own."""

from __future__ import annotations

from collections.abc import Callable

from .cluster import Replica
from .complaints import RoomComplaints


class Refusals:
    """Why the transport refuses one room, by what it refuses: the room's "lease" or its "log".

    Attributes:
        silent: whether the room is being closed, so that nobody is told of refusals.
    """

    def __init__(
        self,
        replica: Replica,
        complaints: RoomComplaints,
        *,
        cut_off: Callable[[], None],
        taken_again: Callable[[], None],
    ) -> None:
        """
        Args:
            replica: this replica.
            complaints: what is wrong with the room.
            cut_off: the transport refuses the room from now on, as if it were away.
            taken_again: the transport does not refuse the room any more.
        """
        self.silent = False
        self._replica = replica
        self._reasons: dict[str, str] = {}
        self._complaints = complaints
        self._cut_off = cut_off
        self._taken_again = taken_again

    def __contains__(self, what: str) -> bool:
        return what in self._reasons

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def reason(self) -> str:
        """Why the transport refuses the room although it can be reached; empty, if it does not."""
        return next(iter(self._reasons.values()), "")

    @property
    def shared(self) -> bool:
        """Whether the transport can be reached and takes what is asked of it for the room.
        Otherwise the room has an outage, be it one of its own."""
        return self._replica.connected and not self._reasons

    def refuse(self, what: str, reason: str) -> None:
        """The transport refuses `what`."""
        if not self.silent:
            self._complaints.complain(
                "The transport refuses it, so edits stay on this server; it is saved as in an "
                f"outage, and sharing is tried again: {reason}"
            )
        self.stand_alone(what, reason)

    def stand_alone(self, what: str, reason: str) -> None:
        """The room has an outage of its own."""
        was_shared = self.shared
        self._reasons[what] = reason
        if was_shared and not self.silent:
            self._cut_off()

    def take(self, what: str) -> None:
        """The transport has taken what it had refused before."""
        if self._reasons.pop(what, None) is not None and self.shared and not self.silent:
            self._taken_again()
