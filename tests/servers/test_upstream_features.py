"""Timeline, undo, forks and `get_document` do what they do without this extension.

Each scenario runs on plain upstream too, so that it is known what that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess


@pytest.fixture(params=["upstream", "no redis", "redis"])
async def server(request: pytest.FixtureRequest, make_server: MakeServer) -> JupyterProcess:
    if request.param == "redis":
        redis_server = request.getfixturevalue("redis_server")
        return await make_server(redis_server=redis_server, probe=True)
    return await make_server(extension=request.param != "upstream", probe=True)


async def test_all_upstream_features_on_one_server(server: JupyterProcess, shared_folder: Path):
    # One test for four features: starting a server takes longer than all of them.
    write_notebook(shared_folder / "history.ipynb", ["one"])
    await check_timeline_undo_and_redo(server)
    write_notebook(shared_folder / "forked.ipynb", ["root"])
    await check_forks(server, "forked.ipynb")
    (shared_folder / "document.txt").write_text("on disk")
    await check_get_document(server)


async def check_timeline_undo_and_redo(server: JupyterProcess) -> None:
    session = await server.session("history.ipynb")
    async with RtcClient(server, session, name="ann") as ann:
        for text in (" two", " three"):
            ann.write(text)
            await ann.settle()

        async def both_edits_are_kept() -> bool:
            history = await server.call("GET", f"/api/probe/history?room={session.room_id}")
            return len(history["updates"]) >= 3

        await until(both_edits_are_kept, what="the store's history")
        timeline = await server.call(
            "GET",
            "/api/collaboration/timeline/history.ipynb",
            params={"format": "json", "type": "notebook"},
        )
        assert timeline["roomId"] == session.room_id
        assert timeline["sessionId"] == session.session_id
        assert len(timeline["timestamps"]) >= 3
        assert timeline["timestamps"] == sorted(timeline["timestamps"])

        async def step(action: str) -> Any:
            return await server.call(
                "PUT",
                f"/api/collaboration/undo_redo/{session.room_id}",
                params={"action": action, "steps": 1, "forkRoom": timeline["forkRoom"]},
            )

        async with RtcClient(server, room_id=timeline["forkRoom"], name="past") as past:
            assert past.sources == ["one two three"]
            assert (await step("undo"))["status"] == "undone"
            await until(lambda: past.sources == ["one two"], what="one step back")
            assert (await step("undo"))["status"] == "undone"
            await until(lambda: past.sources == ["one"], what="two steps back")
            assert (await step("redo"))["status"] == "redone"
            await until(lambda: past.sources == ["one two"], what="one step forward")
            assert ann.sources == ["one two three"], "the past is not the present"
        await step("restore")


async def check_forks(server: JupyterProcess, path: str) -> None:
    session = await server.session(path)
    async with RtcClient(server, session, name="ann") as ann:
        for synchronize in (True, False):
            before = ann.sources
            created = await server.call(
                "PUT",
                f"/api/collaboration/fork/{session.room_id}",
                body={"synchronize": synchronize, "title": "a fork"},
            )
            fork_id = created["fork_roomid"]
            assert fork_id in await server.call("GET", f"/api/collaboration/fork/{session.room_id}")
            async with RtcClient(server, room_id=fork_id, name="forker") as fork:
                assert fork.sources == before
                fork.insert_cell(f"in the fork, {synchronize=}")
                ann.insert_cell(f"in the root, {synchronize=}", index=0)
                if synchronize:
                    await until(lambda fork=fork: len(fork.sources) == 3, what="the root's edit")
                assert ann.sources == [f"in the root, {synchronize=}", *before]
            await server.call("DELETE", f"/api/collaboration/fork/{fork_id}?merge=true")
            await until(
                lambda before=before: len(ann.sources) == len(before) + 2, what="the merged fork"
            )
            assert set(ann.sources) > {
                f"in the fork, {synchronize=}",
                f"in the root, {synchronize=}",
            }
            forks = await server.call("GET", f"/api/collaboration/fork/{session.room_id}")
            assert fork_id not in forks


async def check_get_document(server: JupyterProcess) -> None:
    async def get_document(**body: Any) -> dict[str, Any]:
        document = {"path": "document.txt", "content_type": "file", "file_format": "text"}
        reply: dict[str, Any] = await server.call(
            "POST", "/api/probe/document", body={**document, **body}
        )
        return reply

    assert await get_document() == {"found": False}
    assert await get_document(create=False) == {"found": False}
    assert await get_document(create=True) == {"found": True, "source": "on disk"}
    assert await get_document() == {"found": True, "source": "on disk"}
    async with RtcClient(server, await server.session("document.txt", "text", "file")) as client:
        # A copy is nobody else's business, the live document is.
        assert (await get_document(copy=True, write=", copied"))["source"] == "on disk, copied"
        await get_document(copy=False, write=", live")
        await until(lambda: client.text == "on disk, live", what="the write of get_document")
        assert (await get_document())["source"] == "on disk, live"


async def test_fork_merged_on_one_server_shows_on_the_other(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    write_notebook(shared_folder / "forked.ipynb", ["root"])
    a, b = servers
    async with RtcClient(b, await b.session("forked.ipynb"), name="bob") as bob:
        await check_forks(a, "forked.ipynb")
        await until(lambda: len(bob.sources) == 5, what="both merged forks")


async def test_write_of_get_document_shows_on_the_other(
    make_server: MakeServer, redis_server, shared_folder: Path
):
    (shared_folder / "document.txt").write_text("on disk")
    a = await make_server(redis_server=redis_server, probe=True)
    b = await make_server(redis_server=redis_server)
    document = {"path": "document.txt", "content_type": "file", "file_format": "text"}
    await a.call(
        "POST",
        "/api/probe/document",
        body={**document, "create": True, "copy": False, "write": ", by a program"},
    )
    async with (
        RtcClient(b, await b.session("document.txt", "text", "file"), name="bob") as bob,
        RtcClient(a, await a.session("document.txt", "text", "file"), name="ann") as ann,
    ):
        await equal([ann, bob])
        assert bob.text == "on disk, by a program"
        history = await a.call("GET", f"/api/probe/history?room={bob.room_id}")
        assert history["store"] == "RedisYStore"
        assert history["updates"]
