"""What a balancer is told: ready, degraded while Redis is away, and 503 from SIGTERM on."""

from __future__ import annotations

import math
import os
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support.changed_upstream import VERSION
from support.cluster import wait_connected
from support.notebooks import write_notebook
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

DRAIN_SECONDS = 3.0


async def health(client: httpx.AsyncClient, server: JupyterProcess) -> tuple[int, str]:
    """What a stranger without a token is told."""
    reply = await client.get(f"{server.url}/api/teleportal/health")
    body = reply.json()
    assert set(body) == {"status"}
    return reply.status_code, body["status"]


async def test_redis_up_away_and_back(make_server: MakeServer, redis_server: RedisServer):
    server = await make_server(redis_server=redis_server)
    await wait_connected(server)
    async with httpx.AsyncClient() as client:
        assert await health(client, server) == (200, "ok")
        head = await client.head(f"{server.url}/api/teleportal/health")
        assert (head.status_code, head.content) == (200, b"")
        redis_server.kill()

        async def state() -> tuple[int, str]:
            return await health(client, server)

        async def degraded() -> bool:
            return await state() == (200, "degraded")

        async def well() -> bool:
            return await state() == (200, "ok")

        await until(degraded, what="degraded, and serving")
        redis_server.start()
        await until(well, what="well again")


async def test_a_server_without_sharing_serves(make_server: MakeServer):
    server = await make_server()
    async with httpx.AsyncClient() as client:
        assert await health(client, server) == (200, "ok")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"shares": {"": "no name"}}, "no name"),
        ({"drain_s": -5}, "drain_s is -5"),
        ({"recheck_interval_s": math.inf}, "recheck_interval_s is inf"),
        ({"redis_options": {"log_max_bytes": math.inf}}, "log_max_bytes is inf"),
    ],
)
async def test_a_server_that_was_to_share_and_cannot_is_no_place_to_send_people(
    make_server: MakeServer, redis_server: RedisServer, setting: dict[str, Any], named: str
):
    server = await make_server(redis_server=redis_server, config={"TeleportalExtension": setting})
    async with httpx.AsyncClient() as client:
        assert await health(client, server) == (503, "failed")
    assert named in (await server.status())["problem"]


async def test_with_another_version_of_upstream_a_server_is_as_without_this_extension(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    extensions = {"support.changed_upstream": True}
    server = await make_server(
        redis_server=redis_server, config={"ServerApp": {"jpserver_extensions": extensions}}
    )
    async with httpx.AsyncClient() as client:
        assert await health(client, server) == (503, "failed")
    assert f"jupyter-server-ydoc {VERSION}" in (await server.status())["problem"]
    assert not server.grep("SharedFileIdManager")
    with redis_server.cli() as redis:
        assert redis.keys("*") == []
    write_notebook(shared_folder / "one.ipynb", ["x = 1"])
    before = await server.session("one.ipynb")
    await server.rename("one.ipynb", "two.ipynb")
    after = await server.session("two.ipynb")
    assert after.file_id == before.file_id


async def test_from_sigterm_on_it_says_so_and_serves_on_while_it_drains(
    make_server: MakeServer, redis_server: RedisServer
):
    server = await make_server(
        redis_server=redis_server, config={"TeleportalExtension": {"drain_s": DRAIN_SECONDS}}
    )
    await wait_connected(server)
    server.ask_to_stop()

    async def stopping() -> bool:
        # A new connection each time, as a balancer's checks are.
        async with httpx.AsyncClient() as client:
            return await health(client, server) == (503, "stopping")

    await until(stopping, timeout=DRAIN_SECONDS / 2, what="503 at once")
    assert (await server.status())["transport"]["state"] == "connected"
    await until(lambda: not server.running, timeout=DRAIN_SECONDS + 10, what="its end")
    assert not server.grep(r"^\[E ")


async def test_told_twice_it_drains_no_longer(make_server: MakeServer, redis_server: RedisServer):
    server = await make_server(
        redis_server=redis_server, config={"TeleportalExtension": {"drain_s": 600}}
    )
    server.ask_to_stop()
    await until(lambda: server.grep("Stopping in 600 s"), what="the drain")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGTERM)
    await until(lambda: not server.running, timeout=15, what="its end")
