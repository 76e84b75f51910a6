"""A document, or a share, that is larger than Redis may keep, on real servers."""

from __future__ import annotations

import base64
import json
import os
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.cluster import assert_no_out_of_band, wait_connected
from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess

SHARES = ("one", "two")
BOUNDS = {"log_max_bytes": 900_000, "share_max_bytes": 300_000}
SHARED_AGAIN_S = 40.0


def output(size: int) -> str:
    """What takes three quarters of `size` when it is deflated."""
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()


def output_in(file: Path) -> Any:
    outputs = json.loads(file.read_text())["cells"][0]["outputs"]
    return "".join(outputs[0]["text"]) if outputs else None


async def reason_of(server: JupyterProcess, setting: str) -> bool:
    """Whether health, status and complaints name the setting that was reached."""
    health = await server.call("GET", "/api/teleportal/health")
    status = await server.status()
    return (
        health["status"] == "degraded"
        and setting in status["reason"]
        and any(setting in complaint["message"] for complaint in status["complaints"])
    )


async def is_well(server: JupyterProcess) -> bool:
    health = await server.call("GET", "/api/teleportal/health")
    return bool(health["status"] == "ok") and not (await server.status())["reason"]


@pytest.fixture(params=["open", "confined"])
def bounded_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    server = RedisServer(tmp_path / "redis", shares=SHARES if request.param == "confined" else ())
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("setting", BOUNDS)
async def test_what_is_too_large_is_on_disk_and_shared_when_it_fits(
    make_server: MakeServer, shared_folder: Path, bounded_redis: RedisServer, setting: str
):
    for share in SHARES:
        (shared_folder / share).mkdir()
        write_notebook(shared_folder / share / "doc.ipynb", ["start"])
    file = shared_folder / "one/doc.ipynb"
    options = {"TeleportalExtension": {"redis_options": {setting: BOUNDS[setting]}}}
    servers = a, b = await start_pair(
        make_server, bounded_redis, shares={share: share for share in SHARES}, config=options
    )
    await wait_connected(*servers)
    async with AsyncExitStack() as stack:

        async def opened(server: JupyterProcess, path: str, name: str) -> RtcClient:
            client = RtcClient(server, await server.session(path), name=name)
            return await stack.enter_async_context(client)

        ann = await opened(a, "one/doc.ipynb", "ann")
        large = output(600_000)
        ann.set_output(0, large)
        ann.write(" of ann")
        await until(lambda: output_in(file) == large, 15, what="the file", poll=0.1)
        await until(lambda: reason_of(a, setting), 15, what="the reason", poll=0.2)
        assert file_sources(file) == ["start of ann"]
        # The others go on, in this share and in the other one.
        bob = await opened(b, "one/doc.ipynb", "bob")
        other_ann, other_bob = (
            await opened(a, "two/doc.ipynb", "ann"),
            await opened(b, "two/doc.ipynb", "bob"),
        )
        other_ann.set_output(0, output(100_000))
        other_ann.write(" elsewhere")
        await equal([other_ann, other_bob])
        bob.write(" of bob")
        await until(lambda: "of bob" in ann.sources[0], SHARED_AGAIN_S, what="bob's words")
        await holds(lambda: reason_of(a, setting), seconds=3)
        # Smaller again, all of it is shared.
        ann.set_output(0, "small")
        for server in servers:
            await until(
                lambda server=server: is_well(server), SHARED_AGAIN_S, what="all is well", poll=0.2
            )
        await equal([ann, bob])
        assert sorted(ann.sources[0].split(" of ")) == ["ann", "bob", "start"]
        await until(
            lambda: (output_in(file), file_sources(file)) == ("small", ann.sources),
            15,
            what="the file in the end",
            poll=0.1,
        )
        for client in (ann, bob, other_ann, other_bob):
            client.assert_undisturbed()
    names = [name for share in SHARES for name in os.listdir(shared_folder / share)]
    assert not [name for name in names if "conflict" in name]
    assert_no_out_of_band(*servers)
