"""Rooms that stay upstream's: documents outside the shares, forks, rooms of other extensions.

Nothing of them is shared, but what clients send into them passes the door as well: where the CRDT
library fails, or takes minutes, it does so to the whole server.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from weakref import WeakKeyDictionary

from .crdt import EMPTY_UPDATE, Door
from .errors import ForeignBytes
from .provider import WALK_ALONE_BYTES
from .update_walk import (
    AWARENESS,
    STEP1,
    SYNC,
    Block,
    Message,
    read_awareness,
    read_state,
    read_update,
)


class PlainRooms:
    """The doors of these rooms."""

    def __init__(self) -> None:
        self._rooms: WeakKeyDictionary[Any, asyncio.Future[Door] | None] = WeakKeyDictionary()

    def add(self, room: Any) -> None:
        """Look at what clients send into `room` from now on."""
        self._rooms.setdefault(room, None)

    async def check(self, room: Any, message: Message) -> None:
        """Make sure that a client's message can be given to the room, if it is one of these.

        Raises:
            ForeignBytes: saying what is wrong with it.
        """
        if room not in self._rooms:
            return
        if message.kind == AWARENESS:
            read_awareness(message.payload)
        elif message.kind == SYNC and message.step == STEP1:
            read_state(message.payload)
        elif message.kind == SYNC and message.payload != EMPTY_UPDATE:
            door = await self._door(room)
            door.check(message.payload, await _walk(message.payload))

    async def _door(self, room: Any) -> Door:
        """The room's door, which is made for the first update that a client sends."""
        made = self._rooms[room]
        if made is None:
            made = self._rooms[room] = asyncio.ensure_future(_open(room.ydoc))
        return await asyncio.shield(made)


async def _open(doc: Any) -> Door:
    """A door that knows all that is in the document, and what comes into it otherwise than by the
    door."""
    door = Door()

    def learn(blocks: list[Block]) -> None:
        # What is there is there, whether it would be let in or not.
        with contextlib.suppress(ForeignBytes):
            door.learn(blocks)

    doc.observe(lambda event: learn(read_update(event.update)))
    learn(await _walk(doc.get_update()))
    return door


async def _walk(update: bytes) -> list[Block]:
    if len(update) < WALK_ALONE_BYTES:
        return read_update(update)
    return await asyncio.to_thread(read_update, update)
