"""What is Redis' own: connections, batches, faults, rights, expiry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes import ChildProcess, free_port
from support.programs import require_binary
from support.redis_server import RedisServer
from support.waiting import until

from jupyter_teleportal import create_redis_sync_transport
from jupyter_teleportal.core.envelopes import EntryEnvelope, decode_envelope
from jupyter_teleportal.core.errors import SettingsError, TransportRefused, TransportUnavailable
from jupyter_teleportal.core.values import ZERO_OFFSET, LeaseView, LeaseWish, Scope
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.redis.client import LARGE_BYTES
from jupyter_teleportal.transports.redis.options import RedisOptions
from jupyter_teleportal.transports.redis.scripts import READ
from jupyter_teleportal.transports.redis.transport import INLINE_MAX_BYTES, RedisSyncTransport

from .backends import IMPATIENT, KEY_PREFIX, RedisBackend

ROOM = Scope("team1", "json:notebook:one")
OTHER_ROOM = Scope("team1", "json:notebook:two")
KEEP_S = 1000.0
OURS = [option.name for option in fields(RedisOptions) if option.name != "client"]
CONNECTED, DEGRADED = TransportState.CONNECTED, TransportState.DEGRADED


def key(name: str, scope: Scope = ROOM) -> str:
    return f"{KEY_PREFIX}{scope.share}:{{{scope.room}}}:{name}"


@pytest.fixture
async def transport(redis_server: RedisServer) -> AsyncIterator[RedisSyncTransport]:
    made = await create_redis_sync_transport(redis_server.url, **IMPATIENT)
    assert made.state is CONNECTED
    yield made
    await made.aclose()


@pytest.fixture
async def patient(redis_server: RedisServer) -> AsyncIterator[RedisSyncTransport]:
    """One that gives no connection up, however long the machine keeps it waiting."""
    made = await create_redis_sync_transport(
        redis_server.url, connect_timeout_s=60, command_timeout_s=60, ping_interval_s=60
    )
    assert made.state is CONNECTED
    yield made
    await made.aclose()


@pytest.fixture
async def backend(redis_server: RedisServer) -> AsyncIterator[RedisBackend]:
    async with RedisBackend(redis_server) as made:
        yield made


async def seeded(transport: RedisSyncTransport, scope: Scope = ROOM) -> str:
    return (await transport.seed_log(scope, "lineage", "a", b"seed")).log


async def works(transport: RedisSyncTransport, scope: Scope = OTHER_ROOM) -> bool:
    """Whether a room that has nothing to do with it works."""
    seed = await transport.seed_log(scope, "lineage", "a", b"seed")
    await transport.append_log(scope, seed.log, "a", b"more")
    read = await transport.read_log(scope, None, ZERO_OFFSET)
    return read.entries[-1].payload == b"more"


def connections(server: RedisServer) -> dict[str, int]:
    """The ids of all transports' connections, by name."""
    with server.cli() as client:
        return {
            each["name"]: int(each["id"])
            for each in client.client_list()
            if each["name"].startswith("teleportal-")
        }


def connection_count(server: RedisServer) -> int:
    with server.cli() as client:
        return sum(each["name"] != "test" for each in client.client_list())


# -- connections and batches ---------------------------------------------------------------


async def test_three_connections_whatever_the_number_of_rooms(
    redis_server: RedisServer, patient: RedisSyncTransport
) -> None:
    transport = patient
    assert connection_count(redis_server) == 2
    scopes = [Scope("team1", f"room {number}") for number in range(300)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, connection_count(redis_server))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())

    async def use(scope: Scope) -> None:
        await transport.subscribe(scope, lambda message: None)
        log = await seeded(transport, scope)
        await asyncio.gather(*(transport.append_log(scope, log, "a", b"x") for _ in range(5)))
        read = await transport.read_log(scope, None, ZERO_OFFSET)
        assert len(read.entries) == 6

    async def use_much(scope: Scope) -> None:
        log = await seeded(transport, scope)
        await transport.append_log(scope, log, "a", bytes(2 * LARGE_BYTES))
        assert len((await transport.read_log(scope, None, ZERO_OFFSET)).entries) == 2

    large = [Scope("team1", f"large room {number}") for number in range(10)]
    await asyncio.gather(*map(use, scopes), *map(use_much, large))
    most = max(most, connection_count(redis_server))
    watching.cancel()
    assert most <= 3
    assert set(connections(redis_server)) == {
        "teleportal-command",
        "teleportal-subscribe",
        "teleportal-read",
    }


