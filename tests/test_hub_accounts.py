"""The servers' accounts in Redis that a hub makes: their rights, and that they come back."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import redis
from redis.exceptions import NoPermissionError
from support.waiting import until

from jupyter_teleportal.core.errors import SettingsError, TransportError, TransportRefused
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.jupyterhub import sharing, with_credentials
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.redis import accounts as redis_acl
from jupyter_teleportal.transports.redis.account_keeper import Account, Accounts
from jupyter_teleportal.transports.redis.accounts import (
    account_rules,
    granted_key,
    has_rules,
    hash_password,
    listed_categories,
    parse_granted,
)
from jupyter_teleportal.transports.redis.client import RedisClient
from jupyter_teleportal.transports.redis.options import DEFAULT_KEY_PREFIX
from jupyter_teleportal.transports.redis.transport import (
    RedisSyncTransport,
    create_redis_sync_transport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

NAME, PASSWORD = "teleportal:sync:alice", "a password"
ALICE = Account(NAME, ("team1",), hash_password(PASSWORD))


@pytest.fixture(params=["as it is", "with all commands for hashes"])
def rules_as_listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 7.0 lists an account that may most commands of a category by that category."""
    if request.param != "as it is":
        hashes = ("hexists", "hkeys", "hvals", "hlen", "hscan", "hincrbyfloat")
        monkeypatch.setattr(redis_acl, "COMMANDS", (*redis_acl.COMMANDS, *hashes))


@pytest.fixture
async def accounts(redis_server: RedisServer) -> AsyncIterator[Accounts]:
    client = RedisClient(url=redis_server.url)
    accounts = Accounts(client, log=logging.getLogger("accounts"), look_interval_s=0.2)
    yield accounts
    await accounts.aclose()


def lets_in(redis_server: RedisServer, password: str = PASSWORD) -> bool:
    try:
        with redis_server.cli(username=NAME, password=password) as client:
            return bool(client.ping())
    except (redis.AuthenticationError, redis.ConnectionError):
        return False


def looks(redis_server: RedisServer) -> int:
    """How often somebody has looked at the accounts."""
    with redis_server.cli() as client:
        stats = client.info("commandstats")
    return int(stats.get("cmdstat_acl|list", {"calls": 0})["calls"])


async def test_an_account_reaches_its_shares_alone(
    accounts: Accounts, redis_server: RedisServer
) -> None:
    await accounts.create(ALICE)
    with redis_server.cli(username=NAME, password=PASSWORD) as client:
        client.hset("teleportal:sync:team1:paths", "id", "path")
        with pytest.raises(NoPermissionError):
            client.hgetall("teleportal:sync:team2:paths")
        with pytest.raises(NoPermissionError):
            client.publish("teleportal:sync:team2:all", b"x")
    await accounts.create(Account(NAME, ("team2",), hash_password("another")))
    assert not lets_in(redis_server)
    with redis_server.cli(username=NAME, password="another") as client:
        client.hgetall("teleportal:sync:team2:paths")
        with pytest.raises(NoPermissionError):
            client.hgetall("teleportal:sync:team1:paths")
    await accounts.remove(NAME)
    assert not lets_in(redis_server, "another")


@pytest.mark.parametrize("keep_data", [True, False])
async def test_accounts_come_back_when_redis_restarts(
    accounts: Accounts, redis_server: RedisServer, keep_data: bool
) -> None:
    await accounts.create(ALICE)
    assert lets_in(redis_server)
    redis_server.restart(keep_data=keep_data)
    await until(lambda: lets_in(redis_server), 30, what="Alice's account")


async def test_what_was_asked_while_redis_was_away_is_done_when_it_is_back(
    accounts: Accounts, redis_server: RedisServer
) -> None:
    gone = Account("teleportal:sync:bob", ("team1",), hash_password("x"))
    await accounts.create(gone)
    redis_server.kill()
    await accounts.create(ALICE)
    await accounts.remove(gone.name)
    redis_server.start()
    await until(lambda: lets_in(redis_server), 30, what="Alice's account")
    with redis_server.cli() as client:
        await until(lambda: gone.name not in client.acl_users(), what="the end of Bob's account")


