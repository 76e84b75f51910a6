"""How many clients a room has, how many rooms a user has, and how large a document becomes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.auth.identity import User
from pycrdt import Doc, Text

from jupyter_teleportal.clients.guard import ClientGuard
from jupyter_teleportal.core.client_limits import ClientLimits
from jupyter_teleportal.core.errors import OverLimits
from jupyter_teleportal.jupyter.occupancy import Occupancy
from jupyter_teleportal.sync import live_doc
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.sync.room_link import RoomLink
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM


class Client:
    """A handler of a user's."""

    def __init__(self, user: str, path: str = "room") -> None:
        self._current_user = User(user)
        self.path = path


class Rooms:
    """Rooms that clients enter and leave."""

    def __init__(self, hub: MemoryHub, **limits: Any) -> None:
        self.rooms: dict[str, Any] = {}
        self.replica = Replica(MemorySyncTransport(hub))
        self.occupancy = Occupancy(self.replica, ClientLimits(**limits), self, lasting=frozenset())

    def enter(self, user: str, room_id: str) -> Client | str:
        """Return the client, or why it is not let in."""
        client = Client(user, room_id)
        refusal = self.occupancy.refusal(client, room_id)
        if refusal is not None:
            return refusal
        self.rooms.setdefault(room_id, SimpleNamespace(clients=set())).clients.add(client)
        self.occupancy.entered(client, room_id)
        return client

    def leave(self, client: Any) -> None:
        self.rooms[client.path].clients.remove(client)


async def test_a_room_has_so_many_clients_and_no_more(hub: MemoryHub) -> None:
    rooms = Rooms(hub, room_clients_max=2)
    first, second = rooms.enter("ann", "x"), rooms.enter("bob", "x")
    assert isinstance(first, Client)
    assert isinstance(second, Client)
    assert "room_clients_max" in str(rooms.enter("eve", "x"))
    assert isinstance(rooms.enter("eve", "y"), Client)
    rooms.leave(first)
    assert isinstance(rooms.enter("eve", "x"), Client)


async def test_who_is_about_to_enter_counts_too(hub: MemoryHub) -> None:
    rooms = Rooms(hub, room_clients_max=2)
    entering = [Client("ann") for _ in range(2)]
    assert [rooms.occupancy.refusal(one, "x") for one in entering] == [None, None]
    assert "room_clients_max" in str(rooms.enter("eve", "x"))


async def test_a_user_opens_so_many_rooms_and_no_more(hub: MemoryHub) -> None:
    rooms = Rooms(hub, user_rooms_max=2)
    for room_id in "xy":
        assert isinstance(rooms.enter("ann", room_id), Client)
    assert "user_rooms_max" in str(rooms.enter("ann", "z"))
    # What is open already is nobody's new room, and others have opened none.
    assert isinstance(rooms.enter("ann", "x"), Client)
    assert isinstance(rooms.enter("bob", "z"), Client)
    del rooms.rooms["y"]
    assert isinstance(rooms.enter("ann", "new"), Client)


async def test_rooms_that_a_user_has_left_are_closed_at_once_if_there_are_too_many(
    hub: MemoryHub,
) -> None:
    rooms = Rooms(hub, user_abandoned_rooms_max=2)
    clients = [rooms.enter("ann", room_id) for room_id in "wxyz"]
    assert isinstance(rooms.enter("bob", "b"), Client)
    closes = []
    for client in clients:
        rooms.leave(client)
        closes.append(rooms.occupancy.closes_at_once(client.path))
    assert closes == [False, False, True, True]
    assert not rooms.occupancy.closes_at_once("b")


async def test_a_question_that_is_too_long_is_refused(hub: MemoryHub) -> None:
    limits = ClientLimits(client_question_max_bytes=10)
    guard = ClientGuard(Replica(MemorySyncTransport(hub)), limits, lambda *_: None)
    guard.check_question(bytes(10))
    with pytest.raises(OverLimits, match="client_question_max_bytes"):
        guard.check_question(bytes(11))


async def test_a_document_grows_to_its_limit(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_doc, "GROWS_BYTES", 1000)
    monkeypatch.setattr(live_doc, "MEASURE_S", 0)
    transport = MemorySyncTransport(hub)
    await transport.start()
    doc: Doc[Any] = Doc({"source": Text("")})
    link = RoomLink(Replica(transport), ROOM, doc)
    await link.open()
    assert link.live.admits(900, 500)
    assert not link.live.admits(1100, 500)
    doc["source"] += "x" * 1000
    await asyncio.sleep(0)
    assert not link.live.admits(900, 500)
    # What has been deleted counts no longer.
    del doc["source"][:]
    assert link.live.admits(900, 500)
    await link.aclose()
