"""A collaboration server without Jupyter: pycrdt-websocket on any number of ASGI processes.

Start as many processes as you like, on as many machines as you like::

    REDIS_URL=redis://localhost:6379 uvicorn server:app --port 8001
    REDIS_URL=redis://localhost:6379 uvicorn server:app --port 8002

A client opens a room with a WebSocket to ``ws://host:port/<any name>``, on whichever process the
balancer picks, and speaks the protocol of y-websocket.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from pycrdt.websocket import ASGIServer

from jupyter_teleportal import WebsocketServer, create_redis_sync_transport

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """An ASGI application whose rooms live as long as it does."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._rooms: ASGIServer | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket" and self._rooms is not None:
            await self._rooms(scope, receive, send)
        elif scope["type"] == "http":
            await _say_hello(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open before the first connection comes, and close after the last one has gone."""
        await receive()  # lifespan.startup
        try:
            transport = await create_redis_sync_transport(self._redis_url)
        except ValueError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        async with WebsocketServer(sync_transport=transport) as websocket_server:
            self._rooms = ASGIServer(websocket_server)
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
            self._rooms = None
        await send({"type": "lifespan.shutdown.complete"})


async def _say_hello(send: Send) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Open a WebSocket to /<room>.\n"})


app = App(os.environ.get("REDIS_URL", "redis://localhost:6379"))
