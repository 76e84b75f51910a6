"""Rooms that stay upstream's: documents outside the shares, forks, rooms of other extensions.

Nothing of them is shared, but what clients send into them passes the door as well: where the CRDT
library fails, or takes minutes, it does so to the whole server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any
from weakref import WeakKeyDictionary

from ..core.completeness import Known
from ..core.crdt import EMPTY_UPDATE, Door
from ..core.errors import ForeignBytes
from ..core.update_walk import (
    AWARENESS,
    STEP1,
    STEP2,
    SYNC,
    Block,
    Message,
    read_awareness,
    read_message,
    read_state,
    read_update,
)
from ..sync.threads import WALK_HERE_BYTES
from ..sync.trial import Trials


class PlainRooms:
    """The doors of these rooms."""

    def __init__(self, trials: Trials, complain: Callable[[str, Exception], object]) -> None:
        """
        Args:
            trials: tries what takes long to merge.
            complain: is told of a room, and what a client has sent into it that is passed over.
        """
        self._trials = trials
        self._complain = complain
        self._rooms: WeakKeyDictionary[Any, asyncio.Future[Door] | None] = WeakKeyDictionary()

    def add(self, room: Any) -> None:
        """Look at what clients send into `room` from now on."""
        if room in self._rooms:
            return
        self._rooms[room] = None
        skips = room.on_message
        told = partial(self._complain, getattr(room, "room_id", "of a fork"))

        async def on_message(message: bytes) -> bool:
            skip = False if skips is None else skips(message)
            if isawaitable(skip):
                skip = await skip
            # Nothing may come between this and what the room does with the message.
            return bool(skip) or self._lacks(room.ydoc, message, told)

        room.on_message = on_message

    def _lacks(self, doc: Any, message: bytes, told: Callable[[Exception], object]) -> bool:
        """Whether a client's message, which was checked, holds an update that builds on what the
        document has not. It would wait inside the library. A client that has not said yet what else
        it has sends all of it together before long."""
        read = read_message(message)
        if read.kind != SYNC or read.step == STEP1 or read.payload == EMPTY_UPDATE:
            return False
        known = Known(doc.get_state)
        lacks = known.reach(read_update(read.payload)).lacks
        if lacks is not None and read.step == STEP2:
            told(
                ForeignBytes(
                    f"it builds on item {lacks[1]} of client {lacks[0]}, which the document has not"
                )
            )
        return lacks is not None

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
            blocks = await _walk(message.payload)
            await self._trials.through(
                lambda: door,
                room.ydoc,
                message.payload,
                lambda: door.check(message.payload, blocks),
            )

    async def _door(self, room: Any) -> Door:
        """The room's door, which is made for the first update that a client sends."""
        made = self._rooms[room]
        if made is None:
            made = self._rooms[room] = asyncio.ensure_future(_open(room.ydoc))
        return await asyncio.shield(made)


async def _open(doc: Any) -> Door:
    """A door that knows all that is in the document, and what comes into it otherwise than by the
    door."""
    door = Door(limited=True)

    def learn(blocks: list[Block]) -> None:
        # What is there is there, whether it would be let in or not.
        with contextlib.suppress(ForeignBytes):
            door.learn(blocks)

    doc.observe(lambda event: learn(read_update(event.update)))
    learn(await _walk(doc.get_update()))
    return door


async def _walk(update: bytes) -> list[Block]:
    if len(update) <= WALK_HERE_BYTES:
        return read_update(update)
    return await asyncio.to_thread(read_update, update)
