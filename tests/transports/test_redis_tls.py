"""What is TLS' own; that every transport's contract holds over it is tested there."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from support.redis_server import RedisServer, certificates
from support.waiting import until

from jupyter_teleportal.core.errors import TransportUnavailable
from jupyter_teleportal.core.values import ZERO_OFFSET, Scope
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import IMPATIENT, RedisBackend

ROOM = Scope("team1", "json:notebook:one")
CONNECTED, DEGRADED = TransportState.CONNECTED, TransportState.DEGRADED


def names(server: RedisServer) -> list[str]:
    """The names of all transports' connections."""
    with server.cli() as client:
        found = (str(each["name"]) for each in client.client_list())
        return sorted(name for name in found if name.startswith("teleportal"))


async def test_small_and_large_entries_in_any_number(tls_redis: RedisServer) -> None:
    async with RedisBackend(tls_redis) as backend:
        a, b = await backend.make(), await backend.make()
        heard: list[bytes] = []
        await b.subscribe(ROOM, heard.append)
        log = (await a.seed_log(ROOM, "lineage", "a", b"seed")).log
        large = [b"y" * 20_000, bytes(range(256)) * 8000, bytes(3_000_000)]
        for payload in large:
            await a.append_log(ROOM, log, "a", payload)
        small = [b"%d" % number for number in range(3000)]
        await asyncio.gather(*(a.append_log(ROOM, log, "a", each) for each in small))
        read = await b.read_log(ROOM, None, ZERO_OFFSET)
        assert [entry.payload for entry in read.entries] == [b"seed", *large, *small]
        await until(lambda: len(heard) == 1 + len(large) + len(small), what="all messages")
        assert a.counters["outages"] == b.counters["outages"] == 0


@pytest.mark.parametrize("wrong", ["authority", "host"])
async def test_a_redis_that_cannot_prove_itself_is_refused_and_why_is_told(
    tls_redis: RedisServer, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, options = tls_redis.url, tls_redis.options
    if wrong == "authority":
        other = tmp_path / "other"
        other.mkdir()
        certificates(other, "127.0.0.1")
        options = {"ssl_ca_certs": str(other / "authority.pem")}
        why = "certificate verify failed"
    else:
        url = url.replace("127.0.0.1", "localhost")
        why = "certificate is not valid for 'localhost'"
    transport = RedisSyncTransport(url=url, options={**IMPATIENT, **options})
    try:
        await transport.start()
        assert transport.state is DEGRADED
        assert why in transport.problem
        told = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert len(told) == 1
        assert why in told[0].getMessage()
        assert str(tls_redis.port) in told[0].getMessage()
        with pytest.raises(TransportUnavailable):
            await transport.publish(ROOM, b"secret")
    finally:
        await asyncio.wait_for(transport.aclose(), 5)


@pytest.mark.parametrize("frozen", [False, True])
async def test_closing_does_not_wait_for_redis(tls_redis: RedisServer, frozen: bool) -> None:
    """With TLS each side says that it closes; one that has stopped does not."""
    async with RedisBackend(tls_redis) as backend:
        transport = await backend.make(connect_timeout_s=10.0)
        await transport.subscribe(ROOM, lambda message: None)
        log = (await transport.seed_log(ROOM, "lineage", "a", b"seed")).log
        await transport.append_log(ROOM, log, "a", bytes(2_000_000))
        if frozen:
            tls_redis.pause()
        began = time.monotonic()
        await transport.aclose()
        assert time.monotonic() - began < 1.2
        if frozen:
            tls_redis.resume()
        await until(lambda: not names(tls_redis), what="the end of the connections")


async def test_a_frozen_redis_is_found_again_and_no_connection_is_left(
    tls_redis: RedisServer,
) -> None:
    async with RedisBackend(tls_redis) as backend:
        transport = await backend.make(command_timeout_s=1.0)
        heard: list[bytes] = []
        await transport.subscribe(ROOM, heard.append)
        tls_redis.pause()
        await until(lambda: transport.state is DEGRADED, 20, what="the outage")
        tls_redis.resume()
        await until(lambda: transport.state is CONNECTED, 20, what="the transport")
        await until(
            lambda: names(tls_redis) == ["teleportal-command", "teleportal-subscribe"],
            what="one connection of each kind",
        )
        await transport.publish(ROOM, b"x")
        await until(lambda: heard, what="what was published")
        assert heard == [b"x"]
