"""SIGTERM and SIGINT: a server hands over, shares and saves what is left, and is gone in time."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from support.cluster import saver_of, wait_connected
from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

STOP_SECONDS = 5.0
# What is not ours: Jupyter's own end, on a machine that has other things to do.
SLACK_SECONDS = 3.0
HAND_OVER_SECONDS = 4.0


async def gone(server: JupyterProcess, number: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal, and return how many seconds it took."""
    began = time.monotonic()
    assert server.pid is not None
    os.kill(server.pid, number)
    await until(lambda: not server.running, 40, what=f"the end of {server.name}")
    return time.monotonic() - began


# JupyterHub's spawner of local processes begins with SIGINT.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_saver_leaves_with_clients_connected_and_edits_unsaved(
    make_server: MakeServer,
    redis_server: RedisServer,
    shared_folder: Path,
    number: signal.Signals,
):
    path = shared_folder / "leaving.ipynb"
    write_notebook(path, [""])
    pair = await start_pair(
        make_server, redis_server, config={"YDocExtension": {"document_save_delay": 30}}
    )
    session = await pair[0].session("leaving.ipynb")
    async with RtcClient(pair[0], session), RtcClient(pair[1], session):
        saver, (other,) = await saver_of(pair, session.room_id)
        async with (
            RtcClient([saver, other], session, name="ann") as ann,
            RtcClient(other, session, name="bob") as bob,
        ):
            ann.write("unsaved")
            await ann.settle()
            seconds = await gone(saver, number)
            assert seconds < STOP_SECONDS + SLACK_SECONDS
            assert file_sources(path) == ["unsaved"], "saved before it was gone"
            left_at = time.monotonic()
            await saver_of([other], session.room_id, timeout=HAND_OVER_SECONDS)
            assert time.monotonic() - left_at < HAND_OVER_SECONDS, "it waited for the lease"
            await ann.wait_synced()
            ann.write(" and on")
            await equal([ann, bob])
            ann.assert_undisturbed()


async def test_a_server_that_began_with_sigint_ignored_goes_on_ignoring_it(
    make_server: MakeServer, redis_server: RedisServer
):
    """As `nohup … &` and a script's background jobs begin: Ctrl-C is for somebody else."""
    server = await make_server(redis_server=redis_server, ignore_interrupt=True)
    await wait_connected(server)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGINT)
    # A handler would run before the next request is answered.
    assert (await server.status())["transport"]["state"] == "connected"
    assert "signal 2" not in server.log_text()
    seconds = await gone(server, signal.SIGTERM)
    assert seconds < STOP_SECONDS + SLACK_SECONDS
    assert server.grep("signal 15")


async def test_a_hubs_server_stops_at_sigint_however_it_was_started(
    make_server: MakeServer, redis_server: RedisServer
):
    """Its spawner begins with SIGINT, and waits ten seconds before it tries SIGTERM."""
    server = await make_server(
        redis_server=redis_server,
        shares={"": "default"},
        ignore_interrupt=True,
        env={"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"},
    )
    assert await gone(server, signal.SIGINT) < STOP_SECONDS + SLACK_SECONDS
    assert server.grep("signal 2")


async def test_a_server_leaves_in_time_while_redis_does_not_answer(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "stuck.ipynb"
    write_notebook(path, [""])
    a, b = await start_pair(make_server, redis_server)
    session = await a.session("stuck.ipynb")
    async with (
        RtcClient([a, b], session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write("before ")
        await equal([ann, bob])
        redis_server.pause()
        try:
            ann.write("meanwhile ")
            await ann.settle()
            seconds = await gone(a)
        finally:
            redis_server.resume()
        assert seconds < STOP_SECONDS + SLACK_SECONDS
        await ann.wait_synced()
        await equal([ann, bob])
        assert ann.sources == ["before meanwhile "]
        await until(
            lambda: file_sources(path) == ann.sources, timeout=30, what="the file, by the other"
        )
