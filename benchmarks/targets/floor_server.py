"""The least that a server in Python can do: a WebSocket in, Redis' pub/sub, a WebSocket out.

``python floor_server.py PORT REDIS_PORT``: whoever connects to ``/NAME`` gets what all others
send there, on this server or another one. There is no document and nothing is kept.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections import defaultdict
from typing import Any

import redis.asyncio
import websockets
from websockets.asyncio.server import ServerConnection, serve

_SENDER_BYTES = 12


class Floor:
    """One server's rooms."""

    def __init__(self, redis_port: int) -> None:
        self._redis: Any = redis.asyncio.Redis(port=redis_port)
        self._channels: Any = self._redis.pubsub()
        self._rooms: defaultdict[bytes, dict[bytes, ServerConnection]] = defaultdict(dict)
        self._subscribed: dict[bytes, asyncio.Event] = {}
        self._numbers = itertools.count()
        self._own = os.urandom(4)

    async def serve_client(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        room = socket.request.path.encode()
        sender = self._own + next(self._numbers).to_bytes(_SENDER_BYTES - 4, "big")
        self._rooms[room][sender] = socket
        try:
            await self._subscribe(room)
            await socket.send(b"")
            async for message in socket:
                assert isinstance(message, bytes)
                await self._redis.publish(room, sender + message)
        except websockets.ConnectionClosed:
            pass
        finally:
            del self._rooms[room][sender]

    async def _subscribe(self, room: bytes) -> None:
        confirmed = self._subscribed.get(room)
        if confirmed is None:
            confirmed = self._subscribed[room] = asyncio.Event()
            await self._channels.subscribe(room)
        await confirmed.wait()

    async def read_redis(self) -> None:
        await self._channels.subscribe(b"everybody")
        async for event in self._channels.listen():
            if event["type"] == "subscribe" and event["channel"] in self._subscribed:
                self._subscribed[event["channel"]].set()
            elif event["type"] == "message":
                sender, message = event["data"][:_SENDER_BYTES], event["data"][_SENDER_BYTES:]
                others = self._rooms[event["channel"]].items()
                websockets.broadcast([socket for own, socket in others if own != sender], message)


async def main() -> None:
    port, redis_port = map(int, sys.argv[1:])
    floor = Floor(redis_port)
    reading = asyncio.create_task(floor.read_redis())
    async with serve(floor.serve_client, "127.0.0.1", port, compression=None, max_size=None):
        await reading


if __name__ == "__main__":
    asyncio.run(main())
