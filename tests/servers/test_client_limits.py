"""Limits of documents, rooms and users on real servers, and what hostile clients leave behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from support.cluster import assert_no_errors
from support.hostile import QUESTION, Hostile, frame, sync, updates
from support.rtc_client import RtcClient
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer

CLEANUP_S = 0.5


async def server_with(
    make_server: MakeServer, redis_server: RedisServer, probe: bool = False, **limits: Any
) -> JupyterProcess:
    return await make_server(
        redis_server=redis_server,
        probe=probe,
        config={
            "TeleportalExtension": limits,
            "YDocExtension": {"document_cleanup_delay": CLEANUP_S},
        },
    )


async def text(server: JupyterProcess, folder: Path, name: str) -> Session:
    (folder / name).write_text("x\n")
    return await server.session(name, "text", "file")


async def connected(server: JupyterProcess, session: Session, reads: bool = True) -> Hostile:
    return await asyncio.to_thread(Hostile.of(server, session, reads=reads).connect)


async def test_a_document_has_so_many_clients_and_the_next_one_later(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    server = await server_with(make_server, redis_server, room_clients_max=3)
    session = await text(server, shared_folder, "full.txt")
    first = [await connected(server, session) for _ in range(3)]
    refused = await connected(server, session)
    assert [one.status for one in (*first, refused)] == [101, 101, 101, 503]
    assert server.grep("room_clients_max")
    first[0].close()

    async def let_in() -> bool:
        one = await connected(server, session)
        first.append(one)
        return one.status == 101

    await until(let_in, what="a place in the document", poll=0.2)
    for one in first:
        one.close()


async def test_a_user_has_so_many_documents_and_more_when_some_are_closed(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    server = await server_with(make_server, redis_server, user_rooms_max=3)
    sessions = [await text(server, shared_folder, f"{number}.txt") for number in range(4)]
    open_ones = [await connected(server, session) for session in sessions[:3]]
    assert [one.status for one in open_ones] == [101, 101, 101]
    assert (await connected(server, sessions[3])).status == 503
    assert server.grep("user_rooms_max")
    # Who is in one of them already may open it again.
    again = await connected(server, sessions[0])
    assert again.status == 101
    again.close()
    open_ones[1].close()

    async def let_in() -> bool:
        return (await connected(server, sessions[3])).status == 101

    await until(let_in, what="the closed document's place", poll=0.2)


async def test_documents_that_are_opened_and_dropped_are_closed(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    server = await server_with(make_server, redis_server, probe=True)
    sessions = [await text(server, shared_folder, f"{number}.txt") for number in range(30)]
    async with RtcClient(server, sessions[0], name="warm"):
        pass

    async def rooms() -> int:
        return len((await server.status())["rooms"])

    async def nothing_open() -> bool:
        return await rooms() == 0

    await until(nothing_open, what="the first room's end", poll=0.1)
    before = await server.call("GET", "/api/probe/leftovers")
    for _ in range(3):
        for session in sessions:
            # An ordinary request makes the room, and no WebSocket follows.
            reply = await server.request("GET", f"/api/collaboration/room/{session.room_id}")
            assert reply.status_code >= 400
            one = await connected(server, session, reads=False)
            one.send(QUESTION)
            one.close()
    for number in range(50):
        other = Hostile(server, f"transient-{number}", reads=False)
        await asyncio.to_thread(other.connect)
        other.close()
    await until(nothing_open, timeout=20, what="the end of all rooms", poll=0.2)

    async def nothing_left() -> bool:
        after = await server.call("GET", "/api/probe/leftovers")
        return bool(
            len(after["tasks"]) <= len(before["tasks"]) + 2
            and after["descriptors"] <= before["descriptors"] + 3
            and after["rss"] < before["rss"] + 30_000_000
        )

    await until(nothing_left, timeout=10, what="tasks, descriptors and memory", poll=0.5)
    assert_no_errors(server, allowed=("Uncaught exception", "StreamClosed"))


async def test_a_document_grows_to_its_limit_and_is_edited_as_before(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    most = 20_000_000
    server = await server_with(make_server, redis_server, document_max_bytes=most)
    session = await text(server, shared_folder, "grows.txt")
    async with RtcClient(server, session, name="ann") as ann:
        hostile = await connected(server, session)
        for number in range(5):
            (update,) = updates(1, client=4_000_000_000 + number, text="y" * 5_000_000)
            await asyncio.to_thread(hostile.send, sync(2, update))
        await until(lambda: hostile.closed_with, what="the end of the hostile connection")
        assert hostile.closed_with is not None
        code, reason = hostile.closed_with
        assert code == 1008
        assert f"{most} bytes" in reason
        await until(lambda: 14_000_000 < len(ann.text) <= most, what="what fits")
        assert server.grep("over its limits")
        assert not ann.closures
        hostile.close()


async def test_who_goes_on_sending_too_much_is_slowed_and_then_disconnected(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    server = await server_with(
        make_server, redis_server, client_messages_per_s=50, client_slowed_max_s=2
    )
    session = await text(server, shared_folder, "busy.txt")
    async with RtcClient(server, session, name="ann") as ann:
        hostile = await connected(server, session)
        hostile.flood(frame(QUESTION) * 100, 30)
        await until(lambda: server.grep("read from more slowly"), what="what the log says")
        await until(lambda: hostile.closed_with, timeout=20, what="the end of the connection")
        assert hostile.closed_with is not None
        assert hostile.closed_with[0] == 1008
        assert "50 messages a second" in hostile.closed_with[1]
        counters = (await server.status())["counters"]
        assert counters["closed_clients"] == 1
        ann.write("still there")
        await ann.settle()
        ann.assert_undisturbed()
        with contextlib.suppress(OSError):
            hostile.close()
