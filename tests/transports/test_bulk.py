"""What is large goes in turns of pieces: nobody else waits for the whole of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support.redis_server import RedisServer
from support.waiting import until

from jupyter_teleportal.core.values import ZERO_OFFSET, Scope
from jupyter_teleportal.transports.base import TransportState, loop_time
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import RedisBackend

LARGE, MIDDLING, SMALL = (Scope("team1", f"json:notebook:{name}") for name in "lms")
MOST_S = 1.0
"""The large ones take 2 to 5 s; other tests run beside this one."""
MEGABYTE = 1_000_000


@pytest.fixture
async def backend(redis_server: RedisServer) -> AsyncIterator[RedisBackend]:
    async with RedisBackend(redis_server) as made:
        yield made


PATIENT = {"command_timeout_s": 5.0, "ping_interval_s": 2.0}
"""As a server is: on a busy machine a slow line is silent for a while."""


async def slow_line(backend: RedisBackend) -> RedisSyncTransport:
    """A transport on a line of some 3 MB/s in each direction, on each connection."""
    transport = await backend.make(**PATIENT)
    backend.proxy.latency = 0.02
    return transport


async def seeded(transport: Any, scope: Scope, payload: bytes = b"seed") -> str:
    return str((await transport.seed_log(scope, "lineage", "a", payload)).log)


async def timed(work: Awaitable[Any]) -> float:
    began = loop_time()
    await work
    return loop_time() - began


async def worst_beside(large: Awaitable[Any], small: Callable[[], Awaitable[Any]]) -> float:
    """How long `small` took at worst, done again and again until `large` was done."""
    under_way = asyncio.ensure_future(large)
    worst, count = 0.0, 0
    while not under_way.done():
        worst = max(worst, await timed(small()))
        count += 1
        await asyncio.sleep(0.01)
    await under_way
    assert count > 10
    return worst


@pytest.mark.parametrize("size", [6, 14], ids=["whole", "in pieces"])
@pytest.mark.parametrize("way", ["append", "seed", "read", "compact", "cross", "read a crossing"])
async def test_small_things_wait_for_nothing_large(
    backend: RedisBackend, way: str, size: int
) -> None:
    fast = await backend.make()
    log, small_log = await seeded(fast, LARGE), await seeded(fast, SMALL)
    payload, text = bytes(size * MEGABYTE), "x" * size * MEGABYTE
    if way == "read":
        await fast.append_log(LARGE, log, "a", payload)
    if way == "read a crossing":
        await fast.write_map(LARGE, "saved", {"crossing": text})
    transport = await slow_line(backend)
    large: dict[str, Callable[[], Awaitable[Any]]] = {
        "append": lambda: transport.append_log(LARGE, log, "a", payload),
        "seed": lambda: transport.seed_log(MIDDLING, "lineage", "a", payload),
        "read": lambda: transport.read_log(LARGE, None, ZERO_OFFSET),
        "compact": lambda: transport.compact_log(LARGE, log, "1-0", payload),
        "cross": lambda: transport.write_map(LARGE, "saved", {"crossing": text}, keep=True),
        "read a crossing": lambda: transport.read_map(LARGE, "saved"),
    }
    states: list[TransportState] = []
    transport.watch(states.append)

    async def small() -> None:
        appended = await transport.append_log(SMALL, small_log, "a", b"x")
        read = await transport.read_log(SMALL, small_log, appended.previous)
        assert [entry.payload for entry in read.entries] == [b"x"]

    assert await worst_beside(large[way](), small) < MOST_S
    assert states == []


@pytest.mark.parametrize("way", ["append", "read"])
async def test_large_ones_take_turns(backend: RedisBackend, way: str) -> None:
    """Whoever has less to send or to read is done long before, though it has begun later."""
    transport = await backend.make()
    log, middling_log = await seeded(transport, LARGE), await seeded(transport, MIDDLING)
    large, middling = bytes(16 * MEGABYTE), bytes(1_200_000)
    if way == "read":
        await transport.append_log(LARGE, log, "a", large)
        await transport.append_log(MIDDLING, middling_log, "a", middling)
    transport = await slow_line(backend)

    def work(scope: Scope, log: str, payload: bytes) -> Awaitable[Any]:
        if way == "read":
            return transport.read_log(scope, None, ZERO_OFFSET)
        return transport.append_log(scope, log, "a", payload)

    alone = await timed(work(MIDDLING, middling_log, middling))
    first = asyncio.ensure_future(timed(work(LARGE, log, large)))
    await asyncio.sleep(alone / 2)
    beside = await timed(work(MIDDLING, middling_log, middling))
    assert not first.done()
    # Its own pieces, as many of the other's, and one that was under way.
    assert beside < 3.5 * alone
    assert await first > 2 * beside


async def test_nothing_is_left_of_what_was_put_together(
    backend: RedisBackend, redis_server: RedisServer
) -> None:
    transport = await backend.make()
    log = await seeded(transport, LARGE, bytes(14 * MEGABYTE))
    with redis_server.cli() as client:

        def left() -> list[bytes]:
            return [key for key in client.keys("*") if b":bulk:" in key]

        await transport.append_log(LARGE, log, "a", bytes(14 * MEGABYTE))
        await transport.read_log(LARGE, None, ZERO_OFFSET)
        await until(lambda: not left(), what="no parts")
        # A server that dies in the midst of it.
        uploading = asyncio.ensure_future(
            transport.append_log(LARGE, log, "a", bytes(30 * MEGABYTE))
        )
        await until(left, what="parts")
        uploading.cancel()
        await until(lambda: all(client.pttl(key) > 0 for key in left()), what="an end")


async def test_a_large_document_is_read_from_a_redis_that_is_full(
    backend: RedisBackend, redis_server: RedisServer
) -> None:
    transport = await backend.make()
    await seeded(transport, LARGE, bytes(14 * MEGABYTE))
    with redis_server.cli() as client:
        client.config_set("maxmemory", "1mb")
        try:
            read = await transport.read_log(LARGE, None, ZERO_OFFSET)
        finally:
            client.config_set("maxmemory", "0")
    assert [len(entry.payload) for entry in read.entries] == [14 * MEGABYTE]


@pytest.mark.parametrize("size", [100_000, 6 * MEGABYTE, 14 * MEGABYTE])
async def test_a_checkpoint_of_any_size_is_read_with_what_follows_it(
    backend: RedisBackend, size: int
) -> None:
    transport = await backend.make()
    log = await seeded(transport, LARGE, bytes(size))
    offset = (await transport.append_log(LARGE, log, "a", b"in it")).offset
    await transport.compact_log(LARGE, log, offset, b"c" * size)
    await transport.append_log(LARGE, log, "a", b"behind it")
    read = await transport.read_log(LARGE, None, ZERO_OFFSET)
    assert (read.checkpoint, read.checkpoint_offset) == (b"c" * size, offset)
    assert [entry.payload for entry in read.entries] == [b"behind it"]


def before_the_turn(
    transport: RedisSyncTransport, monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]
) -> None:
    """Let `what` happen, once, when it is a reader's turn on the connection for bulk."""
    in_turn = transport.in_turn
    waiting = [what]

    async def later(*arguments: Any) -> Any:
        while waiting:
            await waiting.pop()()
        return await in_turn(*arguments)

    monkeypatch.setattr(transport, "in_turn", later)


