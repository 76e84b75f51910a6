"""``python pycrdt_server.py PORT``: pycrdt-websocket's server behind uvicorn, nothing stored."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from pycrdt.websocket import ASGIServer, WebsocketServer


async def main() -> None:
    async with WebsocketServer(auto_clean_rooms=False) as server:
        settings = uvicorn.Config(
            ASGIServer(server),
            host="127.0.0.1",
            port=int(sys.argv[1]),
            # As Jupyter's servers have it, so that the rooms are what differs.
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            ws_max_size=2**30,
        )
        await uvicorn.Server(settings).serve()


if __name__ == "__main__":
    asyncio.run(main())
