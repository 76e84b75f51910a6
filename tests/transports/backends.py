"""The transports that the contract is tested against, each with a way to cut them off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from support.tcp_proxy import TcpProxy

from jupyter_teleportal.transports.base import SyncTransport, TransportState
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

if TYPE_CHECKING:
    from support.redis_server import RedisServer

KEY_PREFIX = "teleportal:sync:"
IMPATIENT = {
    # On a busy machine Redis does not answer for a second and more.
    "connect_timeout_s": 1.0,
    "command_timeout_s": 4.0,
    "ping_interval_s": 1.0,
    "backoff_base_s": 0.02,
    "backoff_cap_s": 0.1,
}


class MemoryBackend:
    """Several transports on one hub."""

    name = "memory"

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.made: list[MemorySyncTransport] = []

    async def __aenter__(self) -> MemoryBackend:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for transport in self.made:
            await transport.aclose()

    async def make(self, log: logging.Logger | None = None, **options: Any) -> SyncTransport:
        for name in options.keys() & {"log_max_bytes", "share_max_bytes"}:
            setattr(self.hub, name, options[name])
        transport = MemorySyncTransport(self.hub, log=log)
        self.made.append(transport)
        await transport.start()
        return transport

    async def disconnect(self) -> None:
        for transport in self.made:
            transport.disconnect()

    async def reconnect(self) -> None:
        for transport in self.made:
            transport.reconnect()

    async def clear(self) -> None:
        self.hub.clear()

    def listeners(self) -> int:
        """How many subscriptions there are on the other side."""
        return sum(map(len, self.hub.listeners.values()))


class RedisBackend:
    """Several transports on one Redis, behind a proxy that can fail."""

    name = "redis"

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.made: list[RedisSyncTransport] = []
        self.proxy = TcpProxy(server.port)

    async def __aenter__(self) -> RedisBackend:
        await self.proxy.__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for transport in self.made:
            await transport.aclose()
        await self.proxy.close()

    async def make(self, log: logging.Logger | None = None, **options: Any) -> RedisSyncTransport:
        transport = RedisSyncTransport(
            url=self.server.url_at(self.proxy.port),
            log=log,
            key_prefix=KEY_PREFIX,
            options={**IMPATIENT, **self.server.options, **options},
        )
        self.made.append(transport)
        await transport.start()
        assert transport.state is TransportState.CONNECTED
        return transport

    async def disconnect(self) -> None:
        await self.proxy.cut()

    async def reconnect(self) -> None:
        await self.proxy.heal()

    async def clear(self) -> None:
        with self.server.cli() as client:
            client.flushall()

    def listeners(self) -> int:
        with self.server.cli() as client:
            return sum(count for _, count in client.pubsub_numsub(*client.pubsub_channels()))


Backend = MemoryBackend | RedisBackend