async def test_an_account_that_somebody_has_deleted_comes_back(
    accounts: Accounts, redis_server: RedisServer
) -> None:
    accounts.keep(ALICE)
    await until(lambda: lets_in(redis_server), 30, what="Alice's account")
    with redis_server.cli() as client:
        client.acl_deluser(NAME)
    await until(lambda: lets_in(redis_server), 30, what="Alice's account")


async def test_an_open_redis_is_complained_about(
    accounts: Accounts, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await accounts.create(ALICE)
    await until(lambda: "keep nobody out" in caplog.text, what="the warning")


async def test_an_account_that_loses_a_share_is_disconnected_and_told_so(
    accounts: Accounts, redis_server: RedisServer
) -> None:
    both = Account(NAME, ("team1", "team2"), hash_password(PASSWORD))
    await accounts.create(both)
    states: list[TransportState] = []
    server = RedisSyncTransport(
        url=with_credentials(redis_server.url, NAME, PASSWORD), log=logging.getLogger("server")
    )
    server.watch(states.append)
    await server.start()
    try:
        lost, kept = Scope("team2"), Scope("team1")
        await server.write_map(lost, "about", {"folder": "team2"})
        assert await server.granted() == {"team1", "team2"}
        states.clear()
        await accounts.change(replace(both, shares=("team1",)))
        await until(lambda: TransportState.CONNECTED in states, what="the server's return")
        assert TransportState.DEGRADED in states, "it was not disconnected"
        assert await server.granted() == {"team1"}
        with pytest.raises(TransportRefused):
            await server.read_map(lost, "about")
        assert await server.read_map(kept, "about") == {}
    finally:
        await server.aclose()
    await accounts.remove(NAME)
    with redis_server.cli() as client:
        assert not client.exists(granted_key(DEFAULT_KEY_PREFIX, NAME))


async def test_who_has_no_account_of_a_hub_is_told_nothing_of_shares(
    redis_server: RedisServer,
) -> None:
    with redis_server.cli() as client:
        client.acl_setuser(
            "own", enabled=True, passwords=["+x"], keys=["team1", "*replicas"], commands=["+@all"]
        )
    for url in (redis_server.url, with_credentials(redis_server.url, "own", "x")):
        server = RedisSyncTransport(url=url, log=logging.getLogger("server"))
        await server.start()
        assert server.state is TransportState.CONNECTED
        assert await server.granted() is None
        await server.aclose()


async def test_an_account_reads_no_other_ones_shares(
    accounts: Accounts, redis_server: RedisServer
) -> None:
    await accounts.create(ALICE)
    await accounts.create(Account("teleportal:sync:alice2", ("team2",), hash_password("x")))
    with redis_server.cli(username=NAME, password=PASSWORD) as client:
        assert client.get(granted_key(DEFAULT_KEY_PREFIX, NAME)) == b'["team1"]'
        with pytest.raises(NoPermissionError):
            client.get(granted_key(DEFAULT_KEY_PREFIX, "teleportal:sync:alice2"))


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b"null"])
def test_a_damaged_grant_says_nothing(value: bytes) -> None:
    assert parse_granted(value) is None


@pytest.mark.usefixtures("rules_as_listed")
@pytest.mark.parametrize(
    "change",
    [
        "+eval",
        "-xadd",
        "-hdel",
        "+hmset",
        "+@hash",
        "~*",
        "resetkeys",
        "off",
        "nopass",
        "(+get ~x)",
    ],
)
async def test_an_account_with_other_rights_gets_the_right_ones(
    accounts: Accounts, redis_server: RedisServer, change: str
) -> None:
    await accounts.create(ALICE)
    wanted = account_rules(
        DEFAULT_KEY_PREFIX, ALICE.shares, ALICE.password_hash, account=ALICE.name
    )

    def right() -> bool:
        with redis_server.cli() as client:
            lines = [line.split() for line in client.acl_list()]
            listed = next(words for words in lines if words[1] == NAME)
            categories = {name: client.acl_cat(name) for name in listed_categories(listed)}
        return has_rules(listed, wanted, categories)

    assert right()
    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", NAME, change)
        may_now = client.execute_command("ACL", "GETUSER", NAME)
    await until(right, 30, what="Alice's rights")
    with redis_server.cli() as client:
        assert client.execute_command("ACL", "GETUSER", NAME) != may_now


