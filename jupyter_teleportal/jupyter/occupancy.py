"""Who is let into a room, and rooms that were opened and not entered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

from jupyter_server_ydoc.rooms import DocumentRoom, TransientRoom

from ..clients.guard import user_of
from ..core.client_limits import ClientLimits
from ..sync.cluster import Replica

SWITCHING_PROTOCOLS, UNAVAILABLE = 101, 503
RETRY_AFTER_S = 5
EMPTY_AFTER_S = 1.0
NOTHING = b"\0"


class Occupancy:
    """Lets clients into rooms, and sees that rooms which nobody has entered are closed.

    A client is a handler of upstream's. It is about to enter a room from its request on until the
    room serves it.
    """

    def __init__(
        self, replica: Replica, limits: ClientLimits, server: Any, *, lasting: frozenset[str]
    ) -> None:
        """
        Args:
            replica: this replica.
            limits: the limits.
            server: upstream's server of rooms, with its `rooms` by id.
            lasting: ids of rooms that stay when nobody is in them.
        """
        self._replica = replica
        self._limits = limits
        self._server = server
        self._lasting = lasting
        self._entering: dict[str, WeakSet[Any]] = {}
        self._openers: dict[str, str] = {}
        self._gone: WeakSet[Any] = WeakSet()
        self._closing: set[asyncio.Task[None]] = set()

    # -- in --------------------------------------------------------------------------------

    async def enter(
        self, client: Any, room_id: str, prepare: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Let upstream `prepare` the room for a client, or refuse the request."""
        refusal = self.refusal(client, room_id)
        if refusal is not None:
            client.set_status(UNAVAILABLE)
            client.set_header("Retry-After", str(RETRY_AFTER_S))
            client.finish(refusal)
            return
        await prepare(client)
        if client in self._gone:
            self.left(client)

    def refusal(self, client: Any, room_id: str) -> str | None:
        """Let a client in that is about to enter a room, or return why it is not let in."""
        user, limits = user_of(client), self._limits
        room = self._server.rooms.get(room_id)
        inside = {*self._entering.get(room_id, ()), *(() if room is None else room.clients)}
        if len(inside) >= limits.room_clients_max:
            full = (
                f"Room {room_id} has {len(inside)} clients on this server, as many as it may have "
                "(room_clients_max). More are refused; their browsers go on trying"
            )
            self._replica.complain(f"refused_clients {room_id}", full)
            return full
        if room is None and not inside:
            self._openers = {
                there: opener for there, opener in self._openers.items() if self._exists(there)
            }
            opened = sum(opener == user for opener in self._openers.values())
            if opened >= limits.user_rooms_max:
                many = (
                    f"User {user} has opened {opened} documents on this server, as many as a user "
                    "may have open (user_rooms_max). More are refused until some are closed"
                )
                self._replica.complain(f"refused_rooms {user}", many)
                return many
            self._replica.settle(f"refused_rooms {user}")
            self._openers[room_id] = user
        self._entering.setdefault(room_id, WeakSet()).add(client)
        return None

    def entered(self, client: Any, room_id: str) -> None:
        """The room serves the client, or the client has gone."""
        entering = self._entering.get(room_id)
        if entering is not None:
            entering.discard(client)
            if not entering:
                del self._entering[room_id]

    # -- out -------------------------------------------------------------------------------

    def leaving(self, client: Any) -> None:
        """A client's connection is closed; upstream is about to be told."""
        if self.closes_at_once(client.path):
            client._cleanup_delay = 0

    def finished(self, client: Any) -> None:
        """A client's request is answered."""
        if client.get_status() != SWITCHING_PROTOCOLS:
            self.left(client)

    def left(self, client: Any) -> None:
        """A client has gone, whether it has entered its room or not."""
        self._gone.add(client)
        room_id = client.path
        self.entered(client, room_id)
        if self._entering.get(room_id):
            return
        room = self._server.rooms.get(room_id)
        if room is None:
            lock = client._room_locks.get(room_id)
            if lock is not None and not lock.locked():
                del client._room_locks[room_id]
        elif isinstance(room, TransientRoom):
            if room_id in self._openers and room_id not in self._lasting:
                # Upstream takes the client out of the room a moment later.
                asyncio.get_running_loop().call_later(EMPTY_AFTER_S, self._close_empty, room_id)
        elif not room.clients:
            client.room = room
            self.clean_up_after(room, client)

    def clean_up_after(self, room: Any, client: Any) -> None:
        """Close a document that nobody has open any more. Upstream does so where one client leaves
        after the other; of clients that leave at once each takes another for the last one."""
        if not isinstance(room, DocumentRoom) or room.clients:
            return
        if self.closes_at_once(room.room_id):
            client._cleanup_delay = 0
            if room.cleaner is not None:
                room.cleaner.cancel()
        elif room.cleaner is not None and not room.cleaner.done():
            return
        room.cleaner = asyncio.create_task(client._clean_room())

    def abandoned(self, room_id: str) -> bool:
        """Whether nobody is in a room, or about to enter it."""
        room = self._server.rooms.get(room_id)
        return room is not None and not room.clients and not self._entering.get(room_id)

    def closes_at_once(self, room_id: str) -> bool:
        """Whether a room is not to be kept for a while when nobody is in it any more, because
        there are too many like that which the same user has opened."""
        user = self._openers.get(room_id)
        kept = (there for there, opener in self._openers.items() if opener == user)
        return sum(map(self.abandoned, kept)) > self._limits.user_abandoned_rooms_max

    def _close_empty(self, room_id: str) -> None:
        room = self._server.rooms.get(room_id)
        if self.abandoned(room_id) and room.ydoc.get_state() == NOTHING:
            closing = asyncio.ensure_future(self._server.delete_room(name=room_id))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _exists(self, room_id: str) -> bool:
        return room_id in self._server.rooms or bool(self._entering.get(room_id))
