"""A Redis that answers, but serves nobody: the transport is away, says why, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes import ChildProcess, free_port
from support.redis_server import RedisServer, require_binary
from support.waiting import until

from jupyter_teleportal import create_redis_sync_transport
from jupyter_teleportal.core.errors import TransportError, TransportRefused, TransportUnavailable
from jupyter_teleportal.core.values import ZERO_OFFSET, LeaseWish, Scope
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.embedded.valkey import find_server_binary
from jupyter_teleportal.transports.redis.scripts import SCRIPTS
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport

from .backends import IMPATIENT, KEY_PREFIX, RedisBackend

ROOM = Scope("team1", "json:notebook:one")
CONNECTED, DEGRADED = TransportState.CONNECTED, TransportState.DEGRADED


class Panic(BaseException):
    """As a library written in Rust raises it."""


async def beat(transport: RedisSyncTransport) -> None:
    await transport.heartbeat("a", "session", forget_s=60, keep_s=60)


@contextlib.asynccontextmanager
async def connecting(url: str, **options: Any) -> AsyncIterator[RedisSyncTransport]:
    transport = await create_redis_sync_transport(url, **{**IMPATIENT, **options})
    try:
        yield transport
    finally:
        await transport.aclose()


@contextlib.contextmanager
def process(directory: Path, *arguments: str) -> Any:
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    child = ChildProcess(
        [require_binary("redis-server"), *arguments, "--port", str(port), "--dir", str(directory)],
        log_path=directory / "log",
        cwd=directory,
    )
    try:
        yield port
    finally:
        child.kill()


# -- before and after it was connected -----------------------------------------------------


def replica(client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")


def no_replica(client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "NO", "ONE")


def no_disk(client: redis.Redis) -> None:
    client.config_set("save", "1 1")
    # A folder of that name cannot be replaced by a file.
    folder = _dump(client)
    folder.mkdir()
    (folder / "file").touch()
    with contextlib.suppress(redis.ResponseError):
        client.bgsave()


def disk(client: redis.Redis) -> None:
    shutil.rmtree(_dump(client))
    client.save()


def _dump(client: redis.Redis) -> Path:
    return Path(client.config_get("dir")["dir"]) / "dump.rdb"


def few_replicas(client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", "1")


def enough_replicas(client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize(
    ("breaks", "mends", "word"),
    [
        (replica, no_replica, "master"),
        (no_disk, disk, "disk"),
        (few_replicas, enough_replicas, "min-replicas"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_redis_that_takes_no_writes_is_away_until_it_does(
    redis_server: RedisServer,
    breaks: Callable[[redis.Redis], None],
    mends: Callable[[redis.Redis], None],
    word: str,
    when: str,
) -> None:
    with redis_server.cli() as client:
        if when == "before":
            breaks(client)
            if word == "disk":
                await until(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        async with connecting(redis_server.url) as transport:
            if when == "after":
                assert transport.state is CONNECTED
                assert transport.problem == ""
                breaks(client)
                if word == "disk":
                    await until(lambda: client.info()["rdb_last_bgsave_status"] == "err")
                with contextlib.suppress(TransportError):
                    await beat(transport)
            await until(lambda: transport.state is DEGRADED, 5, what="the refusal's effect")
            assert word in transport.problem
            with pytest.raises(TransportUnavailable):
                await beat(transport)
            mends(client)
            await until(lambda: transport.state is CONNECTED, 10, what="the transport")
            await beat(transport)
            assert transport.problem == ""


async def test_a_lease_that_is_refused_for_all_gives_the_connection_up(
    redis_server: RedisServer,
) -> None:
    async with connecting(redis_server.url) as transport:
        with redis_server.cli() as client:
            replica(client)
        await transport.hold_leases([LeaseWish(ROOM, want=True)], "a", ttl_s=6, keep_s=60)
        await until(lambda: transport.state is DEGRADED)
        assert "master" in transport.problem


async def test_closing_ends_also_where_a_cancellation_meets_an_error(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = RedisSyncTransport._connected

    @contextlib.asynccontextmanager
    async def fails_when_cancelled(transport: RedisSyncTransport) -> AsyncIterator[Any]:
        async with connected(transport) as lost:
            try:
                yield lost
            except asyncio.CancelledError:
                raise ConnectionError("the connection is lost") from None

    monkeypatch.setattr(RedisSyncTransport, "_connected", fails_when_cancelled)
    transport = await create_redis_sync_transport(redis_server.url, **IMPATIENT)
    assert transport.state is CONNECTED
    await asyncio.wait_for(transport.aclose(), 5)


async def test_a_full_redis_is_not_away(redis_server: RedisServer) -> None:
    async with connecting(redis_server.url) as transport:
        with redis_server.cli() as client:
            client.config_set("maxmemory", "1")
        with pytest.raises(TransportRefused, match="maxmemory"):
            await transport.seed_log(ROOM, "lineage", "a", b"x")
        await beat(transport)
        assert transport.state is CONNECTED
    async with connecting(redis_server.url) as transport:
        assert transport.state is CONNECTED


async def test_a_node_of_a_cluster_is_named(tmp_path: Path) -> None:
    bus = ("--cluster-port", str(free_port()))  # otherwise 10,000 above, where there may be none
    with process(tmp_path / "node", "--cluster-enabled", "yes", *bus) as port:
        await until(lambda: _answers(port), 30)
        for protocol in (2, 3):
            async with connecting(f"redis://127.0.0.1:{port}", protocol=protocol) as transport:
                assert transport.state is DEGRADED
                assert "Cluster" in transport.problem


async def test_a_sentinel_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("sentinel.conf").write_text("")
    with process(tmp_path / "s", str(tmp_path / "sentinel.conf"), "--sentinel") as port:
        await until(lambda: _answers(port), 30)
        for protocol in (2, 3):
            async with connecting(f"redis://127.0.0.1:{port}", protocol=protocol) as transport:
                assert transport.state is DEGRADED
                assert "Sentinel" in transport.problem


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize(
    ("rule", "word"), [("-zrem", "zrem"), ("-evalsha", "evalsha"), ("resetkeys", "key")]
)
async def test_a_right_that_every_document_needs_is_named(
    confined_redis: RedisServer, rule: str, word: str
) -> None:
    with confined_redis.cli() as client:
        client.execute_command("ACL", "SETUSER", confined_redis.ACCOUNT, rule)
    async with connecting(confined_redis.url) as transport:
        assert transport.state is DEGRADED
        assert "right" in transport.problem
        assert word in transport.problem


@pytest.mark.parametrize("right", ["hset", "publish", "xadd"])
async def test_what_is_refused_for_a_right_is_not_in_the_log(
    confined_redis: RedisServer, right: str
) -> None:
    """It is tried again with each heartbeat, for as long as the right is missing."""
    async with connecting(confined_redis.url) as transport:
        log = (await transport.seed_log(ROOM, "lineage", "a", b"x")).log
        confined_redis.take_right(right)
        other = Scope(ROOM.share, "json:notebook:two")
        for _ in range(3):
            with pytest.raises(TransportRefused):
                await transport.append_log(ROOM, log, "a", b"y")
            with pytest.raises(TransportRefused):
                await transport.seed_log(other, "lineage", "a", b"y")
        confined_redis.give_rights()
        there = await transport.read_log(ROOM, log, ZERO_OFFSET)
        assert [entry.payload for entry in there.entries] == [b"x"]
        assert (await transport.seed_log(other, "lineage", "a", b"z")).won
        await transport.append_log(ROOM, log, "a", b"z")


async def test_a_wrong_password_is_named(confined_redis: RedisServer) -> None:
    wrong = confined_redis.admin_url.replace("admin:", "admin:not")
    async with connecting(wrong) as transport:
        assert "password" in transport.problem
        assert "secret" not in transport.problem


# -- scripts -------------------------------------------------------------------------------


async def test_scripts_that_nobody_has_loaded_are_waited_for(confined_redis: RedisServer) -> None:
    confined_redis.kill()
    confined_redis.start(load_scripts=False)
    async with connecting(confined_redis.url) as transport:
        assert transport.state is DEGRADED
        assert "scripts are not loaded" in transport.problem
        confined_redis.load_scripts()
        await until(lambda: transport.state is CONNECTED)
        log = (await transport.seed_log(ROOM, "lineage", "a", b"x")).log
        for call in (
            lambda: transport.append_log(ROOM, log, "a", b"x"),
            lambda: transport.append_log(ROOM, log, "a", b"x" * 2_000_000),
            lambda: transport.read_log(ROOM, log, ZERO_OFFSET),
        ):
            with confined_redis.cli() as client:
                client.script_flush()
            with pytest.raises(TransportUnavailable, match="scripts"):
                await call()
            await until(lambda: transport.state is DEGRADED)
            assert "scripts are not loaded" in transport.problem
            confined_redis.load_scripts()
            await until(lambda: transport.state is CONNECTED)
            await call()


async def test_one_script_that_is_missing_is_not_found_out_later(
    confined_redis: RedisServer,
) -> None:
    confined_redis.kill()
    confined_redis.start(load_scripts=False)
    with confined_redis.cli() as client:
        for script in SCRIPTS[1:]:
            client.script_load(script.source)
    async with connecting(confined_redis.url) as transport:
        assert transport.state is DEGRADED
        assert "scripts are not loaded" in transport.problem


@pytest.mark.parametrize("rule", ["+eval", "+script|load"])
async def test_whoever_may_load_scripts_does(confined_redis: RedisServer, rule: str) -> None:
    confined_redis.kill()
    confined_redis.start(load_scripts=False)
    with confined_redis.cli() as client:
        client.execute_command("ACL", "SETUSER", confined_redis.ACCOUNT, rule)
    async with connecting(confined_redis.url) as transport:
        assert transport.state is CONNECTED
        await beat(transport)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_an_account_runs_the_scripts_and_nothing_else(tmp_path: Path, kind: str) -> None:
    server = RedisServer(tmp_path / "redis", shares=["team1"])
    if kind == "valkey":
        server._binary = str(find_server_binary())
    server.start()
    try:
        with (
            server.cli() as admin,
            server.cli(username=server.ACCOUNT, password=server.PASSWORD) as client,
        ):
            for name in ("log", "checkpoint", "saved", "saver"):
                admin.set(f"{KEY_PREFIX}team2:{{r}}:{name}", "theirs")
            before = _all(admin)
            for command in (
                ("EVAL", "return 1", 0),
                ("EVAL_RO", "return 1", 0),
                ("SCRIPT", "LOAD", "return 1"),
                ("SCRIPT", "FLUSH"),
                ("SCRIPT", "KILL"),
                ("SCRIPT", "EXISTS", "0" * 40),
                ("FUNCTION", "LIST"),
                ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('y', print)"),
                ("FCALL", "x", 0),
                ("KEYS", "*"),
                ("FLUSHALL",),
                ("CONFIG", "GET", "*"),
                ("ACL", "LIST"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
            for script in SCRIPTS:
                share = f"{KEY_PREFIX}team2:{{r}}"
                keys = [f"{share}:{name.strip('*')}" for name in script.keys]
                arguments = ["1" for _ in script.arguments]
                with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                    client.execute_command(*script.command(keys, arguments))
                # Nor with a channel of theirs.
                if "channel" in script.arguments:
                    keys = [key.replace("team2", "team1") for key in keys]
                    arguments[script.arguments.index("channel")] = f"{KEY_PREFIX}team2:all"
                    with contextlib.suppress(redis.ResponseError):
                        client.execute_command(*script.command(keys, arguments))
            assert before == {key: value for key, value in _all(admin).items() if b"team2" in key}
            assert admin.acl_log()
    finally:
        server.kill()


def _all(client: redis.Redis) -> dict[bytes, bytes]:
    return {key: client.get(key) for key in client.keys("*") if client.type(key) == b"string"}


def test_a_script_is_called_as_it_says() -> None:
    for script in SCRIPTS:
        script.command(script.keys, script.arguments)
        with pytest.raises(TypeError):
            script.command([], script.arguments)
        with pytest.raises(TypeError):
            script.command(script.keys, script.arguments[:-2])


# -- the task that keeps the connections ---------------------------------------------------


async def test_a_panic_of_a_listener_ends_nothing(redis_server: RedisServer) -> None:
    heard: list[bytes] = []

    def listener(message: bytes) -> None:
        heard.append(message)
        raise Panic("rust")

    async with connecting(redis_server.url) as transport:
        await transport.subscribe(ROOM, listener)
        for _ in range(3):
            await transport.publish(ROOM, b"x")
        await until(lambda: len(heard) == 3)
        assert transport.state is CONNECTED
        assert transport.counters["errors"] == 3
        assert transport.counters["restarts"] == transport.counters["outages"] == 0


async def test_a_converter_that_fails_harms_its_own_call_alone(redis_server: RedisServer) -> None:
    async with connecting(redis_server.url) as transport:
        script, key = SCRIPTS[-1], f"{KEY_PREFIX}session"
        bad = transport.begin(script, [key], "s", 1000, convert=lambda reply: 1 / 0)
        good = transport.begin(script, [key], "s", 1000)
        with pytest.raises(TransportRefused, match="cannot be read"):
            await bad
        await good
        assert transport.state is CONNECTED


@pytest.mark.parametrize("how", ["cancelled", "panic"])
async def test_the_task_is_begun_again_however_it_ends(
    redis_server: RedisServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connecting(redis_server.url) as transport:
        states: list[TransportState] = []
        transport.watch(states.append)
        if how == "cancelled":
            assert transport._runner is not None
            transport._runner.cancel()
        else:

            def panic(*arguments: Any) -> None:
                monkeypatch.undo()
                raise Panic("rust")

            monkeypatch.setattr(transport, "_on_push", panic)
            await transport.publish(ROOM, b"x")
            with contextlib.suppress(TransportUnavailable):
                await transport.subscribe(ROOM, lambda message: None)
        await until(lambda: DEGRADED in states, what="the outage")
        await until(lambda: transport.state is CONNECTED, what="the transport")
        await beat(transport)


async def test_whoever_closes_it_can_be_cancelled(redis_server: RedisServer) -> None:
    transport = await create_redis_sync_transport(redis_server.url, **IMPATIENT)
    closing = asyncio.ensure_future(transport.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await transport.aclose()


async def test_reconnects_back_off_also_when_connecting_succeeds(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Something cuts each connection off as soon as it is made."""
    caplog.set_level(logging.INFO)
    async with connecting(redis_server.url, backoff_base_s=0.1, backoff_cap_s=2.0) as transport:
        await transport.subscribe(ROOM, lambda message: None)
        ends = asyncio.get_running_loop().time() + 3
        with redis_server.cli() as client:
            while asyncio.get_running_loop().time() < ends:
                client.client_kill_filter(_type="pubsub")
                await asyncio.sleep(0.01)
        assert 2 <= transport.counters["outages"] <= 7
        await until(lambda: transport.state is CONNECTED, 10)


async def test_an_outage_whose_cause_changes_is_told_again(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connecting(redis_server.url) as transport:
        with redis_server.cli() as client:
            replica(client)
        await transport.hold_leases([LeaseWish(ROOM, want=True)], "a", ttl_s=6, keep_s=60)
        await until(lambda: "READONLY" in caplog.text)
        redis_server.kill()
        await until(lambda: "Connect call failed" in transport.problem)
        assert "Connect call failed" in caplog.text


# -- channels ------------------------------------------------------------------------------


async def test_subscribing_again_within_a_round_trip_leaves_a_receiver(
    confined_redis: RedisServer,
) -> None:
    heard: list[bytes] = []
    async with RedisBackend(confined_redis) as backend:
        transport = await backend.make()
        backend.proxy.latency = 0.05
        first = asyncio.ensure_future(transport.subscribe(ROOM, heard.append))
        await asyncio.sleep(0)
        await transport.unsubscribe(ROOM)
        await transport.subscribe(ROOM, heard.append)
        await first
        assert await transport.publish(ROOM, b"x") == 1
        await until(lambda: heard == [b"x"])
