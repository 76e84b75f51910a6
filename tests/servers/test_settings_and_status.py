"""Configuration as a user writes it, and what the status endpoint says."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from support.cluster import transport_state, wait_connected
from support.notebooks import write_notebook
from support.processes import free_port
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

ROOM_FIELDS = {
    "room",
    "share",
    "offset",
    "lineage",
    "saver",
    "clients",
    "replicas",
    "unacknowledged",
    "last_save",
}


async def test_status(servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path):
    write_notebook(shared_folder / "status.ipynb", ["x"])
    a, b = servers
    session = await a.session("status.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write("1")
        await equal([ann, bob])

        async def saved() -> bool:
            entry = await a.room_status(session.room_id)
            return entry is not None and entry["last_save"] is not None

        async def acquainted() -> bool:
            statuses = await asyncio.gather(a.status(), b.status())
            return all(len(status["replicas"]) == 2 for status in statuses)

        await until(saved, what="a save in the status", poll=0.1)
        await until(acquainted, timeout=5, what="both heartbeats on both servers", poll=0.1)
        status_a, status_b = await asyncio.gather(a.status(), b.status())
        assert status_a["replica"] != status_b["replica"]
        assert status_a["transport"] == {"name": "redis", "state": "connected"}
        assert status_a["shares"] == {"": "default"}
        both = {status_a["replica"], status_b["replica"]}
        assert {entry["replica"] for entry in status_a["replicas"]} == both
        for entry in status_a["replicas"]:
            # In seconds ago: clocks of different machines need not agree.
            assert 0 <= entry["age_s"] < 6
            assert entry["last_heartbeat"] == pytest.approx(time.time(), abs=6)
        (room_a,), (room_b,) = status_a["rooms"], status_b["rooms"]
        assert set(room_a) >= ROOM_FIELDS
        assert room_a["room"] == session.room_id
        assert room_a["share"] == "default"
        assert room_a["clients"] == 1
        assert room_a["lineage"] == room_b["lineage"]
        assert room_a["saver"] == room_b["saver"]
        assert room_a["saver"] in both
        assert set(room_a["replicas"]) == both
        assert room_a["unacknowledged"] == 0
        async with httpx.AsyncClient(verify=False) as stranger:
            reply = await stranger.get(f"{a.url}/api/teleportal/status")
            assert reply.status_code == 403


async def test_environment_configures_and_explicit_configuration_wins(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    (shared_folder / "team").mkdir()
    by_environment = await make_server(
        env={
            "JUPYTER_TELEPORTAL_REDIS_URL": redis_server.url,
            "JUPYTER_TELEPORTAL_SHARES": json.dumps({"team": "team1"}),
        }
    )
    await wait_connected(by_environment)
    assert (await by_environment.status())["shares"] == {"team": "team1"}
    nobody_there = f"redis://127.0.0.1:{free_port()}/0"
    explicit = await make_server(
        redis_url=redis_server.url,
        shares={"": "all"},
        env={
            "JUPYTER_TELEPORTAL_REDIS_URL": nobody_there,
            "JUPYTER_TELEPORTAL_SHARES": json.dumps({"team": "team1"}),
        },
    )
    await wait_connected(explicit)
    assert (await explicit.status())["shares"] == {"": "all"}


async def test_under_jupyterhub_nothing_is_shared_until_named(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    write_notebook(shared_folder / "home.ipynb", ["x"])
    server = await make_server(
        redis_server=redis_server, env={"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}
    )
    assert (await server.status())["shares"] == {}
    assert server.grep(r"(?i)teleportal.*share|share.*jupyterhub")
    async with RtcClient(server, await server.session("home.ipynb"), name="ann") as ann:
        ann.write("secret")
        assert (await ann.save())["status"] == "success"
    assert not [where for where, data in redis_server.everything() if b"secret" in data]


async def test_without_redis_the_status_is_local(make_server: MakeServer):
    server = await make_server()
    assert await transport_state(server) == "local"
