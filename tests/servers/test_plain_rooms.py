"""What clients send harms nobody in rooms that are not shared either."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pycrdt import Text
from support.hostile import Hostile, awareness, sync, varint
from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.waiting import until
from support.yjs_bytes import HOSTILE, apart, blocks, string

from jupyter_teleportal.core.envelopes import decode_payload
from jupyter_teleportal.core.update_walk import read_update

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer

ANSWERED_S = 2.0
"""Within this time a server answers while it is attacked; a standstill was 5 s and more."""
LEVELS = 3000

UPDATES = (
    "a list of no blocks", "a clock that overflows", "20,000 nested arrays", "legacy JSON content",
)  # fmt: skip
FORGED = 5
"""The client whose all of these say they are."""
FRAMES = {
    **{name: sync(2, HOSTILE[name]) for name in UPDATES},
    "a state vector": sync(0, HOSTILE["a number without an end"]),
    "a cursor": b"\x01" + varint(160_000) + HOSTILE["a number without an end"],
    "a cursor that is a list": awareness([7], 1, "[1]"),
}


@pytest.fixture
async def server(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
) -> JupyterProcess:
    (shared_folder / "team").mkdir()
    write_notebook(shared_folder / "team" / "shared.ipynb", ["shared"])
    write_notebook(shared_folder / "private.ipynb", ["private"])
    return await make_server(redis_server=redis_server, shares={"team": "team1"})


async def rooms_of(server: JupyterProcess, shared: Session) -> list[tuple[str, str]]:
    """A room of each kind: its id and a session for it."""
    private = await server.session("private.ipynb")
    fork = await server.call(
        "PUT", f"/api/collaboration/fork/{shared.room_id}", body={"synchronize": True}
    )
    return [
        (shared.room_id, shared.session_id),
        (private.room_id, private.session_id),
        (fork["fork_roomid"], ""),
        ("some-extension", ""),
    ]


def logged(redis_server: RedisServer) -> list[bytes]:
    """All updates that stand in logs."""
    with redis_server.cli() as client:
        return [
            decode_payload(fields[b"u"])
            for key in client.scan_iter("*:log", _type="stream")
            for _, fields in client.xrange(key)
        ]


async def complains_of(server: JupyterProcess, room_id: str) -> int:
    """How often."""
    complaints = (await server.status())["complaints"]
    return sum(one["count"] for one in complaints if one["subject"] == f"client_messages {room_id}")


async def test_bytes_that_nobody_should_send_are_refused_in_every_kind_of_room(
    server: JupyterProcess, redis_server: RedisServer
) -> None:
    shared = await server.session("team/shared.ipynb")
    async with (
        RtcClient(server, shared, name="ann") as ann,
        RtcClient(server, await server.session("private.ipynb"), name="bob") as bob,
    ):
        for room_id, session_id in await rooms_of(server, shared):
            there = []
            for name, frame in FRAMES.items():
                there.append(hostile := Hostile(server, room_id, session_id))
                await asyncio.to_thread(hostile.connect)
                assert hostile.status == 101, (room_id, name)
                await asyncio.to_thread(hostile.send, frame)
                health = await server.request("GET", "/api/teleportal/health", timeout=ANSWERED_S)
                assert health.json() == {"status": "ok"}, (room_id, name)

            async def all_refused(room_id: str = room_id) -> bool:
                return await complains_of(server, room_id) >= len(FRAMES)

            await until(all_refused, 10, what=f"a complaint of {room_id} about each")
            # What somebody has sent who has left already is not looked at.
            for hostile in there:
                await asyncio.to_thread(hostile.close)
        bob.write(" typed")
        async with RtcClient(server, await server.session("private.ipynb"), name="cem") as cem:
            await until(lambda: cem.sources == ["private typed"], what="bob's edit at cem")
        ann.write(" typed")
        await until(lambda: any(b" typed" in one for one in logged(redis_server)), what="an edit")
        # It is refused on the way in, and not only by those who read the log.
        for update in logged(redis_server):
            assert not any(HOSTILE[name] in update for name in UPDATES)
            assert FORGED not in {block.client for block in read_update(update)}
        for client in (ann, bob):
            client.assert_undisturbed()
    assert not server.grep("Panic")


async def test_shared_types_nested_by_many_messages_are_refused(server: JupyterProcess) -> None:
    """Each update adds a level to what the ones before have built."""
    session = await server.session("private.ipynb")
    async with RtcClient(server, session, name="bob") as bob:
        hostile = Hostile.of(server, session)
        await asyncio.to_thread(hostile.connect)
        messages = [sync(2, blocks(7, 0, b"\x07\x01\x01a\x00"))]
        messages += [
            sync(2, blocks(7, n + 1, b"\x07\x00\x07" + varint(n) + b"\x00")) for n in range(LEVELS)
        ]
        await asyncio.to_thread(lambda: all(map(hostile.send, messages)))
        await until(lambda: complains_of(server, session.room_id), what="a complaint")
        await asyncio.to_thread(hostile.close)
        bob.write(" typed")
        async with RtcClient(server, session, name="cem") as cem:
            await until(lambda: cem.sources == ["private typed"], what="bob's edit at cem")
        bob.assert_undisturbed()


async def test_what_builds_on_what_has_not_come_does_not_reach_the_library(
    server: JupyterProcess,
) -> None:
    """The library never ends, or crashes, on some sequences that were forged."""
    found = (Path(__file__).parents[1] / "fuzz" / "corpus" / "found.txt").read_text().splitlines()
    sequences = [apart(bytes.fromhex(line[9:])) for line in found if line[:9] == "sequence "]
    assert sequences
    session = await server.session("private.ipynb")
    async with RtcClient(server, session, name="bob") as bob:
        for updates in sequences:
            hostile = Hostile.of(server, session)
            await asyncio.to_thread(hostile.connect)
            for update in updates:
                await asyncio.to_thread(hostile.send, sync(2, update))
            health = await server.request("GET", "/api/teleportal/health", timeout=ANSWERED_S)
            assert health.json() == {"status": "ok"}
            await asyncio.to_thread(hostile.close)
        bob.write(" typed")
        async with RtcClient(server, session, name="cem") as cem:
            await until(lambda: cem.sources == ["private typed"], what="bob's edit at cem")
        bob.assert_undisturbed()


async def test_who_types_before_it_is_asked_loses_nothing_in_a_room_that_is_not_shared(
    server: JupyterProcess,
) -> None:
    session = await server.session("private.ipynb")
    eager = Hostile.of(server, session)
    await asyncio.to_thread(eager.connect)
    next_one = string("!", beside=(77, 4))
    await asyncio.to_thread(eager.send, sync(2, blocks(77, 5, next_one)))
    await asyncio.to_thread(eager.send, sync(1, blocks(77, 0, string("offli"), next_one)))
    await asyncio.to_thread(eager.send, sync(2, blocks(77, 6, string("?", beside=(77, 5)))))
    async with RtcClient(server, session, name="bob") as bob:
        text = bob.doc.get("source", type=Text)
        await until(lambda: str(text) == "offli!?", what="all of it")
        bob.assert_undisturbed()
    await asyncio.to_thread(eager.close)