@pytest.mark.parametrize("late", [b"late", bytes(MEGABYTE)], ids=["small", "large"])
async def test_what_comes_while_a_log_is_read_whole_comes_with_it(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch, late: bytes
) -> None:
    transport, other = await backend.make(), await backend.make()
    log = await seeded(transport, LARGE, bytes(MEGABYTE))
    first = await transport.append_log(LARGE, log, "a", b"first")

    async def append() -> None:
        await other.append_log(LARGE, log, "b", late)

    before_the_turn(transport, monkeypatch, append)
    read = await transport.read_log(LARGE, None, ZERO_OFFSET)
    assert [entry.payload for entry in read.entries] == [bytes(MEGABYTE), b"first", late]
    assert [entry.replica for entry in read.entries] == ["a", "a", "b"]
    assert read.entries[2].previous == first.offset


async def test_a_log_that_is_replaced_while_it_is_read_whole_is_read_anew(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, other = await backend.make(), await backend.make()
    log = await seeded(transport, LARGE, b"1" * MEGABYTE)
    logs: list[str] = []

    async def replace() -> None:
        await other.expire_room(LARGE, log, 0)
        logs.append(await seeded(other, LARGE, b"2" * MEGABYTE))

    before_the_turn(transport, monkeypatch, replace)
    read = await transport.read_log(LARGE, None, ZERO_OFFSET)
    assert [read.log] == logs != [log]
    assert [entry.payload for entry in read.entries] == [b"2" * MEGABYTE]


@pytest.mark.parametrize(
    "forged", [{"tail": "1-1"}, {"tail": "9999999999999-1"}, {"tail": "none"}, {"size": "70000"}]
)
async def test_a_log_about_which_somebody_has_lied_is_read_all_the_same(
    backend: RedisBackend, redis_server: RedisServer, forged: dict[str, str]
) -> None:
    transport = await backend.make()
    log = await seeded(transport, LARGE, bytes(MEGABYTE))
    await transport.append_log(LARGE, log, "a", bytes(14 * MEGABYTE))
    last = await transport.append_log(LARGE, log, "a", b"last")
    _, checkpoint, _ = transport.log_keys(LARGE)
    with redis_server.cli() as client:
        client.hset(checkpoint, mapping={"size": "1000000", **forged})
    read = await transport.read_log(LARGE, None, ZERO_OFFSET)
    assert [len(entry.payload) for entry in read.entries] == [MEGABYTE, 14 * MEGABYTE, 4]
    assert read.tail == last.offset
