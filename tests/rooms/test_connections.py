"""What a client's connection takes."""

from __future__ import annotations

import asyncio
from typing import Any

from support.waiting import until
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler, websocket_connect

from jupyter_teleportal.clients.guard import ClientGuard
from jupyter_teleportal.clients.tornado_sockets import in_bulk
from jupyter_teleportal.core.client_limits import ClientLimits
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport


async def test_a_message_that_is_too_large_ends_the_connection(hub: MemoryHub) -> None:
    limits = ClientLimits(client_message_max_bytes=1000, client_question_max_bytes=1000)
    guard = ClientGuard(Replica(MemorySyncTransport(hub)), limits, lambda *_: None)
    got: list[int] = []

    class Handler(WebSocketHandler):
        path = "room"
        current_user = None

        def get_websocket_protocol(self) -> Any:
            return in_bulk(super().get_websocket_protocol(), guard)

        async def on_message(self, message: Any) -> None:
            got.append(len(message.message))

    server, (sock, port) = HTTPServer(Application([("/", Handler)])), bind_unused_port()
    server.add_socket(sock)
    client = await websocket_connect(f"ws://127.0.0.1:{port}/")
    await client.write_message(bytes(1000), binary=True)
    await until(lambda: got == [1000], what="a message that is as large as may be")
    await client.write_message(bytes(1001), binary=True)
    assert await asyncio.wait_for(client.read_message(), 5) is None
    assert got == [1000]
    server.stop()
    await server.close_all_connections()
