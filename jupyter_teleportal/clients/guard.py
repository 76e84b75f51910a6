"""Holds clients to their limits: who is slowed, and who is disconnected."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..core.client_limits import Allowance, ClientLimits
from ..core.errors import OverLimits
from ..core.update_walk import read_awareness
from ..sync.cluster import Replica
from .turns import ClientTurns

NAP_S = 1.0
REMEMBERED = 1000
TOKEN_USER = "whoever has the token"


class ClientGuard:
    """Holds the clients of one server to their limits.

    Attributes:
        limits: the limits.
        turns: the turns in which clients' messages are handled.
    """

    def __init__(
        self, replica: Replica, limits: ClientLimits, close: Callable[[Any, str], None]
    ) -> None:
        """
        Args:
            replica: this replica.
            limits: the limits.
            close: closes a client's connection; is given the client and the reason.
        """
        self.limits = limits
        self.turns = ClientTurns(limits.client_turn_s)
        self._replica = replica
        self._close = close
        self._over: OrderedDict[tuple[str, str], Allowance] = OrderedDict()

    # -- how much is sent ------------------------------------------------------------------

    def allowance(self, client: Any) -> Allowance:
        """What a client may send that has just connected. One that was disconnected because it
        had sent too much goes on with what it had left."""
        known = self._over.get(_whose(client))
        return known or Allowance(self.limits, time.monotonic())

    async def pace(
        self, client: Any, allowance: Allowance, closing: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for as long as nothing should be read from a client, because it has sent too much.
        Return whether it may go on; it is disconnected otherwise.

        Args:
            client: the client.
            allowance: what it may send.
            closing: whether its connection is being closed.
        """
        while not closing():
            now = time.monotonic()
            was_slowed = allowance.slowed
            wait = allowance.wait(now)
            if allowance.slowed is not was_slowed:
                self._tell_slowed(client, allowance.slowed)
            if (excess := allowance.exceeded(now)) is not None:
                self._remember(client, allowance)
                seconds = self.limits.client_slowed_max_s
                self.disconnect(client, f"sends {excess}, for {seconds:g} s and more")
                return False
            if not wait:
                break
            await asyncio.sleep(min(wait, NAP_S))
        return True

    def left(self, client: Any, allowance: Allowance) -> None:
        """A client's connection is closed."""
        if allowance.slowed:
            self._tell_slowed(client, False)

    def _tell_slowed(self, client: Any, slowed: bool) -> None:
        subject = f"slowed_clients {client.path}"
        if not slowed:
            self._over.pop(_whose(client), None)
            self._replica.settle(subject)
            return
        self._replica.complain(
            subject,
            f"A client of room {client.path} ({user_of(client)}) sends more than it may: "
            f"{self.limits.client_messages_per_s:g} messages and "
            f"{self.limits.client_bytes_per_s:g} bytes a second. It is read from more slowly",
        )

    def _remember(self, client: Any, allowance: Allowance) -> None:
        self._over[_whose(client)] = allowance
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    def disconnect(self, client: Any, reason: str) -> None:
        """Close a client's connection; `reason` is told to it."""
        self._replica.complain(
            f"closed_clients {client.path}",
            f"A client of room {client.path} ({user_of(client)}) is over its limits and is "
            f"disconnected: it {reason}",
        )
        self._close(client, f"This client {reason}")

    def tell_lacking(self, client: Any, lacks: tuple[int, int]) -> None:
        """All that a client holds builds on an item that is not there."""
        self._replica.complain(
            f"client_messages {client.path}",
            f"Room {client.path}: what a browser ({user_of(client)}) has written builds on item "
            f"{lacks[1]} of client {lacks[0]}, which neither the document nor the browser has; "
            "only the rest is taken",
        )

    def check_question(self, message: bytes) -> None:
        """Make sure that a question for what a client lacks is within the limits.

        Raises:
            OverLimits: if it is not.
        """
        most = self.limits.client_question_max_bytes
        if len(message) > most:
            raise OverLimits(
                f"a state vector has more than {most} bytes (client_question_max_bytes)"
            )


class Cursors:
    """Whose cursors and other awareness come over which of a room's connections."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._owners: dict[int, Any] = {}
        self._brought: dict[Any, set[int]] = {}

    def bring(self, channel: Any, clients: list[int]) -> None:
        """The states of `clients` have come over a connection."""
        for client in clients:
            self._owners[client] = channel
        self._brought.setdefault(channel, set()).update(clients)

    def owner(self, client: int) -> Any:
        """The connection over which the state of `client` came last; None if it is closed."""
        return self._owners.get(client)

    def leave(self, channel: Any) -> set[int]:
        """A connection is closed. Return whose states came over it last."""
        self._brought.pop(channel, None)
        gone = {client for client, owner in self._owners.items() if owner is channel}
        for client in gone:
            del self._owners[client]
        return gone

    def check(self, channel: Any, update: bytes, known: Any) -> dict[int, Any]:
        """Make sure that an awareness update that has come over a connection is within the limits.
        Return the states in it.

        Args:
            channel: the connection.
            update: what has come.
            known: whose states the room has; a browser repeats these to everybody.

        Raises:
            ForeignBytes: if it cannot be read.
            OverLimits: if it is not within the limits.
        """
        most, most_bytes = self._limits.client_cursors_max, self._limits.client_cursor_max_bytes
        clients = read_awareness(update)
        brought = self._brought.get(channel, set())
        new = {client for client in clients if client not in known and client not in brought}
        if len(brought) + len(new) > most:
            raise OverLimits(f"it shows more than {most} cursors (client_cursors_max)")
        # Of one state only the whole is known, which is enough for all that a person does.
        if len(update) > most_bytes * max(1, len(clients)):
            raise OverLimits(f"a cursor has more than {most_bytes} bytes (client_cursor_max_bytes)")
        return clients


def user_of(client: Any) -> str:
    """The name of the user whose connection it is, as the server knows it. Whoever comes with the
    server's token alone has another one with each request, so all of them are one user."""
    if getattr(client, "_token_authenticated", False):
        return TOKEN_USER
    # The property itself asks who it is, where nobody has done so yet.
    return str(getattr(getattr(client, "_current_user", None), "username", "anonymous"))


def _whose(client: Any) -> tuple[str, str]:
    return user_of(client), client.path