async def test_concurrent_appends_travel_together(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    await transport.append_log(ROOM, log, "a", b"x")

    def packets() -> int:
        with redis_server.cli() as client:
            return int(client.info("stats")["total_reads_processed"])

    before = packets()
    await asyncio.gather(*(transport.append_log(ROOM, log, "a", b"x") for _ in range(1000)))
    assert packets() - before < 100
    with redis_server.cli() as client:
        assert client.xlen(key("log")) == 1002


async def test_one_append_is_one_round_trip(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    await transport.append_log(ROOM, log, "a", b"x")
    with redis_server.cli() as client:
        client.config_resetstat()
        await transport.append_log(ROOM, log, "a", b"x")
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 1
    assert "cmdstat_eval" not in calls
    assert "cmdstat_multi" not in calls


async def test_large_payloads_are_announced_by_their_offset(
    transport: RedisSyncTransport,
) -> None:
    heard: list[bytes] = []
    await transport.subscribe(ROOM, heard.append)
    log = await seeded(transport)
    small, large = b"s" * INLINE_MAX_BYTES, b"l" * (INLINE_MAX_BYTES + 1)
    await transport.append_log(ROOM, log, "a", small)
    await transport.append_log(ROOM, log, "a", large)
    await until(lambda: len(heard) == 3)
    envelopes = [decode_envelope(message) for message in heard]
    assert all(isinstance(envelope, EntryEnvelope) for envelope in envelopes)
    assert [envelope.payload for envelope in envelopes] == [b"seed", small, None]
    read = await transport.read_log(ROOM, log, envelopes[1].offset)
    assert [(entry.offset, entry.payload) for entry in read.entries] == [
        (envelopes[2].offset, large)
    ]


async def test_a_very_large_payload_does_not_delay_the_liveness_of_others(
    backend: RedisBackend,
) -> None:
    # With the default patience: 30 MB take Redis and this very process a moment.
    patient = {"command_timeout_s": 10, "ping_interval_s": 2}
    one, two = await backend.make(**patient), await backend.make(**patient)
    heard: list[bytes] = []
    await two.subscribe(ROOM, heard.append)
    await two.subscribe(OTHER_ROOM, heard.append)
    log = await seeded(one)
    await one.append_log(ROOM, log, "a", os.urandom(30 << 20))
    await one.publish(OTHER_ROOM, b"x")
    await until(lambda: len(heard) == 3)
    assert max(map(len, heard)) < 1000
    assert two.state is CONNECTED
    read = await two.read_log(ROOM, None, ZERO_OFFSET)
    assert len(read.entries[-1].payload) == 30 << 20


# -- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["teleportal-command", "teleportal-subscribe"])
async def test_a_killed_connection_is_made_again(
    redis_server: RedisServer, transport: RedisSyncTransport, name: str
) -> None:
    heard: list[bytes] = []
    await transport.subscribe(ROOM, heard.append)
    log = await seeded(transport)
    states: list[TransportState] = []
    transport.watch(states.append)
    with redis_server.cli() as client:
        client.client_kill_filter(_id=str(connections(redis_server)[name]))
        if name == "teleportal-command":
            with pytest.raises(TransportUnavailable):
                await transport.append_log(ROOM, log, "a", b"into the void")
        await until(lambda: CONNECTED in states)
        heard.clear()
        client.publish(transport.channel(ROOM), b"x")
    await until(lambda: heard == [b"x"])
    # Messages may have been missed, and whoever listens is told so.
    assert states == [DEGRADED, CONNECTED]
    await transport.append_log(ROOM, log, "a", b"more")
    assert connection_count(redis_server) == 2


async def test_a_killed_connection_for_reads_is_made_again(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    await transport.append_log(ROOM, log, "a", bytes(2 * LARGE_BYTES))
    await transport.read_log(ROOM, None, ZERO_OFFSET)
    with redis_server.cli() as client:
        client.client_kill_filter(_id=str(connections(redis_server)["teleportal-read"]))

    async def reads() -> bool:
        try:
            return (await transport.read_log(ROOM, None, ZERO_OFFSET)).log == log
        except TransportUnavailable:
            return False

    await until(reads, 3)
    assert transport.state is CONNECTED
    assert connection_count(redis_server) == 3


async def test_a_page_of_a_log_is_bounded_by_its_bytes(
    transport: RedisSyncTransport, redis_server: RedisServer
) -> None:
    log = await seeded(transport)
    sizes = [*(10 for _ in range(100)), *(400_000 for _ in range(40)), 10]
    for size in sizes:
        await transport.append_log(ROOM, log, "a", b"x" * size)
    keys, first, pages = [key("log"), key("checkpoint")], "-", []
    with redis_server.cli() as client:
        client.script_load(READ.source)
        more = True
        while more:
            _, entries, last = client.evalsha(
                READ.sha, 2, *keys, log, first, 2000, 1_000_000, 10**9
            )
            pages.append([len(parts[1]) for _, parts in entries])
            first, more = b"(" + entries[-1][0], not last
    assert [size for page in pages for size in page] == [4, *sizes]
    # Only the first large ones behind small ones come unexpected.
    assert len(pages[0]) >= 100
    *others, largest = sorted(map(sum, pages))
    assert largest < 16 * 400_000
    assert max(others) < 1_500_000
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert [len(payload) for payload in read.payloads] == [4, *sizes]


async def test_scripts_that_redis_has_forgotten_are_sent_again(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    with redis_server.cli() as client:
        for _ in range(3):
            client.script_flush()
            results = await asyncio.gather(
                *(transport.append_log(ROOM, log, "a", b"x") for _ in range(10)),
                transport.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S),
            )
            assert results[-1].holder == "a"
        assert client.xlen(key("log")) == 31
    assert transport.state is CONNECTED


async def test_the_order_of_appends_survives_a_forgotten_script(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    with redis_server.cli() as client:
        client.script_flush()
    payloads = [b"%d" % number for number in range(50)]
    await asyncio.gather(*(transport.append_log(ROOM, log, "a", each) for each in payloads))
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert [entry.payload for entry in read.entries] == [b"seed", *payloads]


async def test_a_full_redis_refuses_writes_and_recovers(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    with redis_server.cli() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(TransportRefused, match="maxmemory"):
            await transport.append_log(ROOM, log, "a", b"x")
        with pytest.raises(TransportRefused, match="maxmemory"):
            await seeded(transport, OTHER_ROOM)
        assert not client.exists(key("log", OTHER_ROOM), key("checkpoint", OTHER_ROOM))
        # What is there can still be read, and messages still travel.
        assert (await transport.read_log(ROOM, None, ZERO_OFFSET)).log == log
        assert transport.state is CONNECTED
        client.config_set("maxmemory", "0")
    await transport.append_log(ROOM, log, "a", b"x")


async def test_a_redis_that_comes_later_is_found(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    with caplog.at_level(logging.INFO, "jupyter_teleportal"):
        began = time.monotonic()
        transport = await create_redis_sync_transport(redis_server.url, **IMPATIENT)
        try:
            assert time.monotonic() - began < 3
            assert transport.state is DEGRADED
            heard: list[bytes] = []
            with pytest.raises(TransportUnavailable):
                await transport.subscribe(ROOM, heard.append)
            warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
            assert len(warnings) == 1
            redis_server.start()
            await until(lambda: transport.state is CONNECTED)
            await transport.publish(ROOM, b"x")
            await until(lambda: heard == [b"x"])
        finally:
            await transport.aclose()


async def test_a_restarted_redis_is_found_with_its_data(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    heard: list[bytes] = []
    await transport.subscribe(ROOM, heard.append)
    log = await seeded(transport)
    redis_server.restart()
    await until(lambda: transport.state is DEGRADED or transport.state is CONNECTED)

    async def appended() -> bool:
        try:
            return bool(await transport.append_log(ROOM, log, "a", b"x"))
        except TransportUnavailable:
            return False

    await until(appended)
    heard.clear()
    await transport.publish(ROOM, b"y")
    await until(lambda: b"y" in heard)


async def test_what_an_account_has_written_outlives_redis(confined_redis: RedisServer) -> None:
    """Redis 7.0 reads its append-only file with the rights of the user `default`: without any, it
    drops what scripts have written. Nobody comes in with it."""
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=confined_redis.port) as client:
        client.ping()
    transport = await create_redis_sync_transport(confined_redis.url, **IMPATIENT)
    try:
        log = await seeded(transport)
        await transport.append_log(ROOM, log, "a", b"x")
        # In good order: one that is killed may not have written all, if the disk is slow.
        confined_redis.stop()
        confined_redis.start()

        async def entries() -> list[bytes] | None:
            try:
                return [e.payload for e in (await transport.read_log(ROOM, log, "0-0")).entries]
            except TransportUnavailable:
                return None

        assert b"x" in await until(entries)
    finally:
        await transport.aclose()


async def test_a_stalled_redis_is_noticed_in_time_and_found_again(
    redis_server: RedisServer,
) -> None:
    options = {**IMPATIENT, "command_timeout_s": 0.5, "ping_interval_s": 0.1}
    transport = await create_redis_sync_transport(redis_server.url, **options)
    try:
        heard: list[bytes] = []
        await transport.subscribe(ROOM, heard.append)
        log = await seeded(transport)
        redis_server.pause()
        began = time.monotonic()
        with pytest.raises(TransportUnavailable):
            await transport.append_log(ROOM, log, "a", b"x")
        await until(lambda: transport.state is DEGRADED, 2)
        assert time.monotonic() - began < 1.5
        redis_server.resume()
        await until(lambda: transport.state is CONNECTED)
        heard.clear()
        await transport.publish(ROOM, b"y")
        await until(lambda: b"y" in heard)
    finally:
        redis_server.resume()
        await transport.aclose()


async def test_a_subscription_that_waits_fails_with_the_connection(backend: RedisBackend) -> None:
    transport = await backend.make(command_timeout_s=30)
    backend.proxy.stall()
    # Silence ends the connection.
    with pytest.raises(TransportUnavailable):
        await asyncio.wait_for(transport.subscribe(ROOM, lambda message: None), 10)


async def test_silence_alone_is_noticed(redis_server: RedisServer) -> None:
    """Nobody asks anything, yet a stalled connection for subscriptions is given up."""
    options = {**IMPATIENT, "ping_interval_s": 0.1}
    transport = await create_redis_sync_transport(redis_server.url, **options)
    try:
        await transport.subscribe(ROOM, lambda message: None)
        redis_server.pause()
        await until(lambda: transport.state is DEGRADED, 3)
        redis_server.resume()
        await until(lambda: transport.state is CONNECTED)
    finally:
        redis_server.resume()
        await transport.aclose()


async def test_a_quiet_connection_is_left_in_peace(redis_server: RedisServer) -> None:
    options = {**IMPATIENT, "ping_interval_s": 0.05, "command_timeout_s": 0.2}
    transport = await create_redis_sync_transport(redis_server.url, **options)
    states: list[TransportState] = []
    transport.watch(states.append)
    try:
        await asyncio.sleep(0.5)
        await transport.subscribe(ROOM, lambda message: None)
        await asyncio.sleep(0.5)
        await transport.unsubscribe(ROOM)
        await asyncio.sleep(0.5)
        assert states == []
    finally:
        await transport.aclose()


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("http://localhost", {}, "redis_url"),
        ("localhost:6379", {}, "redis_url"),
        ("", {}, "redis_url"),
        ("redis://localhost:port", {}, "redis_url"),
        ("redis://localhost/0", {"nonsense": 1}, "nonsense"),
        (None, {"hots": "localhost"}, "hots"),
        (None, {"backoff_base_s": 0}, "backoff_base_s"),
        (None, {"command_timeout_s": "5"}, "command_timeout_s"),
        (None, {"connect_timeout_s": True}, "connect_timeout_s"),
        (None, {"ping_interval_s": -1}, "ping_interval_s"),
        *[
            (None, {option: value}, f"{option} is {value}, .*; for no limit")
            for option in OURS
            for value in (0, -1, math.nan, math.inf, -math.inf)
        ],
    ],
)
async def test_what_cannot_be_used_is_named(
    url: str | None, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        await create_redis_sync_transport(url, **options)


async def test_a_password_is_in_no_message(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        port = free_port()
        for url in (f"redis://u:hunter2@127.0.0.1:{port}/0", f"redis://:hunter2@127.0.0.1:{port}"):
            transport = await create_redis_sync_transport(url, **IMPATIENT)
            with pytest.raises(TransportUnavailable) as error:
                await transport.publish(ROOM, b"x")
            assert str(port) in str(error.value)
            assert "hunter2" not in str(error.value)
            await transport.aclose()
        options = {**IMPATIENT, "host": "127.0.0.1", "port": redis_server.port}
        wrong = await create_redis_sync_transport(username="u", password="hunter2", **options)
        assert wrong.state is DEGRADED
        await wrong.aclose()
        with pytest.raises(SettingsError) as refused:
            await create_redis_sync_transport("redis://u:hunter2@localhost/0", nonsense=1)
        assert "hunter2" not in str(refused.value)
    assert "hunter2" not in caplog.text
    assert "WRONGPASS" in caplog.text or "invalid username" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:se/cret@host:1",
        "redis://u:se#cret@host:1",
        "redis://:sec[ret@host",
        "redis://:s:cret/x@h",
    ],
)
async def test_an_error_about_a_url_shows_nothing_of_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="percent-encode") as refused:
        await create_redis_sync_transport(url)
    assert "ret" not in str(refused.value)
    assert "'s" not in str(refused.value)


async def test_user_password_and_database_in_url_or_options(redis_server: RedisServer) -> None:
    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "jo", "on", ">p@ss/word", "~*", "&*", "+@all")
    credentials = {"username": "jo", "password": "p@ss/word", "db": 2}
    place = {"host": "127.0.0.1", "port": redis_server.port}
    url = f"redis://jo:p%40ss%2Fword@127.0.0.1:{redis_server.port}/2"
    for number, transport in enumerate(
        [
            await create_redis_sync_transport(url, key_prefix="one:", **IMPATIENT),
            await create_redis_sync_transport(
                key_prefix="two:", **place, **credentials, **IMPATIENT
            ),
            await create_redis_sync_transport(
                f"redis://127.0.0.1:{redis_server.port}",
                key_prefix="three:",
                **credentials,
                **IMPATIENT,
            ),
        ]
    ):
        assert transport.state is CONNECTED, number
        assert await works(transport)
        await transport.aclose()
    with redis_server.cli(db=2) as client:
        prefixes = {name.split(b":")[0] for name in client.scan_iter()}
        assert prefixes == {b"one", b"two", b"three"}
    with redis_server.cli() as client:
        assert client.dbsize() == 0


async def test_a_unix_socket(tmp_path: Path) -> None:
    binary = require_binary("redis-server", "valkey-server")
    # The path of a socket is at most some 100 characters long.
    with tempfile.TemporaryDirectory(prefix="tp") as folder:
        socket = Path(folder) / "redis.sock"
        server = ChildProcess(
            [binary, "--port", "0", "--unixsocket", str(socket), "--save", ""],
            log_path=tmp_path / "redis.log",
            cwd=tmp_path,
        )
        try:
            await until(socket.exists)
            for transport in (
                await create_redis_sync_transport(f"unix://{socket}", **IMPATIENT),
                await create_redis_sync_transport(f"unix://{socket}?db=1", **IMPATIENT),
            ):
                assert transport.state is CONNECTED
                assert transport.address == str(socket)
                assert await works(transport)
                await transport.aclose()
        finally:
            server.kill()


async def test_a_user_who_may_use_one_share_only(redis_server: RedisServer) -> None:
    with redis_server.cli() as client:
        client.execute_command(
            *("ACL", "SETUSER", "team", "on", ">secret", "resetkeys", "resetchannels"),
            *(f"~{KEY_PREFIX}team1:*", f"&{KEY_PREFIX}team1:*"),
            *(f"~{KEY_PREFIX}session", f"~{KEY_PREFIX}replicas"),
            *("+@all", "-@dangerous", "-@admin"),
        )
    # Long enough an outage to do something in it.
    patience = {**IMPATIENT, "backoff_base_s": 1.0, "backoff_cap_s": 1.0}
    transport = await create_redis_sync_transport(
        f"redis://team:secret@127.0.0.1:{redis_server.port}", **patience
    )
    states: list[TransportState] = []
    transport.watch(states.append)
    try:
        assert transport.state is CONNECTED
        heard: list[bytes] = []
        await transport.subscribe(ROOM, heard.append)
        await transport.subscribe(Scope("team1"), heard.append)
        log = await seeded(transport)
        await transport.append_log(ROOM, log, "a", b"x")
        await transport.publish(Scope("team1"), b"y")
        await until(lambda: len(heard) == 3)
        await transport.read_log(ROOM, None, ZERO_OFFSET)
        await transport.read_history(ROOM)
        await transport.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S)
        await transport.write_map(Scope("team1"), "files", {"a": "b"})
        view = await transport.heartbeat("a", "session", forget_s=60, keep_s=KEEP_S)
        assert set(view.ages_s) == {"a"}
        await transport.farewell("a")

        foreign = Scope("team2", "json:notebook:one")
        for call in (
            transport.seed_log(foreign, "lineage", "a", b"x"),
            transport.read_log(foreign, None, ZERO_OFFSET),
            transport.write_map(Scope("team2"), "files", {"a": "b"}),
            transport.publish(foreign, b"x"),
            transport.subscribe(foreign, heard.append),
        ):
            with pytest.raises(TransportRefused, match=r"(?i)noperm|permission"):
                await call
        wishes = [LeaseWish(room, want=True) for room in (foreign, ROOM)]
        refused, own = await transport.hold_leases(wishes, "a", ttl_s=6, keep_s=KEEP_S)
        assert isinstance(refused, TransportRefused)
        assert isinstance(own, LeaseView)
        # Which harms nobody else.
        await transport.publish(ROOM, b"z")
        await until(lambda: heard[-1] == b"z")
        assert states == []
        # Nor does a channel that was asked for while Redis was away.
        with redis_server.cli() as client:
            client.client_kill_filter(user="team")
        await until(lambda: transport.state is DEGRADED)
        for scope in (foreign, OTHER_ROOM):
            with pytest.raises(TransportUnavailable):
                await transport.subscribe(scope, heard.append)
        await until(lambda: transport.state is CONNECTED)
        await transport.publish(OTHER_ROOM, b"again")
        await until(lambda: heard[-1] == b"again")
    finally:
        await transport.aclose()
    with redis_server.cli() as client:
        assert not client.keys(f"{KEY_PREFIX}team2:*")


# -- names and expiry ----------------------------------------------------------------------


async def test_names_of_keys_and_channels(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    appended = await transport.append_log(ROOM, log, "a", b"x")
    await transport.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S)
    await transport.mark_saved(ROOM, log, appended.offset, {"hash": "h"}, KEEP_S)
    await transport.write_map(Scope("team1"), "files", {"a": "b"})
    await transport.heartbeat("a", "session", forget_s=60, keep_s=KEEP_S)
    await transport.subscribe(ROOM, lambda message: None)
    await transport.subscribe(Scope("team1"), lambda message: None)
    with redis_server.cli() as client:
        types = {name.decode(): client.type(name).decode() for name in client.scan_iter()}
        channels = {name.decode() for name in client.pubsub_channels()}
        (first, _), (_, entry) = client.xrange(key("log"))
        assert entry == {b"u": b"x", b"r": b"a", b"p": first}
        assert re.fullmatch(rb"a \d+", client.get(key("saver")))
    assert types == {
        key("log"): "stream",
        key("checkpoint"): "hash",
        key("saver"): "string",
        key("saved"): "hash",
        f"{KEY_PREFIX}team1:files": "hash",
        f"{KEY_PREFIX}team1:usage": "zset",
        f"{KEY_PREFIX}session": "string",
        f"{KEY_PREFIX}replicas": "zset",
    }
    assert channels == {f"{KEY_PREFIX}team1:{{{ROOM.room}}}", f"{KEY_PREFIX}team1:all"}


def seconds_left(client: redis.Redis, *names: str) -> list[float | None]:
    """How long the room's keys still live; None: for ever."""
    left = [client.pttl(key(name)) for name in names]
    assert -2 not in left, f"one of {names} is not there"
    return [None if each == -1 else each / 1000 for each in left]


LASTING = ("log", "checkpoint", "saved")


async def test_what_is_saved_expires_and_what_is_not_stays(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    first = await transport.append_log(ROOM, log, "a", b"one")
    last = await transport.append_log(ROOM, log, "a", b"two")
    with redis_server.cli() as client:
        assert seconds_left(client, "log", "checkpoint") == [None, None]
        # A save of less than everything.
        await transport.mark_saved(ROOM, log, first.offset, {}, 100)
        assert seconds_left(client, *LASTING) == [None] * 3
        # A save of everything.
        await transport.mark_saved(ROOM, log, last.offset, {}, 100)
        assert all(90 < left <= 100 for left in seconds_left(client, *LASTING))
        # And an edit after it.
        await transport.append_log(ROOM, log, "a", b"three")
        assert seconds_left(client, *LASTING) == [None] * 3


async def test_a_held_lease_keeps_the_room(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    last = await transport.append_log(ROOM, log, "a", b"one")
    await transport.mark_saved(ROOM, log, last.offset, {}, 10)

    async def hold(replica: str, *, want: bool = True) -> None:
        await transport.hold_lease(ROOM, replica, want=want, ttl_s=6, keep_s=100)

    with redis_server.cli() as client:
        await hold("a")
        assert 5 < seconds_left(client, "saver")[0] <= 6
        assert all(90 < left <= 100 for left in seconds_left(client, *LASTING))
        client.pexpire(key("log"), 60_000)
        await hold("a")
        # Only when half is gone, so that this is rare.
        assert seconds_left(client, "log")[0] <= 60
        for name in LASTING:
            client.pexpire(key(name), 10_000)
        await hold("b")
        await hold("a", want=False)
        assert all(left <= 10 for left in seconds_left(client, *LASTING))


async def test_a_room_that_was_left_expires(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    log = await seeded(transport)
    await transport.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S)
    await transport.expire_room(ROOM, log, 50)
    with redis_server.cli() as client:
        assert all(40 < left <= 50 for left in seconds_left(client, *LASTING))
        # A lease never lives longer than it was asked for.
        assert seconds_left(client, "saver")[0] <= 6


async def test_every_key_expires_or_has_a_reason_to_stay(
    redis_server: RedisServer, transport: RedisSyncTransport
) -> None:
    """The reasons: entries that are in no file yet, and the ids of files that are there."""
    log = await seeded(transport)
    last = await transport.append_log(ROOM, log, "a", b"x")
    await transport.compact_log(ROOM, log, last.offset, b"checkpoint")
    await transport.trim_history(ROOM, log, last.offset, b"base")
    await transport.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S)
    await transport.mark_saved(ROOM, log, last.offset, {"hash": "x"}, KEEP_S)
    await transport.hold_lease(ROOM, "a", want=False, ttl_s=6, keep_s=KEEP_S)
    await transport.heartbeat("a", "session", forget_s=60, keep_s=KEEP_S)
    unsaved = await seeded(transport, OTHER_ROOM)
    await transport.append_log(OTHER_ROOM, unsaved, "a", b"x")
    await transport.write_map(Scope("team1"), "files", {"a": "b"})
    # A room that was looked at, and never had a log.
    never = Scope("team1", "json:notebook:never")
    await transport.hold_lease(never, "a", want=True, ttl_s=6, keep_s=KEEP_S)
    with redis_server.cli() as client:
        stay = {name.decode() for name in client.scan_iter() if client.ttl(name) == -1}
    assert stay == {
        key("log", OTHER_ROOM),
        key("checkpoint", OTHER_ROOM),
        f"{KEY_PREFIX}team1:files",
    }


async def test_a_large_append_on_a_slow_line_arrives(redis_server: RedisServer) -> None:
    """It takes longer than a command may, and nobody else waits for it."""
    bytes_per_second = 2_000_000

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                if slow and len(data) > 1000:
                    await asyncio.sleep(len(data) / bytes_per_second)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(forward(reader, back, True), forward(there, writer, False))

    line = await asyncio.start_server(accept, "127.0.0.1", 0, limit=65536)
    port = line.sockets[0].getsockname()[1]
    transport = await create_redis_sync_transport(
        f"redis://127.0.0.1:{port}", command_timeout_s=1.0
    )
    states: list[TransportState] = []
    transport.watch(states.append)
    scope = Scope("team1", "text:file:slow")
    log = (await transport.seed_log(scope, "lineage", "a", b"\x00x")).log
    large = asyncio.ensure_future(
        transport.append_log(scope, log, "a", b"\x00" + os.urandom(5_000_000))
    )
    while not large.done():
        await asyncio.wait_for(transport.read_map(Scope("team1"), "files"), 1)
        await asyncio.wait({large}, timeout=0.1)
    await large
    assert not states
    await transport.aclose()
    line.close()


async def test_a_listener_that_fails_does_not_keep_redis_away(redis_server: RedisServer) -> None:
    def fail(state: TransportState) -> None:
        raise TypeError("not mine")

    transport = RedisSyncTransport(url=redis_server.url)
    transport.watch(fail)
    await transport.start()
    assert transport.state is TransportState.CONNECTED
    await transport.aclose()
