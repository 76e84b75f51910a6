"""What is done to one of upstream's rooms, or one of its clients' connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

from jupyter_server_ydoc.rooms import DocumentRoom
from jupyter_server_ydoc.utils import LogLevel
from pycrdt import Awareness, Doc, create_sync_message
from tornado.websocket import WebSocketClosedError

from ..core.authors import current_channel
from ..core.content import foreign_seeds
from ..core.update_walk import STEP1, SYNC, read_message
from ..files.document_link import DocumentLink

OVER_LIMITS = 1008
"""A close code at which JupyterLab connects again, and shows nothing."""
SESSION_EXPIRED = 1003
"""The close code at which JupyterLab asks whether to reload."""


def empty_document(room: Any) -> None:
    """Give the room a document that holds nothing. In upstream's is the path, written by each
    server anew; browsers that have the document open take that for a renaming to the same name,
    after which they have lost their connection to the room, as far as saving and renaming go."""
    room.ydoc = Doc()
    room.awareness = Awareness(room.ydoc)
    room.awareness.observe(room.send_server_awareness)
    room._document = type(room._document)(room.ydoc, room.awareness)


def resync_client(channel: Any) -> None:
    with contextlib.suppress(WebSocketClosedError):
        channel.write_message(create_sync_message(channel.room.ydoc), binary=True)


def close_client(channel: Any, reason: str) -> None:
    """Close a client's connection because of what it does, with a reason for its console."""
    channel.close(OVER_LIMITS, reason)


def ask_to_reload(channel: Any, **reason: Any) -> None:
    """Close a client's connection for good, with what JupyterLab says of it in a dialog."""
    channel.close(SESSION_EXPIRED, json.dumps(reason, separators=(",", ":")))


def drop_client(channel: Any) -> None:
    # A closing handshake would wait behind all that the client does not read.
    channel.ws_connection.stream.close()


def whole_start(room: Any) -> asyncio.Event:
    """Return what is set once the room has begun all of its tasks. It is said to be started before
    that; stopped by then, as where its file turns out not to be there, it would take the tasks of
    all other rooms along."""
    begun, start = asyncio.Event(), room._start

    async def start_whole(*arguments: Any, **keywords: Any) -> None:
        try:
            await start(*arguments, **keywords)
        finally:
            begun.set()

    room._start = start_whole
    return begun


def before_stop(room: Any, close: Callable[[], Awaitable[None]]) -> None:
    stop = room.stop

    async def close_and_stop() -> None:
        try:
            await close()
        finally:
            await stop()

    room.stop = close_and_stop


def refuses(room: Any, refused: WeakSet[Any], message: bytes, *, writable: bool) -> bool:
    """Whether a client's message must not reach the document."""
    if message[0] != SYNC:
        return False
    channel: Any = current_channel.get()
    if channel in refused:
        # What was on its way when the connection was closed.
        return True
    # Its kind and its step are a byte each in what was let in.
    if message[1] != STEP1:
        return not writable
    if not foreign_seeds(read_message(message).payload, room.ydoc.get_state()):
        return False
    # The client has slept longer than its document's log was kept: this is another document now.
    refused.add(channel)
    ask_to_reload(channel, reason="unknown_session", sessionId="", reloadable=True)
    return True


def tell_users(room: DocumentRoom, level: str, message: str) -> None:
    action = {"INFO": "save", "WARNING": "overwrite"}.get(level)
    if level == "WARNING":
        # JupyterLab would show a dialog at that level, whatever the message: that the file is open
        # in two views, and should be closed. It takes the keys that somebody is typing.
        level = "ERROR"
    # A document that was deleted has no path to tell.
    with contextlib.suppress(RuntimeError):
        room._emit(LogLevel(level), action, message)


def save_to_disc(link: DocumentLink) -> asyncio.Task[None] | None:
    if not link.replicator.writable:
        return None
    return asyncio.create_task(link.save_requests.save_now())
