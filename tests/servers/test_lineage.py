"""Documents that must not be mixed, and rooms that cannot be opened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
import websockets
from pycrdt import Doc, create_sync_message, create_update_message
from support.cluster import assert_no_errors
from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.waiting import holds, until

from jupyter_teleportal.core.content import seed

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer


def address(server: JupyterProcess, session: Session) -> str:
    return (
        f"{server.ws_url}/api/collaboration/room/{session.room_id}"
        f"?sessionId={session.session_id}&token={server.token}"
    )


async def drain(browser: websockets.ClientConnection) -> None:
    """Read until the server closes the connection."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await browser.recv()


async def test_a_browser_that_slept_too_long_is_asked_to_reload(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    """Its document was seeded from another content; merged, both would stand side by side."""
    (shared_folder / "t.txt").write_text("new content")
    server = await make_server(redis_server=redis_server)
    session = await server.session("t.txt", "text", "file")
    async with RtcClient(server, session, name="ann") as ann:
        slept: Doc = Doc()
        slept.apply_update(seed("file", "old content").update)
        async with websockets.connect(address(server, session), max_size=None) as browser:
            await browser.send(create_sync_message(slept))
            # On its way before the browser hears that it is not welcome.
            await browser.send(create_update_message(slept.get_update()))
            await asyncio.wait_for(drain(browser), 5)
        assert browser.close_code == 1003
        assert json.loads(browser.close_reason or "{}")["reloadable"] is True
        await holds(lambda: ann.text == "new content", seconds=1, what="ann's document")


async def test_a_folder_is_renamed_on_a_server_that_has_not_opened_its_document(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    a, b = servers
    (shared_folder / "folder").mkdir()
    (shared_folder / "folder/x.txt").write_text("x")
    async with RtcClient(a, await a.session("folder/x.txt", "text", "file"), name="ann") as ann:
        await b.rename("folder", "renamed")
        await until(lambda: ann.path == "renamed/x.txt", what="the path in ann's document")
        ann.write(" typed")
        renamed = shared_folder / "renamed/x.txt"
        await until(lambda: renamed.read_text() == "x typed", what="the saved file")
        assert not (shared_folder / "folder").exists()


async def test_a_private_document_after_a_restart_while_redis_is_away(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    (shared_folder / "private.txt").write_text("x")
    redis_server.kill()
    server = await make_server(redis_server=redis_server, shares={"shared": "team1"})
    session = await server.session("private.txt", "text", "file")
    async with RtcClient(server, session, name="ann") as ann:
        await server.restart()
        await ann.wait_synced()
        ann.assert_undisturbed()


async def test_a_tab_comes_back_to_a_server_that_was_restarted_while_redis_is_away(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    """The tab knows the document's id, and only Redis knows whose that is. Of the session's
    documents, which are of two types, upstream remembers one version."""
    (shared_folder / "shared.txt").write_text("x")
    write_notebook(shared_folder / "shared.ipynb", [""])
    server = await make_server(redis_server=redis_server)
    session = await server.session("shared.txt", "text", "file")
    notebook = await server.session("shared.ipynb")
    async with (
        RtcClient(server, session, name="ann") as ann,
        RtcClient(server, notebook, name="bob") as bob,
    ):
        redis_server.kill()
        await server.restart()
        await until(lambda: server.grep("whose path only Redis knows"), what="the complaint")
        redis_server.start()
        for client in (ann, bob):
            await client.wait_synced()
            client.assert_undisturbed()
        assert (await server.status())["complaints"] == []
    assert_no_errors(server)


@pytest.mark.parametrize("form", ["format 3", "one id for all", "no ids"])
async def test_old_notebooks_that_two_servers_open_during_an_outage(
    servers: tuple[JupyterProcess, JupyterProcess],
    redis_server: RedisServer,
    shared_folder: Path,
    form: str,
):
    """Their cells have no ids that the servers could tell them by."""
    a, b = servers
    sources = ["one", "same", "same"]
    cells = [
        {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "id": "x"}
        for source in sources
    ]
    if form == "format 3":
        cells = [
            {"cell_type": "code", "input": source, "language": "python", "outputs": []}
            for source in sources
        ]
        content = {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
    else:
        for cell in cells:
            cell["execution_count"] = None
            if form == "no ids":
                del cell["id"]
        content = {"nbformat": 4, "nbformat_minor": 5, "cells": cells}
    (shared_folder / "old.ipynb").write_text(json.dumps({**content, "metadata": {}}))
    redis_server.kill()
    async with (
        RtcClient(a, await a.session("old.ipynb"), name="ann") as ann,
        RtcClient(b, await b.session("old.ipynb"), name="bob") as bob,
    ):
        assert ann.sources == bob.sources == sources
        ann.write(" ann", cell=0)
        bob.write(" bob", cell=2)
        redis_server.start()
        wanted = ["one ann", "same", "same bob"]
        await until(lambda: ann.sources == bob.sources == wanted, 20, what="both sides' edits")
        assert [cell["id"] for cell in ann.cells] == [cell["id"] for cell in bob.cells]
    for server in servers:
        assert_no_errors(server)


async def test_a_broken_notebook_is_refused_at_once(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    (shared_folder / "broken.ipynb").write_text("{not json")
    server = await make_server(redis_server=redis_server)
    session = await server.session("broken.ipynb")
    began = time.monotonic()
    async with websockets.connect(address(server, session)) as browser:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await browser.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert time.monotonic() - began < 2.5


async def test_a_setting_that_cannot_be_used_is_named_in_the_status(
    make_server: MakeServer, redis_server: RedisServer
):
    server = await make_server(
        redis_server=redis_server, config={"TeleportalExtension": {"key_prefix": "a b"}}
    )
    status = await server.status()
    assert "key_prefix" in status["problem"]
    assert status["transport"]["state"] == "local"
