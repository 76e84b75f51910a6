"""Requests and messages that are valid, and that nobody expects."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from pycrdt import write_var_uint
from support.cluster import wait_connected
from support.hostile import Hostile
from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.waiting import until

from jupyter_teleportal.core.envelopes import AwarenessEnvelope

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

PREFIX = "teleportal:sync:default:"


async def closed_with(server: JupyterProcess, path: str) -> tuple[int, str]:
    """The close code and the reason of whoever opens this as a text file."""
    session = await server.session(path, "text", "file")
    client = Hostile.of(server, session)
    await asyncio.to_thread(client.connect)
    try:
        return await until(lambda: client.closed_with, what="a close frame")
    finally:
        await asyncio.to_thread(client.close)


async def test_who_cannot_open_a_document_is_told_why_however_long_that_takes(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
) -> None:
    folder = "a folder is no file " * 8
    (shared_folder / folder).mkdir()
    (shared_folder / "team").mkdir()
    (shared_folder / "team" / "file.txt").write_text("text")
    (shared_folder / "file.txt").write_text("text")
    one = await make_server(redis_server=redis_server, shares={"": "default"})
    other = await make_server(redis_server=redis_server, shares={"team": "default"})
    await wait_connected(one, other)

    code, reason = await closed_with(one, folder)
    assert code == 4400
    assert reason.startswith("Error initializing: a folder is no file")

    # The share is another folder there.
    code, reason = await closed_with(other, "team/file.txt")
    assert code == 1003
    told = json.loads(reason)
    assert told["reason"] == "initialization_error"
    assert told["errorReason"].startswith("share 'default' is the folder")
    for server in (one, other):
        assert not (await server.status())["rooms"]
        assert not server.grep("Jupyter Websocket Server"), server.log_text()
        assert not server.grep("Uncaught"), server.log_text()


@pytest.mark.parametrize("share", ["", "team"], ids=["shared", "not shared"])
async def test_what_cannot_be_opened_ends_nobody_elses_room(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, share: str
) -> None:
    for name in ("folder", "team"):
        (shared_folder / name).mkdir()
    write_notebook(shared_folder / "open.ipynb", ["open"])
    server = await make_server(redis_server=redis_server, shares={share: "default"})
    session = await server.session("open.ipynb")
    async with (
        RtcClient(server, session, name="ann") as ann,
        RtcClient(server, session, name="bob") as bob,
    ):
        for path in ("folder", "absent.txt"):
            code, _ = await closed_with(server, path)
            assert code in (4400, 4404)
        ann.write(" typed")
        await until(lambda: bob.sources == ["open typed"], what="ann's edit at bob")
        for client in (ann, bob):
            client.assert_undisturbed()
    assert not server.grep("Jupyter Websocket Server|Uncaught"), server.log_text()


async def test_users_without_a_name_hide_nobody(
    servers: tuple[JupyterProcess, JupyterProcess], redis_server: RedisServer
) -> None:
    server = servers[0]
    states = ['{"user":{}}', '{"user":"x"}', '{"user":5}', '{"user":null}', '{"user":["a"]}']
    states.append('{"user":{"name":"Good","username":"good"}}')
    update = write_var_uint(len(states)) + b"".join(
        write_var_uint(900 + number) + b"\x01" + write_var_uint(len(state)) + state.encode()
        for number, state in enumerate(states)
    )
    async with RtcClient(server, room_id="JupyterLab:globalAwareness", name="ann") as ann:
        with redis_server.cli() as redis:
            redis.publish(PREFIX + "all", AwarenessEnvelope("another", update).encode())
        await until(lambda: 905 in ann.awareness.states, what="who has a name")
        assert not server.grep("Traceback")


async def test_asking_for_files_that_are_not_there_leaves_nothing_in_redis(
    servers: tuple[JupyterProcess, JupyterProcess], redis_server: RedisServer, shared_folder: Path
) -> None:
    server, other = servers

    def paths() -> int:
        with redis_server.cli() as redis:
            return int(redis.hlen(PREFIX + "paths"))

    before = paths()
    sessions = [await server.session(f"absent-{number}.ipynb") for number in range(20)]
    assert paths() == before
    # It comes, and is known by its id on all servers.
    write_notebook(shared_folder / "absent-0.ipynb", ["there"])
    async with RtcClient(server, sessions[0], name="ann") as ann:
        assert ann.sources == ["there"]
        assert paths() == before + 1
        async with RtcClient(other, sessions[0], name="bob") as bob:
            assert bob.sources == ["there"]
