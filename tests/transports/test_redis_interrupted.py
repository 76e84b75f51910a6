"""Connections that end in the midst of much: nobody waits for ever or gets another's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.redis_server import RedisServer
from support.waiting import until

from jupyter_teleportal.core.errors import TransportUnavailable
from jupyter_teleportal.core.values import ZERO_OFFSET, Appended, Scope
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import RedisBackend

ROOM = Scope("team1", "json:notebook:one")
OTHER_ROOM = Scope("team1", "json:notebook:two")
CONNECTED = TransportState.CONNECTED


@pytest.fixture
async def backend(redis_server: RedisServer) -> AsyncIterator[RedisBackend]:
    async with RedisBackend(redis_server) as made:
        yield made


async def filled(transport: RedisSyncTransport, scope: Scope, *payloads: bytes) -> str:
    seed = await transport.seed_log(scope, "lineage", "a", b"seed")
    await asyncio.gather(*(transport.append_log(scope, seed.log, "a", each) for each in payloads))
    return seed.log


async def read(transport: RedisSyncTransport, scope: Scope) -> list[bytes]:
    found = await transport.read_log(scope, None, ZERO_OFFSET)
    return [entry.payload for entry in found.entries[1:]]


async def test_a_redis_that_is_restarted_in_the_midst_of_a_large_reading(
    backend: RedisBackend,
) -> None:
    transport = await backend.make()
    large = [bytes([number]) * 400_000 for number in range(20)]
    small = [b"%d" % number for number in range(500)]
    await filled(transport, ROOM, *large)
    await filled(transport, OTHER_ROOM, *small)

    backend.proxy.latency = 0.01
    before = backend.proxy.bytes_forwarded
    readings = [asyncio.ensure_future(read(transport, ROOM))]
    readings += [asyncio.ensure_future(read(transport, OTHER_ROOM)) for _ in range(50)]
    await until(lambda: backend.proxy.bytes_forwarded > before + 1_000_000, what="a part of it")
    backend.server.kill()
    ends = await asyncio.wait_for(asyncio.gather(*readings, return_exceptions=True), 20)
    assert isinstance(ends[0], TransportUnavailable)
    assert all(end == small or isinstance(end, TransportUnavailable) for end in ends[1:])

    backend.proxy.latency = 0
    backend.server.start()
    await until(lambda: transport.state is CONNECTED, 20, what="the transport")
    assert await read(transport, OTHER_ROOM) == small
    assert await read(transport, ROOM) == large
    assert transport.counters["restarts"] == 0


async def test_a_runner_that_ends_while_more_comes(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections may still be open when there are others."""
    transport = await backend.make()
    log = await filled(transport, ROOM)
    await filled(transport, OTHER_ROOM)
    heard: list[bytes] = []
    await transport.subscribe(ROOM, heard.append)
    left = [transport._command_driver.pool, transport._channel_driver.pool]
    for pool in left:
        # As where the other side does not answer that it closes as well.
        monkeypatch.setattr(pool, "disconnect", lambda: asyncio.sleep(60))

    backend.proxy.stall()
    count = 200
    first = [
        asyncio.ensure_future(transport.append_log(ROOM, log, "a", b"1 %d" % number))
        for number in range(count)
    ]
    await asyncio.sleep(0.05)  # so that they are on their way
    assert transport._runner is not None
    transport._runner.cancel()
    ends = await asyncio.wait_for(asyncio.gather(*first, return_exceptions=True), 20)
    assert all(isinstance(end, TransportUnavailable) for end in ends)

    await backend.proxy.heal()
    await until(lambda: transport.state is CONNECTED, 20, what="the transport")
    heard.clear()
    # The answers to those before may come now.
    appended = await asyncio.gather(
        *(transport.append_log(ROOM, log, "a", b"2 %d" % number) for number in range(count)),
        transport.publish(ROOM, b"last"),
    )
    found = await transport.read_log(ROOM, None, ZERO_OFFSET)
    offsets = {entry.offset: entry.payload for entry in found.entries}
    for number, each in enumerate(appended[:-1]):
        assert isinstance(each, Appended)
        assert offsets[each.offset] == b"2 %d" % number
    await until(lambda: b"last" in heard, what="what was published")
    assert heard.count(b"last") == 1
    assert transport.state is CONNECTED
    assert transport.counters["restarts"] == 1
