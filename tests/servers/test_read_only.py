"""A server whose user may not write the file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.cluster import acknowledged
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

READ_ONLY = {
    "ServerApp": {
        "contents_manager_class": "support.readonly_contents.ReadOnlyContentsManager",
    }
}


def appended_by(redis_server: RedisServer, replica: str) -> list[bytes]:
    """The ids of all log entries that this replica has written, in any room."""
    with redis_server.cli() as client:
        return [
            entry_id
            for key in client.scan_iter("*:log", _type="stream")
            for entry_id, fields in client.xrange(key)
            if fields.get(b"r", b"").split(b".")[0] == replica.encode()
        ]


async def test_read_only_server_follows_and_never_appends(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "guarded.ipynb"
    write_notebook(path, ["start "])
    writer = await make_server(redis_server=redis_server, name="writer")
    reader = await make_server(redis_server=redis_server, name="reader", config=READ_ONLY)
    session = await writer.session("guarded.ipynb")
    async with (
        RtcClient(writer, session, name="ann") as ann,
        RtcClient(reader, await reader.session("guarded.ipynb"), name="rob") as rob,
    ):
        assert rob.sources == ["start "]
        await ann.type_text("followed", hz=20)
        await until(lambda: rob.sources == ["start followed"], timeout=2, what="ann's keystrokes")

        rob.insert_cell("NOT ALLOWED")
        rob.write("NOT ALLOWED")
        await asyncio.sleep(0.5)
        ann.write(", still followed")
        await until(lambda: "still followed" in rob.sources[0], timeout=2, what="ann's next edit")
        await acknowledged(writer, session.room_id)
        await until(
            lambda: file_sources(path) == ["start followed, still followed"], what="the saved file"
        )
        await holds(
            lambda: ann.sources == ["start followed, still followed"] == file_sources(path),
            seconds=2,
            what="ann's document",
        )
        # Not even when the user insists, or comes back.
        reply = await rob.save(timeout=5)
        assert reply["type"] == "save"
        await rob.disconnect()
        await rob.wait_synced()
        ann.write("!")
        await until(lambda: "followed!" in rob.sources[0], what="ann's edit after a reconnect")
        assert ann.sources == ["start followed, still followed!"]
        assert "rob" in await until(ann.remote_users, what="rob's name")
        entry = await writer.room_status(session.room_id)
        assert entry is not None
        assert entry["saver"] == await writer.replica_id()
    assert not appended_by(redis_server, await reader.replica_id())
    assert appended_by(redis_server, await writer.replica_id())


async def test_read_only_server_opens_a_document_first(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "first.ipynb"
    write_notebook(path, ["one", "two"], with_ids=False)
    reader = await make_server(redis_server=redis_server, name="reader", config=READ_ONLY)
    writer = await make_server(redis_server=redis_server, name="writer")
    async with RtcClient(reader, await reader.session("first.ipynb"), name="rob") as rob:
        assert rob.sources == ["one", "two"]
        async with RtcClient(writer, await writer.session("first.ipynb"), name="ann") as ann:
            ann.write(" edited", cell=0)
            # A new tab on the reader, if the first one had to be told to reload.
            async with RtcClient(reader, await reader.session("first.ipynb")) as tab:
                await until(
                    lambda: tab.sources == ["one edited", "two"] == ann.sources,
                    what="the edit on the reader",
                )
                # Not `equal`: what a tab on the reader wrote by itself stays with the reader.
                assert tab.content() == ann.content()
            await until(lambda: file_sources(path) == ["one edited", "two"], what="the saved file")
            assert rob.sources == ["one edited", "two"] or rob.closures
    assert not appended_by(redis_server, await reader.replica_id())
