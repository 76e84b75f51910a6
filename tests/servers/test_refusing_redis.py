"""A Redis that can be reached and refuses is one that is away: what is typed is on disk."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from support.cluster import assert_no_out_of_band, wait_connected
from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.processes import ChildProcess, free_port
from support.programs import require_binary
from support.redis_server import RedisServer
from support.rtc_client import RtcClient, equal
from support.waiting import until

from jupyter_teleportal.transports.redis.accounts import account_rules, hash_password
from jupyter_teleportal.transports.redis.options import DEFAULT_KEY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest
    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess

SHARES = ("one", "two")
ON_DISK_S = 8.0
"""A few seconds, on a machine that does much else."""
SHARED_AGAIN_S = 40.0
LOADED_KEYS, LOAD_DELAY_US = 200_000, 300


def confine(server: RedisServer, *shares: str) -> None:
    rules = account_rules(DEFAULT_KEY_PREFIX, shares, hash_password(server.PASSWORD))
    with server.cli() as client:
        client.execute_command("ACL", "SETUSER", server.ACCOUNT, *rules)


def rule(name: str) -> Callable[[RedisServer], None]:
    def set_rule(server: RedisServer) -> None:
        with server.cli() as client:
            client.execute_command("ACL", "SETUSER", server.ACCOUNT, name)

    return set_rule


def limit(memory: str) -> Callable[[RedisServer], None]:
    def set_limit(server: RedisServer) -> None:
        with server.cli() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", memory)

    return set_limit


def follow(host: str, port: str) -> Callable[[RedisServer], None]:
    def set_master(server: RedisServer) -> None:
        with server.cli() as client:
            client.execute_command("REPLICAOF", host, port)

    return set_master


def load_slowly(server: RedisServer) -> None:
    """Restart it with data that it loads for a minute."""
    with server.cli() as client, client.pipeline(transaction=False) as pipe:
        for number in range(LOADED_KEYS):
            pipe.set(f"loaded:{number}", "x")
        pipe.execute()
    server.kill()
    server.start(load_delay_us=LOAD_DELAY_US)


def load_now(server: RedisServer) -> None:
    with server.cli() as client:
        client.config_set("key-load-delay", "0")
    server.wait_until_loaded()


REFUSALS: dict[
    str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None], Sequence[str]]
] = {
    "full": (limit("1"), limit("0"), ("maxmemory",)),
    "replica": (follow("127.0.0.1", "1"), follow("NO", "ONE"), ("replica",)),
    "scripts": (rule("-evalsha"), rule("+evalsha"), ("evalsha",)),
    "share": (
        lambda server: confine(server, "one"),
        lambda server: confine(server, *SHARES),
        ("right", "permission", "NOPERM"),
    ),
    "loading": (load_slowly, load_now, ("loading",)),
}
"""How Redis refuses, how that is mended, and a word of the reason."""


async def reason_of(server: JupyterProcess, words: Sequence[str]) -> str:
    """What the status says, if health, status and complaints agree on it."""
    health = await server.call("GET", "/api/teleportal/health")
    status = await server.status()
    said = [complaint["message"] for complaint in status["complaints"]]
    agreed = (
        health["status"] == "degraded"
        and status["degraded"]
        and any(word in status["reason"] for word in words)
        and any(word in message for word in words for message in said)
    )
    assert agreed, (health, status["reason"], said)
    return str(status["reason"])


async def is_well(server: JupyterProcess) -> bool:
    health = await server.call("GET", "/api/teleportal/health")
    return bool(health["status"] == "ok") and not (await server.status())["reason"]


async def open_on(
    stack: AsyncExitStack, a: JupyterProcess, b: JupyterProcess, path: str
) -> tuple[RtcClient, RtcClient]:
    ann = RtcClient(a, await a.session(path), name="ann")
    bob = RtcClient(b, await b.session(path), name="bob")
    return await stack.enter_async_context(ann), await stack.enter_async_context(bob)


async def typed_and_told(
    ann: RtcClient, bob: RtcClient, file: Path, servers: Sequence[JupyterProcess], words: list[str]
) -> None:
    """What is typed then is on disk, and everybody is told why it is not shared."""
    ann.write(" of ann")
    await until(
        lambda: file_sources(file) == ["start of ann"], ON_DISK_S, what="the file", poll=0.1
    )
    bob.write(" of bob")
    assert (await ann.save())["status"] == "success"
    for server in servers:

        async def told(server: JupyterProcess = server) -> bool:
            try:
                return bool(await reason_of(server, words))
            except AssertionError as error:
                print(server.name, error)
                return False

        await until(told, what="the reason", poll=0.2)


async def test_what_is_typed_then_is_on_disk_and_shared_after_the_cure(
    make_server: MakeServer, shared_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    for share in SHARES:
        (shared_folder / share).mkdir()
    redis_server = RedisServer(tmp_path / "redis", shares=SHARES)
    request.addfinalizer(redis_server.kill)
    redis_server.start()
    a, b = await start_pair(make_server, redis_server, shares={share: share for share in SHARES})
    await wait_connected(a, b)
    async with AsyncExitStack() as fine:
        write_notebook(shared_folder / "one/fine.ipynb", ["start"])
        fine_ann, fine_bob = await open_on(fine, a, b, "one/fine.ipynb")
        for how, (refuse, cure, words) in REFUSALS.items():
            file = shared_folder / "two" / f"{how}.ipynb"
            write_notebook(file, ["start"])
            refuse(redis_server)
            async with AsyncExitStack() as stack:
                ann, bob = await open_on(stack, a, b, f"two/{how}.ipynb")
                await typed_and_told(ann, bob, file, (a, b), [*words])
                if how == "share":
                    fine_ann.write(" one share more")
                    await equal([fine_ann, fine_bob])
                cure(redis_server)
                for server in (a, b):

                    async def well(server: JupyterProcess = server) -> bool:
                        return await is_well(server)

                    await until(well, SHARED_AGAIN_S, what=f"{how}: all is well", poll=0.2)
                await equal([ann, bob])
                (text,) = ann.sources
                assert sorted(text.split(" of ")) == ["ann", "bob", "start"], how
                await until(
                    lambda file=file, text=text: file_sources(file) == [text],
                    ON_DISK_S,
                    what=f"{how}: the file",
                    poll=0.1,
                )
                ann.assert_undisturbed()
                bob.assert_undisturbed()
        await equal([fine_ann, fine_bob])
    names = [name for share in SHARES for name in os.listdir(shared_folder / share)]
    assert not [name for name in names if "conflict" in name]
    assert_no_out_of_band(a, b)


async def test_a_node_of_a_cluster_and_a_sentinel(
    make_server: MakeServer, shared_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    """They have no cure but another address: what is typed on one server is on disk."""
    (tmp_path / "sentinel.conf").write_text("")
    urls = []
    for name, arguments in {
        "node": ("--cluster-enabled", "yes"),
        "sentinel": (str(tmp_path / "sentinel.conf"), "--sentinel"),
    }.items():
        folder, port = tmp_path / name, free_port()
        folder.mkdir()
        child = ChildProcess(
            [
                require_binary("redis-server"),
                *(arguments if name == "sentinel" else ()),
                *("--port", str(port), "--dir", str(folder)),
                *(("--cluster-port", str(free_port()), *arguments) if name == "node" else ()),
            ],
            log_path=folder / "log",
            cwd=folder,
        )
        request.addfinalizer(child.kill)
        await until(lambda port=port: _answers(port), 30, what=name)
        urls.append(f"redis://127.0.0.1:{port}/0")
    a, b = [await make_server(redis_url=url, start=False) for url in urls]
    await a.launch()
    await b.launch()
    await a.wait_until_up()
    await b.wait_until_up()
    file = shared_folder / "apart.ipynb"
    write_notebook(file, ["start"])
    async with AsyncExitStack() as stack:
        ann, bob = await open_on(stack, a, b, "apart.ipynb")
        await typed_and_told(ann, bob, file, (a,), ["Cluster"])
        assert await reason_of(b, ["Sentinel"])
        assert file_sources(file) == ["start of ann"]


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