@pytest.mark.usefixtures("rules_as_listed")
async def test_accounts_that_are_as_they_should_be_are_left_alone(
    accounts: Accounts, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await accounts.create(ALICE)

    # The first look may come before it is made.
    await until(lambda: looks(redis_server) > 1, 30, what="a look")
    caplog.clear()
    await until(lambda: looks(redis_server) > 5, 30, what="some looks")
    assert "putting them back" not in caplog.text


@pytest.mark.parametrize(
    ("default", "warning"),
    [
        ("off resetkeys -@all", "has no rights"),
        ("off ~* &* +@all", ""),
        ("on nopass ~* +@all", "lets everybody in"),
    ],
)
async def test_what_the_user_default_should_be(
    confined_redis: RedisServer, caplog: pytest.LogCaptureFixture, default: str, warning: str
) -> None:
    with confined_redis.cli() as client:
        client.execute_command("ACL", "SETUSER", "default", *default.split())
    client = RedisClient(url=confined_redis.admin_url)
    accounts = Accounts(client, log=logging.getLogger("accounts"), look_interval_s=0.1)
    try:
        await accounts.create(ALICE)
        await until(lambda: looks(confined_redis) > 1, 30, what="a look")
    finally:
        await accounts.aclose()
    said = [record.getMessage() for record in caplog.records if "`default`" in record.getMessage()]
    assert len(said) == bool(warning)
    assert warning in "".join(said)


@pytest.mark.parametrize("how", ["restart", "flush"])
async def test_the_hub_loads_the_scripts_that_its_accounts_may_not(
    accounts: Accounts, redis_server: RedisServer, how: str
) -> None:
    await accounts.create(ALICE)
    url = with_credentials(redis_server.url, NAME, PASSWORD)
    transport = await create_redis_sync_transport(url, backoff_cap_s=0.2)
    try:
        assert transport.state is TransportState.CONNECTED
        if how == "restart":
            redis_server.restart()
        else:
            with redis_server.cli() as client:
                client.script_flush()

        async def beats() -> bool:
            try:
                await transport.heartbeat("a", "session", forget_s=60, keep_s=60)
            except TransportError:
                return False
            return True

        for _ in range(3):
            await until(beats, 30, what="a heartbeat")
    finally:
        await transport.aclose()


async def test_a_hub_that_may_not_load_scripts_says_what_to_do(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.cli() as client:
        client.execute_command(
            *("ACL", "SETUSER", "hub", "on", ">x", "~*", "-@all", "+acl", "+client"),
            *("+ping", "+set", "+del"),
        )
    client = RedisClient(url=with_credentials(redis_server.url, "hub", "x"))
    accounts = Accounts(client, log=logging.getLogger("accounts"), look_interval_s=0.2)
    try:
        await accounts.create(ALICE)
        assert "servers_may_load_scripts" in caplog.text
        assert lets_in(redis_server)
    finally:
        await accounts.aclose()


async def test_servers_load_the_scripts_where_the_hub_lets_them(redis_server: RedisServer) -> None:
    client = RedisClient(url=redis_server.url)
    accounts = Accounts(client, log=logging.getLogger("accounts"), may_eval=True)
    try:
        await accounts.create(ALICE)
        url = with_credentials(redis_server.url, NAME, PASSWORD)
        transport = await create_redis_sync_transport(url)
        assert transport.state is TransportState.CONNECTED
        await transport.aclose()
    finally:
        await accounts.aclose()


def test_a_prefix_with_signs_of_patterns_matches_nothing_else() -> None:
    rules = account_rules("a*b:", ["team1"], "0" * 64)
    assert [rule for rule in rules if rule[0] in "~&"] == [
        *("~a\\*b:team1:*", "~a\\*b:session", "~a\\*b:replicas", "&a\\*b:team1:*"),
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://hub:x@h:6379/0", "redis://a%2Fb:p@h:6379/0"),
        ("redis://h", "redis://a%2Fb:p@h"),
        ("unix:///x/y.sock?db=1&password=x", "unix://a%2Fb:p@/x/y.sock?db=1"),
    ],
)
def test_a_url_with_other_credentials(url: str, expected: str) -> None:
    assert with_credentials(url, "a/b", "p") == expected


@pytest.mark.parametrize("spawner", ["nonsense", "json.JSONDecoder"])
def test_what_is_no_spawner_is_refused(spawner: str) -> None:
    with pytest.raises(SettingsError, match="spawner"):
        sharing(spawner)
