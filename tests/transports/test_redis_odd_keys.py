"""Keys of Redis into which others have written what does not belong there: they heal or are passed
over, and harm no other room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.redis_server import RedisServer

from jupyter_teleportal.core.errors import LogChanged
from jupyter_teleportal.core.values import ZERO_OFFSET, LeaseView, LeaseWish, Scope
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import KEY_PREFIX, RedisBackend

SHARE = Scope("team1")
ROOM = Scope("team1", "json:notebook:one")
KEEP_S = 1000.0
BAD = [b"\xff\xfe", b"x" * 5000, b"with a blank", b"", b"\x00"]
LAST_ID = f"{2**64 - 1}-{2**64 - 1}"


def key(name: str, scope: Scope = ROOM) -> str:
    return f"{KEY_PREFIX}{scope.share}:{{{scope.room}}}:{name}"


@pytest.fixture
async def transport(confined_redis: RedisServer) -> AsyncIterator[RedisSyncTransport]:
    async with RedisBackend(confined_redis) as backend:
        yield await backend.make()


async def seeded(transport: RedisSyncTransport, scope: Scope = ROOM) -> str:
    return (await transport.seed_log(scope, "lineage", "a", b"seed")).log


async def beat(transport: RedisSyncTransport, session: str = "session-1") -> Any:
    return await transport.heartbeat("a", session, forget_s=60, keep_s=KEEP_S)


async def held(transport: RedisSyncTransport, scope: Scope = ROOM, replica: str = "a") -> LeaseView:
    return await transport.hold_lease(scope, replica, want=True, ttl_s=6, keep_s=KEEP_S)


async def appended(transport: RedisSyncTransport, payload: bytes, scope: Scope = ROOM) -> str:
    """Append as a room does, which reads the log again when it is another; return its id."""
    for _ in range(3):
        log = (await transport.read_log(scope, None, ZERO_OFFSET)).log or await seeded(transport)
        try:
            await transport.append_log(scope, log, "a", payload)
        except LogChanged:
            continue
        return log
    raise AssertionError("the log never stays")


# -- what all servers share ----------------------------------------------------------------


@pytest.mark.parametrize("bad", [*BAD, None])
async def test_a_session_that_is_none_is_replaced(
    transport: RedisSyncTransport, confined_redis: RedisServer, bad: bytes | None
) -> None:
    name = f"{KEY_PREFIX}session"
    with confined_redis.cli() as client:
        if bad is None:
            client.rpush(name, "a list")
        else:
            client.set(name, bad)
        assert (await beat(transport, "session-1")).session == "session-1"
        assert (await beat(transport, "session-2")).session == "session-1"
        assert client.get(name) == b"session-1"
        assert client.pttl(name) > 0
    assert transport.counters["unreadable"] == 1


async def test_a_member_that_is_no_server_is_passed_over(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    with confined_redis.cli() as client:
        now = 1000 * client.time()[0]
        client.zadd(f"{KEY_PREFIX}replicas", dict.fromkeys(BAD, now))
        client.zadd(
            f"{KEY_PREFIX}replicas", {"forever": "inf", "from the future": 10**17, "b": now}
        )
        assert set((await beat(transport)).ages_s) == {"a", "b"}
        client.zadd(f"{KEY_PREFIX}replicas", {f"{n}": now for n in range(3000)})
        assert len((await beat(transport)).ages_s) <= 1000


async def test_heartbeats_of_the_wrong_kind_are_replaced(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    with confined_redis.cli() as client:
        client.set(f"{KEY_PREFIX}replicas", "a string")
        assert set((await beat(transport)).ages_s) == {"a"}


# -- leases --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [*BAD, b"\xff 5", b"somebody 5", b"x" * 300 + b" 5", ["a list"]],
)
async def test_a_saver_that_is_none_stops_nobody(
    transport: RedisSyncTransport, confined_redis: RedisServer, bad: Any
) -> None:
    rooms = [Scope("team1", f"{n}") for n in range(20)]
    with confined_redis.cli() as client:
        if isinstance(bad, list):
            client.rpush(key("saver", rooms[3]), *bad)
        else:
            # Without an end, which no lease is.
            client.set(key("saver", rooms[3]), bad)
    wishes = [LeaseWish(room, want=True) for room in rooms]
    views = await transport.hold_leases(wishes, "a", ttl_s=6, keep_s=KEEP_S)
    assert [view.holder for view in views if isinstance(view, LeaseView)] == ["a"] * 20


async def test_a_lease_of_many_years_is_nobodys(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    with confined_redis.cli() as client:
        client.set(key("saver"), "b 7", ex=10**9)
    assert (await held(transport)).holder == "a"
    assert (await held(transport, replica="c")).holder == "a"


@pytest.mark.parametrize(
    "fence",
    [b"\xff", b"x", b"-5", b"-9223372036854775808", *(b"%d" % (2**n - 1) for n in (50, 53, 63))],
)
async def test_a_fence_that_is_no_number_is_replaced(
    transport: RedisSyncTransport, confined_redis: RedisServer, fence: bytes
) -> None:
    with confined_redis.cli() as client:
        client.hset(key("saved"), "fence", fence)
    view = await held(transport)
    assert view.holder == "a"
    assert 1000 < view.fence < 2**40
    # The others know who holds it, and for as long as that is so.
    for replica in ("b", "a", "b"):
        assert await held(transport, replica=replica) == view


# -- logs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log", "checkpoint", "saved", "saver"])
@pytest.mark.parametrize("kind", ["list", "string"])
async def test_a_key_of_another_kind_heals(
    transport: RedisSyncTransport, confined_redis: RedisServer, name: str, kind: str
) -> None:
    log = await seeded(transport)
    appended_at = await transport.append_log(ROOM, log, "a", b"x")
    with confined_redis.cli() as client:
        client.delete(key(name))
        if kind == "list":
            client.rpush(key(name), "not what it should be")
        else:
            client.set(key(name), "not what it should be")
    outcomes = await asyncio.gather(
        transport.append_log(ROOM, log, "a", b"y"),
        transport.read_log(ROOM, log, appended_at.offset),
        held(transport),
        transport.mark_saved(ROOM, log, appended_at.offset, {"hash": "x"}, KEEP_S),
        transport.read_map(ROOM, "saved"),
        transport.read_history(ROOM),
        return_exceptions=True,
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(error) for error in errors} <= {LogChanged}
    log = await appended(transport, b"z")
    assert (await transport.read_log(ROOM, None, ZERO_OFFSET)).payloads[-1] == b"z"
    view = await held(transport)
    assert (view.holder, view.log) == ("a", log)
    await transport.mark_saved(ROOM, log, view.tail, {"hash": "y"}, KEEP_S)
    assert (await transport.read_map(ROOM, "saved"))["hash"] == "y"
    await transport.read_history(ROOM)


async def test_a_stream_of_another_kind_keeps_the_checkpoint_and_lineage(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    log = await seeded(transport)
    offset = (await transport.append_log(ROOM, log, "a", b"x")).offset
    await transport.compact_log(ROOM, log, offset, b"all of it")
    with confined_redis.cli() as client:
        client.set(key("log"), "a string")
    read = await transport.read_log(ROOM, log, offset)
    assert read.log is not None
    assert read.log != log
    assert read.log.startswith("lineage/")
    assert (read.contiguous, read.payloads, read.gapless) == (False, [b"all of it"], True)
    await transport.append_log(ROOM, read.log, "a", b"y")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.payloads, read.gapless) == ([b"all of it", b"y"], True)


async def test_a_log_without_offsets_left_begins_anew(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    log = await seeded(transport)
    with confined_redis.cli() as client:
        client.xadd(key("log"), {"u": b"garbage"}, id=LAST_ID)
    with pytest.raises(LogChanged):
        await transport.append_log(ROOM, log, "a", b"x")
    new = await appended(transport, b"x")
    assert new != log
    assert new.startswith("lineage/")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.log, read.payloads) == (new, [b"x"])


async def test_garbage_at_the_tail_is_gone_past(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    log = await seeded(transport)
    garbage = {b"\xff": b"\xff", "p": b"\xff", "r": b"\xff"}
    with confined_redis.cli() as client:
        client.xadd(key("log"), {"other": b"fields"})
        client.xadd(key("log"), garbage, id="99999999999999-0")
    await transport.append_log(ROOM, log, "a", b"x")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert read.payloads == [b"seed", b"", b"", b"x"]
    again = await transport.read_log(ROOM, log, read.entries[0].offset)
    assert (again.contiguous, again.payloads) == (True, [b"", b"", b"x"])


@pytest.mark.parametrize("field", ["tail", "offset", "log"])
@pytest.mark.parametrize("bad", BAD)
async def test_a_checkpoint_with_a_field_that_is_none_of_ours_heals(
    transport: RedisSyncTransport, confined_redis: RedisServer, field: str, bad: bytes
) -> None:
    log = await seeded(transport)
    offset = (await transport.append_log(ROOM, log, "a", b"x")).offset
    with confined_redis.cli() as client:
        client.hset(key("checkpoint"), field, bad)
    assert isinstance(await held(transport), LeaseView)
    log = await appended(transport, b"y")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.log, read.payloads) == (log, [b"seed", b"x", b"y"])
    await transport.compact_log(ROOM, log, offset, b"all of it")


# -- maps ----------------------------------------------------------------------------------


async def test_a_field_that_cannot_be_read_is_passed_over_alone(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    await transport.write_map(SHARE, "files", {"a": "b"})
    with confined_redis.cli() as client:
        client.hset(f"{KEY_PREFIX}team1:files", mapping={b"\xff": b"x", b"bad": b"\xff"})
    assert await transport.read_map(SHARE, "files") == {"a": "b"}
    assert await transport.read_map(SHARE, "files", ["a", "bad"]) == {"a": "b"}
    assert transport.counters["unreadable"] == 3
    assert await transport.write_map(SHARE, "files", {"bad": "good"}) == {"bad": "good"}


async def test_a_map_of_another_kind_is_replaced(
    transport: RedisSyncTransport, confined_redis: RedisServer
) -> None:
    with confined_redis.cli() as client:
        client.set(f"{KEY_PREFIX}team1:files", "a string")
    assert await transport.read_map(SHARE, "files") == {}
    assert await transport.read_map(SHARE, "files", ["a"]) == {}
    assert await transport.write_map(SHARE, "files", {"a": "b"}) == {"a": "b"}
