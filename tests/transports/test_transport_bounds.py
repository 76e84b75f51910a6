"""What a transport keeps of a document, and of a share, has bounds."""

from __future__ import annotations

from typing import Any

import pytest
from support.redis_server import RedisServer

from jupyter_teleportal.core.errors import LogFull, ShareFull
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.transports.base import SyncTransport
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import KEY_PREFIX, Backend, RedisBackend

ROOM, OTHER_ROOM = (Scope("team1", f"json:notebook:{name}") for name in "ab")
ELSEWHERE = Scope("team2", "json:notebook:a")
KEEP_S = 3600
USAGE = f"{KEY_PREFIX}team1:usage"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each heartbeat says and learns how large the share is."""
    monkeypatch.setattr("jupyter_teleportal.transports.redis.usage.INTERVAL_S", 0.0)
    monkeypatch.setattr("jupyter_teleportal.transports.redis.usage.CALM_S", 0.0)
    monkeypatch.setattr("jupyter_teleportal.transports.redis.usage.ROOMS_PER_S", 1e9)


async def seeded(transport: SyncTransport, scope: Scope = ROOM) -> str:
    return (await transport.seed_log(scope, "lineage", "a", b"seed")).log


async def beat(transport: SyncTransport, scope: Scope = ROOM, replica: str = "a") -> None:
    await transport.hold_lease(scope, replica, want=True, ttl_s=60, keep_s=KEEP_S)


async def filled(transport: SyncTransport, scope: Scope, count: int = 9) -> str:
    """A log of `count` times 60 kB, whose size is said."""
    log = await seeded(transport, scope)
    for _ in range(count):
        await transport.append_log(scope, log, "a", bytes(60_000))
    await beat(transport, scope)
    return log


async def test_a_document_has_a_bound(backend: Backend) -> None:
    transport = await backend.make(log_max_bytes=300_000)
    log = await seeded(transport)
    last = await transport.append_log(ROOM, log, "a", bytes(90_000))
    with pytest.raises(LogFull):
        await transport.append_log(ROOM, log, "a", bytes(70_000))
    with pytest.raises(LogFull):
        await transport.append_log(ROOM, log, "a", bytes(200_000))
    with pytest.raises(LogFull):
        await transport.seed_log(OTHER_ROOM, "lineage", "a", bytes(200_000))
    with pytest.raises(LogFull):
        await transport.compact_log(ROOM, log, last.offset, bytes(110_000))
    # What is small goes on for a while, such as that something large is removed.
    last = await transport.append_log(ROOM, log, "a", bytes(19_000))
    with pytest.raises(LogFull):
        await transport.append_log(ROOM, log, "a", bytes(19_000))
    # What a checkpoint makes superfluous makes room, once it is forgotten.
    await transport.compact_log(ROOM, log, last.offset, bytes(90_000))
    await transport.trim_history(ROOM, log, last.offset, bytes(90_000))
    await transport.log_size(ROOM, log)
    await transport.append_log(ROOM, log, "a", bytes(70_000))
    # Another document of the share is no worse off.
    other = await seeded(transport, OTHER_ROOM)
    await transport.append_log(OTHER_ROOM, other, "a", bytes(90_000))


async def test_a_share_has_a_bound_that_hinders_no_other(backend: Backend) -> None:
    transport = await backend.make(share_max_bytes=1_000_000)
    other = await backend.make(share_max_bytes=1_000_000)
    logs = {scope: await filled(transport, scope) for scope in (ROOM, OTHER_ROOM)}
    # Another server learns it with its next heartbeat; small edits go on.
    await beat(other, replica="b")
    for one in (transport, other):
        with pytest.raises(ShareFull):
            await one.append_log(ROOM, logs[ROOM], "a", bytes(70_000))
        await one.append_log(ROOM, logs[ROOM], "a", b"small")
    await filled(transport, ELSEWHERE)
    log = await seeded(other, Scope("team2", "json:notebook:b"))
    await other.append_log(Scope("team2", "json:notebook:b"), log, "a", bytes(70_000))
    await beat(transport)
    with pytest.raises(ShareFull):
        await transport.append_log(ROOM, logs[ROOM], "a", bytes(60_000))
    # What is dropped does not count any more.
    await transport.expire_room(OTHER_ROOM, logs[OTHER_ROOM], 0)
    for _ in range(20):
        await beat(transport)
    await transport.append_log(ROOM, logs[ROOM], "a", bytes(70_000))


# -- Redis ---------------------------------------------------------------------------------


@pytest.fixture(params=["open", "confined"])
async def redis_backend(request: pytest.FixtureRequest) -> Any:
    name = "redis_server" if request.param == "open" else "confined_redis"
    async with RedisBackend(request.getfixturevalue(name)) as made:
        yield made


def total(transport: RedisSyncTransport) -> int:
    return transport._usage.total("team1")


def server_of(backend: RedisBackend) -> RedisServer:
    return backend.server


async def test_the_message_says_what_to_do(redis_backend: RedisBackend) -> None:
    transport = await redis_backend.make(log_max_bytes=300_000, share_max_bytes=400_000)
    log = await filled(transport, ROOM, 1)
    with pytest.raises(LogFull, match=r"0\.13 MB.*0\.10 MB; remove.*log_max_bytes"):
        await transport.append_log(ROOM, log, "a", bytes(70_000))
    for name in "bcdef":
        await filled(transport, Scope("team1", f"json:notebook:{name}"), 1)
    with pytest.raises(ShareFull, match=r"share team1 take 0\.36 MB.*share_max_bytes"):
        await transport.append_log(ROOM, log, "a", bytes(66_000))


async def test_a_document_over_its_bound_is_refused_before_all_of_it_is_sent(
    redis_backend: RedisBackend,
) -> None:
    transport = await redis_backend.make(log_max_bytes=60_000_000)
    log = await seeded(transport)
    await transport.append_log(ROOM, log, "a", bytes(8_000_000))
    sent = redis_backend.proxy.bytes_forwarded
    with pytest.raises(LogFull):
        await transport.append_log(ROOM, log, "a", bytes(14_000_000))
    assert redis_backend.proxy.bytes_forwarded - sent < 1_000_000


async def test_a_size_that_somebody_has_made_up_is_counted_anew(
    redis_backend: RedisBackend,
) -> None:
    transport = await redis_backend.make(log_max_bytes=300_000)
    log = await seeded(transport)
    with server_of(redis_backend).cli() as client:
        client.hset(f"{KEY_PREFIX}team1:{{{ROOM.room}}}:checkpoint", "size", 10**12)
    with pytest.raises(LogFull):
        await transport.append_log(ROOM, log, "a", b"x")
    assert (await transport.log_size(ROOM, log)).payload_bytes == 4
    await transport.append_log(ROOM, log, "a", b"x")


@pytest.mark.parametrize(
    "forged",
    [
        lambda client: client.zadd(USAGE, {"nobody": 1e18, b"\xff": 1e17, "x" * 5000: 1e16}),
        lambda client: client.zadd(USAGE, {ROOM.room: float("inf"), "": float("inf")}),
        lambda client: client.zadd(USAGE, {ROOM.room: -1e18, OTHER_ROOM.room: -1e18}),
        lambda client: client.delete(USAGE) and client.set(USAGE, "no set"),
        lambda client: client.delete(USAGE),
    ],
    ids=["nobody's", "endless", "negative", "of another kind", "none"],
)
async def test_a_usage_that_somebody_has_made_up_is_mended(
    redis_backend: RedisBackend, forged: Any
) -> None:
    """Or one that is left of a server that has died."""
    transport = await redis_backend.make()
    await filled(transport, ROOM)
    await filled(transport, OTHER_ROOM, 2)
    await beat(transport)
    assert 660_000 <= total(transport) < 661_000
    with server_of(redis_backend).cli() as client:
        forged(client)
    for _ in range(30):
        await beat(transport)
        await beat(transport, OTHER_ROOM)
    assert 660_000 <= total(transport) < 661_000
    with server_of(redis_backend).cli() as client:
        assert client.zcard(USAGE) == 2
        assert 0 < client.ttl(USAGE) <= KEEP_S


async def test_what_a_dead_server_has_not_said_is_found(redis_backend: RedisBackend) -> None:
    dead, transport = await redis_backend.make(), await redis_backend.make()
    log = await filled(dead, ROOM, 1)
    await dead.append_log(ROOM, log, "a", bytes(900_000))
    await dead.aclose()
    await filled(transport, OTHER_ROOM, 1)
    for _ in range(20):
        await beat(transport, OTHER_ROOM)
    assert total(transport) > 1_000_000


async def test_a_full_redis_tells_leases_all_the_same(redis_backend: RedisBackend) -> None:
    transport = await redis_backend.make()
    await filled(transport, ROOM, 1)
    with server_of(redis_backend).cli() as client:
        client.config_set("maxmemory", "1")
    try:
        view = await transport.hold_lease(ROOM, "a", want=True, ttl_s=60, keep_s=KEEP_S)
    finally:
        with server_of(redis_backend).cli() as client:
            client.config_set("maxmemory", "0")
    assert view.holder == "a"
