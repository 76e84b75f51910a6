"""What is outside every share never reaches Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.cluster import transport_state
from support.fixtures import start_pair
from support.notebooks import write_notebook
from support.redis_server import Monitor
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

GLOBAL_AWARENESS = "JupyterLab:globalAwareness"
NEEDLES = ("hidden-place", "hidden-name", "HIDDEN-CONTENT")


def places_with(redis_server: RedisServer, needle: str) -> list[bytes]:
    """Keys, values and channels that bear these bytes, in any case of letters."""
    return [
        where + b": " + data[:200]
        for where, data in redis_server.everything()
        if needle.lower().encode() in data.lower() or needle.lower().encode() in where.lower()
    ]


async def test_private_documents_leave_no_trace_in_redis(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    private = shared_folder / "hidden-place"
    write_notebook(private / "hidden-name.ipynb", ["HIDDEN-CONTENT on disk"])
    (private / "hidden-name.txt").write_text("HIDDEN-CONTENT in a text")
    write_notebook(shared_folder / "team" / "shown-name.ipynb", ["SHOWN-CONTENT"])
    write_notebook(shared_folder / "teammate" / "hidden-name.ipynb", ["HIDDEN-CONTENT"])
    with Monitor(redis_server) as monitor:
        a, b = await start_pair(make_server, redis_server, shares={"team": "team1"})
        sessions = [
            await a.session("hidden-place/hidden-name.ipynb"),
            await a.session("hidden-place/hidden-name.txt", "text", "file"),
            await a.session("teammate/hidden-name.ipynb"),
        ]
        for session in sessions:
            async with RtcClient(a, session, name="ann") as client:
                await client.type_text("HIDDEN-CONTENT typed", hz=100)
                client.set_cursor({"anchor": "HIDDEN-CONTENT"})
                assert (await client.save())["status"] == "success"
        copy = await a.copy("hidden-place/hidden-name.txt", "hidden-place")
        await a.rename(copy, "hidden-place/hidden-name-2.txt")
        await a.session("hidden-place/hidden-name-2.txt", "text", "file")
        await a.delete("hidden-place/hidden-name-2.txt")
        created = await a.new_file("hidden-place", type="notebook")
        await a.rename(created, "hidden-place/hidden-name-3.ipynb")
        await a.rename("hidden-place/hidden-name-3.ipynb", "hidden-place/hidden-name-4.ipynb")

        # The same rules for a file that leaves a share as for one that was never in it.
        async with (
            RtcClient(a, await a.session("team/shown-name.ipynb"), name="ann") as ann,
            RtcClient(b, await b.session("team/shown-name.ipynb"), name="bob") as bob,
        ):
            ann.write(" typed")
            await equal([ann, bob])
        # To be told by the browser where its user is, is upstream's doing.
        async with (
            RtcClient(a, room_id=GLOBAL_AWARENESS, name="ann") as ann,
            RtcClient(b, room_id=GLOBAL_AWARENESS, name="bob"),
        ):
            ann.awareness.set_local_state_field(
                "current", "notebook:RTC:hidden-place/hidden-name.ipynb"
            )
            ann.awareness.set_local_state_field("documents", ["hidden-place/hidden-name.ipynb"])
            await asyncio.sleep(1)

        for needle in (*NEEDLES, *(session.file_id for session in sessions)):
            assert not places_with(redis_server, needle), f"{needle} is in Redis"
            assert needle.lower().encode() not in monitor.seen.lower(), f"{needle} was sent"
        # What is shared is found, so that nothing found above means something.
        assert places_with(redis_server, "shown-name")
        assert places_with(redis_server, "SHOWN-CONTENT")
        assert b"shown-content" in monitor.seen.lower()


async def test_private_documents_are_plain_upstream(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    write_notebook(shared_folder / "home" / "mine.ipynb", ["x"])
    (shared_folder / "team").mkdir()
    a, b = await start_pair(make_server, redis_server, shares={"team": "team1"})
    session = await a.session("home/mine.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(a, session, name="bob") as bob,
    ):
        ann.write("1")
        await equal([ann, bob])
        assert (await ann.save())["status"] == "success"
        assert (await b.session("home/mine.ipynb")).file_id != session.file_id
        entry = await a.room_status(session.room_id)
        assert entry is None or entry["share"] is None


async def test_without_redis_it_is_never_imported(make_server: MakeServer, shared_folder: Path):
    path = shared_folder / "plain.ipynb"
    write_notebook(path, ["x"])
    server = await make_server(probe=True)
    session = await server.session("plain.ipynb")
    async with (
        RtcClient(server, session, name="ann") as ann,
        RtcClient(server, session, name="bob") as bob,
    ):
        await ann.type_text("yz", hz=20)
        await equal([ann, bob])
        assert (await bob.save())["status"] == "success"
        await until(lambda: "bob" in ann.remote_users(), what="bob's name")
    await server.rename("plain.ipynb", "renamed.ipynb")
    assert await transport_state(server) == "local"
    assert (await server.call("GET", "/api/probe/modules?package=jupyter_teleportal"))["loaded"]
    assert (await server.call("GET", "/api/probe/modules?package=redis"))["loaded"] == []
