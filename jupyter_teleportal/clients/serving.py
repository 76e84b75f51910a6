"""Serves a room's clients in upstream's place: what they send, what they are answered, and what
they may do. Knows nothing of Jupyter but how a handler takes messages at once (`TAKE`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any

from pycrdt import Channel, create_awareness_message, create_sync_message

from ..core.authors import current_channel
from ..core.crdt import EMPTY_UPDATE, Door, apply_awareness
from ..core.errors import DocumentBroken, ForeignBytes
from ..core.names import Identity, Vetted, same_user, username_in, vetted
from ..core.resync import Resync
from ..core.update_walk import (
    AWARENESS,
    STEP1,
    STEP2,
    SYNC,
    Block,
    Message,
    read_message,
    read_state,
    read_update,
)
from ..sync.awareness import AwarenessBridge
from ..sync.threads import WALK_HERE_BYTES
from ..sync.trial import Trials
from .fanout import Fanout
from .guard import ClientGuard, Cursors

TAKE = "_teleportal_take"
"""The attribute of a client's handler that takes its messages, once it is served."""
INTERNAL_ERROR = 1011
"""A close code at which JupyterLab connects again, and shows nothing."""


def take_over(
    room: Any,
    fanout: Fanout,
    bridge: Callable[[], AwarenessBridge | None],
    *,
    answer: Callable[[bytes], list[bytes]],
    guard: ClientGuard,
    trials: Trials,
    door: Callable[[], Door],
    broke: Callable[[DocumentBroken], object] = lambda error: None,
    paced: bool = True,
    admits: Callable[[int], bool] = lambda size: True,
    entered: Callable[[Channel], None] = lambda client: None,
    left: Callable[[Any], None] = lambda client: None,
    identify: Callable[[Any], Identity | None] | None = None,
    forged: Callable[[Any, str], None] = lambda client, lie: None,
) -> None:
    """Take a room's clients over from upstream. Call it before the room is started.

    Args:
        room: the room.
        fanout: carries the room's updates to its clients.
        bridge: knows which clients' awareness came over which channel, once there is one.
        answer: returns what brings a client with a state vector what it lacks.
        guard: holds the clients to their limits.
        trials: tries what takes long to merge.
        door: what clients send into the document passes it.
        broke: is told that the document cannot be used any more.
        paced: whether whoever reads from the clients sees that they do not send too much.
        admits: whether the document may take an update of so many bytes.
        entered: is told that a client is in the room.
        left: is told that a client has left the room.
        identify: returns who a client is, None if nobody knows. Without it clients may show
            whatever name they like.
        forged: is told of a client, and what it says of itself or others that is not so.
    """
    cursors = Cursors(guard.limits)
    resyncs: dict[Channel, Resync] = {}

    def track(topic: str, change: tuple[dict[str, Any], Any]) -> None:
        channel = current_channel.get()
        if topic == "update" and change[1] is room and channel is not None:
            cursors.bring(channel, [*change[0]["added"], *change[0]["updated"]])

    def within_limits(channel: Channel, message: bytes, read: Message) -> bool:
        """Raises: OverLimits, ForeignBytes."""
        if read.kind == SYNC and read.step == STEP1:
            guard.check_question(message)
        elif read.kind == SYNC and not admits(len(message)):
            most = guard.limits.document_max_bytes
            guard.disconnect(channel, f"makes the document larger than {most} bytes")
            return False
        return True

    async def failed(channel: Channel, message: bytes, error: Exception) -> bool:
        caught = room.on_message_error
        return caught is not None and await caught(error, message, channel)

    async def no_answer(channel: Channel, message: bytes, error: Exception) -> None:
        if not await failed(channel, message, error):
            room._handle_exception(error)

    async def handle(
        channel: Channel,
        message: bytes,
        read: Message | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> None:
        token = current_channel.set(channel)
        try:
            if read is None:
                read = read_message(message)
            if not within_limits(channel, message, read):
                return
            skip = room.on_message is not None and room.on_message(message)
            if not isinstance(skip, bool) and isawaitable(skip):
                skip = await skip
            if skip:
                return
            if read.kind == AWARENESS:
                take_awareness(channel, message, read.payload)
            elif read.kind == SYNC and read.step == STEP1:
                read_state(read.payload)
                fanout.ask(channel, read.payload, answer, partial(no_answer, channel, message))
            elif read.kind == SYNC:
                await take_update(channel, read, blocks)
        except DocumentBroken as error:
            broke(error)
        except Exception as error:
            if not await failed(channel, message, error):
                raise
        finally:
            current_channel.reset(token)

    def take_awareness(channel: Channel, message: bytes, update: bytes) -> None:
        states = cursors.check(channel, update, room.awareness.meta)
        if identify is not None:
            may = vet(channel, update, states, identify)
            for lie in may.forged:
                forged(channel, lie)
            if may.update is None:
                return
            if may.update is not update:
                update, states = may.update, may.states
                message = create_awareness_message(update)
        # It goes back to its author too, who takes it for a sign of life; but not its farewell.
        left = len(states) == 1 and None in states.values()
        fanout.broadcast(message, channel if left else None)
        apply_awareness(room.awareness, update, room, states)

    def vet(
        channel: Channel,
        update: bytes,
        states: dict[int, Any],
        identify: Callable[[Any], Identity | None],
    ) -> Vetted:
        known = identify(channel)

        def is_own(client: int) -> bool:
            owner = cursors.owner(client)
            if owner is None or owner is channel:
                return owner is channel
            # A browser that connects anew is the same client, and may not be gone from here yet.
            return same_user(identify(owner), known)

        def clock_of(client: int) -> int | None:
            meta = room.awareness.meta.get(client)
            return None if meta is None else meta["clock"]

        def holder_of(client: int, state: Any) -> str | None:
            if cursors.owner(client) is not None:
                return "another connection"
            here = bridge()
            if here is None or here.replica_of(client) is None:
                return None
            # The other server has authenticated that name. One that moves here shows it too.
            shown = username_in(room.awareness.states.get(client))
            claimed = username_in(state) if known is None else known.username
            return None if shown in (None, claimed) else f"{shown} on another server"

        return vetted(update, states, known, is_own=is_own, clock_of=clock_of, holder_of=holder_of)

    async def take_update(channel: Channel, read: Message, blocks: Sequence[Block] | None) -> None:
        """Raises: ForeignBytes."""
        update, lacks = read.payload, None
        if update != EMPTY_UPDATE and blocks is None:
            if len(update) <= WALK_HERE_BYTES:
                blocks = read_update(update)
            else:
                blocks = await asyncio.to_thread(read_update, update)
        if update != EMPTY_UPDATE:
            lacks = await trials.through(
                door, room.ydoc, update, lambda: door().take(room.ydoc, update, blocks)
            )
        if lacks is None and read.step != STEP2:
            return
        asked = resyncs.get(channel) or Resync(time.monotonic())
        in_vain = asked.in_vain
        if read.step == STEP2:
            asked.answered(lacking=lacks is not None)
        elif (wait := asked.lacking(time.monotonic())) is not None:
            asyncio.get_running_loop().call_later(wait, ask_for_all, channel)
        if lacks is not None and in_vain:
            raise ForeignBytes(
                f"it builds on item {lacks[1]} of client {lacks[0]}, which the document has not"
            )
        if lacks is not None and read.step == STEP2:
            guard.tell_lacking(channel, lacks)

    def ask_for_all(channel: Channel) -> None:
        if channel in room.clients and not door().broken:
            fanout.send(channel, create_sync_message(room.ydoc))

    async def serve(channel: Any) -> None:
        room.clients.add(channel)
        resyncs[channel] = Resync(time.monotonic())
        entered(channel)
        queue = getattr(channel, "_message_queue", None)
        allowance = None if paced else guard.allowance(channel)
        try:
            greetings = [create_sync_message(room.ydoc)]
            here = bridge()
            if here is not None and (snapshot := here.snapshot()) is not None:
                greetings.insert(0, snapshot)
            for greeting in greetings:
                if queue is None:
                    await channel.send(greeting)
                else:
                    fanout.send(channel, greeting)
            async for message in channel:
                if queue is not None and channel.ws_connection is None:
                    # It is disconnected; what it has sent before that is not wanted.
                    break
                if allowance is not None:
                    allowance.spend(time.monotonic(), messages=1, size=len(message))
                    if not await guard.pace(channel, allowance):
                        break
                async with guard.turns.turn(channel):
                    await handle(channel, message)
                if queue is not None and queue.empty():
                    # What comes from now on need not be handed from one task to another.
                    setattr(channel, TAKE, partial(handle, channel))
        except Exception as error:  # noqa: BLE001 (the room's handler logs it)
            room._handle_exception(error)
            if queue is not None:
                # Nobody would take what it sends from now on.
                channel.close(INTERNAL_ERROR)
        finally:
            if queue is not None:
                setattr(channel, TAKE, None)
            if allowance is not None:
                guard.left(channel, allowance)
            room.clients.remove(channel)
            resyncs.pop(channel, None)
            gone = cursors.leave(channel)
            here = bridge()
            if here is not None:
                here.remove_clients(gone)
            left(channel)

    async def watch_ready() -> None:
        await room.ready_event.wait()
        room._subscription = room.ydoc.observe(
            lambda event: None if door().broken else fanout.on_update(event)
        )
        room.ydoc_observed.set()

    async def broadcast_updates() -> None:
        # The room makes these streams for the queue that the fanout takes the place of.
        room._update_receive_stream.close()
        room._update_send_stream.close()

    room.awareness.observe(track)
    room.serve = serve
    room._watch_ready = watch_ready
    room._broadcast_updates = broadcast_updates
