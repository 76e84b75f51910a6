"""Run by `test_upstream_plugin.py` in a process of its own.

Upstream's plugin brings its own event loop and its own way to run coroutines, which do not go
together with the plugin that runs the other tests.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from jupyter_ydoc import YNotebook, YUnicode
from pycrdt import Provider
from pycrdt.websocket.websocket import HttpxWebsocket


@pytest.fixture
def rtc_document_save_delay():
    return 0.5


async def until(predicate, timeout=10.0):
    for _ in range(int(timeout / 0.05)):
        if predicate():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("waited in vain")


async def test_extension_is_on(jp_serverapp, jp_fetch):
    assert "jupyter_teleportal" in jp_serverapp.extension_manager.extension_apps
    status = json.loads((await jp_fetch("api", "teleportal", "status")).body)
    expected = "connected" if "JUPYTER_TELEPORTAL_REDIS_URL" in os.environ else "local"
    assert status["transport"]["state"] == expected


async def test_session(rtc_create_file, rtc_fetch_session):
    path, _ = await rtc_create_file("session.txt", "text")
    first = await rtc_fetch_session("text", "file", path)
    assert first.code == 201
    second = await rtc_fetch_session("text", "file", path)
    assert second.code == 200
    assert json.loads(first.body) == json.loads(second.body)


async def test_two_clients(rtc_create_file, rtc_connect_doc_client, jp_root_dir):
    path, content = await rtc_create_file("two-clients.txt", "start")
    one, two = YUnicode(), YUnicode()
    socket_one, room = await rtc_connect_doc_client("text", "file", path)
    socket_two, _ = await rtc_connect_doc_client("text", "file", path)
    async with (
        socket_one as ws_one,
        socket_two as ws_two,
        Provider(one.ydoc, HttpxWebsocket(ws_one, room)),
        Provider(two.ydoc, HttpxWebsocket(ws_two, room)),
    ):
        await until(lambda: one.source == two.source == content)
        one.source = "start and more"
        await until(lambda: two.source == "start and more")
        await until(lambda: (jp_root_dir / path).read_text() == "start and more")
    assert not one.dirty


async def test_notebook_from_the_store(
    rtc_create_notebook, rtc_add_doc_to_store, rtc_connect_doc_client
):
    path, _ = await rtc_create_notebook("notebook-from-the-store.ipynb", index=True)
    await rtc_add_doc_to_store("json", "notebook", path)
    notebook = YNotebook()
    socket, room = await rtc_connect_doc_client("json", "notebook", path)
    async with socket as ws, Provider(notebook.ydoc, HttpxWebsocket(ws, room)):
        await until(lambda: notebook.cell_number == 1)
        assert notebook.path == path


async def test_get_document(jp_serverapp, rtc_create_file):
    path, content = await rtc_create_file("get-document.txt", "text", index=True)
    app = next(iter(jp_serverapp.extension_manager.extension_apps["jupyter_server_ydoc"]))
    where = {"path": path, "content_type": "file", "file_format": "text"}
    assert await app.get_document(**where) is None
    document = await app.get_document(**where, create=True)
    assert document.source == content
    assert document is not await app.get_document(**where)


async def test_fork(
    rtc_create_file,
    rtc_connect_doc_client,
    rtc_create_fork_client,
    rtc_get_forks_client,
    rtc_delete_fork_client,
):
    path, content = await rtc_create_file("fork.txt", "root", index=True)
    root = YUnicode()
    socket, room = await rtc_connect_doc_client("text", "file", path)
    async with socket as ws, Provider(root.ydoc, HttpxWebsocket(ws, room)):
        await until(lambda: root.source == content)
        created = json.loads((await rtc_create_fork_client(room, False)).body)
        fork_id = created["fork_roomid"]
        assert fork_id in json.loads((await rtc_get_forks_client(room)).body)
        await rtc_delete_fork_client(fork_id, True)
        assert json.loads((await rtc_get_forks_client(room)).body) == {}


async def test_open_room_is_found_by_its_id(jp_serverapp, rtc_create_file, rtc_connect_doc_client):
    path, content = await rtc_create_file("open-room-is-found-by-its-id.txt", "text")
    app = next(iter(jp_serverapp.extension_manager.extension_apps["jupyter_server_ydoc"]))
    document = YUnicode()
    socket, room = await rtc_connect_doc_client("text", "file", path)
    async with socket as ws, Provider(document.ydoc, HttpxWebsocket(ws, room)):
        await until(lambda: document.source == content)
        assert app.ywebsocket_server.room_exists(room)
