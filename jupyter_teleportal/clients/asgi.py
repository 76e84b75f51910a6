"""Rooms for any ASGI application, shared between its processes."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import anyio
from pycrdt import Channel
from pycrdt.websocket import WebsocketServer as _WebsocketServer
from pycrdt.websocket import YRoom

from ..core.client_limits import ClientLimits
from ..core.errors import LogChanged, TransportError
from ..core.values import Scope
from ..sync.cluster import Replica
from ..sync.file_side import Unsaved
from ..sync.room import Room
from ..sync.room_link import RoomLink
from ..transports.base import SyncTransport
from .fanout import Fanout
from .guard import ClientGuard
from .serving import take_over


class WebsocketServer(_WebsocketServer):
    """pycrdt-websocket's server, whose rooms are shared with all processes on one transport.

    Use it as an async context manager, with `pycrdt.websocket.ASGIServer` or any other channel.
    """

    def __init__(
        self,
        *args: Any,
        sync_transport: SyncTransport,
        share: str = "default",
        limits: ClientLimits | None = None,
        **keywords: Any,
    ) -> None:
        """
        Args:
            sync_transport: a transport, started or not; it is closed with the server.
            share: the share that the rooms belong to.
            limits: what a client may do; those of users, and of messages, are the application's.
            args, keywords: as pycrdt-websocket's server takes them.
        """
        super().__init__(*args, **keywords)
        self.replica = Replica(sync_transport, log=self.log)
        self._share = share
        self._guard = ClientGuard(
            self.replica, limits or ClientLimits(), lambda client, reason: self._drop(client)
        )
        self._links: dict[YRoom, RoomLink] = {}
        self._users: Counter[str] = Counter()
        self._serving: dict[Channel, anyio.CancelScope] = {}

    async def __aenter__(self) -> WebsocketServer:
        await self.replica.start()
        await super().__aenter__()
        return self

    async def __aexit__(self, exc_type: Any, exc_value: Any, exc_tb: Any) -> Any:
        await self.replica.aclose()
        return await super().__aexit__(exc_type, exc_value, exc_tb)  # type: ignore[no-untyped-call]

    async def serve(self, websocket: Channel) -> None:
        """Serve a client until it leaves; with `auto_clean_rooms` the last one to leave deletes
        the room. Whoever is about to enter it counts."""
        name = websocket.path
        self._users[name] += 1
        problem: Exception | None = None
        try:
            room = await self.get_room(name)
            with anyio.CancelScope() as serving:
                self._serving[websocket] = serving
                await room.serve(websocket)
        except Exception as error:  # noqa: BLE001 (handled as upstream does, below)
            problem = error
        finally:
            self._serving.pop(websocket, None)
            self._users[name] -= 1
        if self.auto_clean_rooms and not self._users[name] and name in self.rooms:
            del self._users[name]
            await self.delete_room(name=name)
        if problem is not None:
            self._handle_exception(problem)

    def _drop(self, websocket: Channel) -> None:
        if websocket in self._serving:
            self._serving[websocket].cancel()

    def _close_broken(self, room: YRoom) -> None:
        """The room's document cannot be used any more: its clients connect again, and the first of
        them opens it anew."""
        for websocket in list(room.clients):
            self._drop(websocket)
        self.replica.spawn(self.delete_room(room=room))

    async def start_room(self, room: YRoom) -> None:
        """Start `room` and join it to the rooms of the same name in other processes."""
        if room not in self._links and not room.started.is_set():
            fanout = Fanout(
                room.clients,
                self.log,
                queue_max_bytes=self.replica.timing.client_queue_max_bytes,
                turns=self._guard.turns,
                drop=self._drop,
                on_drop=partial(self.replica.complain, f"slow_clients {self.get_room_name(room)}"),
            )
            link = RoomLink(
                self.replica,
                Scope(self._share, self.get_room_name(room)),
                room.ydoc,
                awareness=room.awareness,
                broadcast=fanout.broadcast,
            )
            link.room.saver = _KeptLog(link.room)
            link.room.on_broken = partial(self._close_broken, room)
            self._links[room] = link
            take_over(
                room,
                fanout,
                lambda: link.awareness,
                answer=link.live.answer,
                guard=self._guard,
                trials=self.replica.trials,
                door=lambda: link.replicator.door,
                broke=link.room.broke,
                paced=False,
                admits=lambda size: link.live.admits(size, self._guard.limits.document_max_bytes),
            )
            await super().start_room(room)
            await link.open()
        else:
            await room.started.wait()

    async def delete_room(self, *, name: str | None = None, room: YRoom | None = None) -> None:
        """Leave the room and delete it here; its log stays for `history_keep_s`."""
        if name is None:
            name = next((name for name, there in self.rooms.items() if there is room), None)
            if name is None:
                return  # somebody else deletes it at this moment
        # At once, so that whoever comes while it is closed gets a new one.
        room = self.rooms.pop(name)
        link = self._links.pop(room, None)
        try:
            if link is not None:
                await link.aclose()
        finally:
            await room.stop()


class _KeptLog(Unsaved):
    """The saver's side of a room that is in no file: its log is kept for a while after its last
    use."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def leaving(self) -> None:
        replica, scope = self._room.replica, self._room.scope
        try:
            if (log := self._room.replicator.log) is not None:
                await replica.transport.expire_room(scope, log, replica.timing.history_keep_s)
        except LogChanged:
            pass  # another replica has begun it, and sees to it
        except TransportError as error:
            self._room.complain(f"The log stays until the room is opened and closed again: {error}")
