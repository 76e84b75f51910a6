"""What somebody puts into Redis by hand hurts one room at most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pycrdt import Doc, Text
from support.cluster import assert_no_out_of_band
from support.latency import Latency
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until
from support.yjs_bytes import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

CHANNEL = "teleportal:sync:default:{{{room}}}"
LOG = CHANNEL + ":log"
# How late a keystroke in another room may be. Servers, Redis, four clients in one event loop and
# another test work through the huge entry on as few as two processors: what is measured is that
# nothing waits for a timeout or a reconnection, of which the shortest is 5 s.
UNNOTICED_SECONDS = 4.5
# More than what a room says that it applies; and more than Redis queues for one subscriber.
HUGE_ENTRY_BYTES = 25_000_000
HUGE_JUNK_BYTES = 50_000_000


def huge_update() -> bytes:
    """A valid update of a document: 25 million characters."""
    doc: Doc = Doc()
    doc["huge"] = text = Text()
    text += "x" * HUGE_ENTRY_BYTES
    return doc.get_update()


def garbage_entry(redis_server: RedisServer, room: str) -> None:
    with redis_server.cli() as client:
        client.xadd(LOG.format(room=room), {"u": b"\xff\x00garbage", "r": b"nobody"})


def entry_without_fields(redis_server: RedisServer, room: str) -> None:
    with redis_server.cli() as client:
        client.xadd(LOG.format(room=room), {"unknown": b"field"})


def entries_that_crash(redis_server: RedisServer, room: str) -> None:
    """Each of these has made the library that holds documents panic, or overrun its stack."""
    with redis_server.cli() as client:
        for name in ("a list of no blocks", "a clock that overflows", "20,000 nested arrays"):
            client.xadd(LOG.format(room=room), {"u": b"\0" + HOSTILE[name], "r": b"nobody"})


def malformed_envelope(redis_server: RedisServer, room: str) -> None:
    with redis_server.cli() as client:
        for junk in (b"", b"\x00", b"\xff" * 40, b'{"json": true}', bytes(range(256))):
            assert client.publish(CHANNEL.format(room=room), junk) >= 2, "nobody listens"


def huge_entry(redis_server: RedisServer, room: str) -> None:
    with redis_server.cli() as client:
        client.xadd(LOG.format(room=room), {"u": b"\x00" + huge_update(), "r": b"nobody"})


def huge_junk_published(redis_server: RedisServer, room: str) -> None:
    with redis_server.cli() as client:
        client.publish(CHANNEL.format(room=room), b"\xee" * HUGE_JUNK_BYTES)


@pytest.mark.parametrize(
    ("attack", "is_said"),
    [
        (garbage_entry, True),
        (entry_without_fields, True),
        (entries_that_crash, True),
        (malformed_envelope, True),
        (huge_entry, True),
        # Redis cuts off who has so much queued, so nobody knows which room it was.
        (huge_junk_published, False),
    ],
)
async def test_bad_input_hurts_one_room_at_most(
    servers: tuple[JupyterProcess, JupyterProcess],
    redis_server: RedisServer,
    shared_folder: Path,
    attack: Callable[[RedisServer, str], None],
    is_said: bool,
):
    write_notebook(shared_folder / "victim.ipynb", ["victim"])
    write_notebook(shared_folder / "bystander.ipynb", [""])
    a, b = servers
    victim, bystander = await a.session("victim.ipynb"), await a.session("bystander.ipynb")
    async with (
        RtcClient(a, victim, name="ann") as ann,
        RtcClient(b, victim, name="bob") as bob,
        RtcClient(a, bystander, name="eve") as eve,
        RtcClient(b, bystander, name="joe") as joe,
    ):
        ann.write(" before")
        await equal([ann, bob])
        log_sizes = {server: len(server.log_text()) for server in servers}
        latency = Latency(eve, joe)
        await until(lambda: latency.typed > 5, what="the first keystrokes")
        latency.worst = 0.0
        await asyncio.to_thread(attack, redis_server, victim.room_id)
        # Where nothing was announced, the next append shows the gap.
        ann.write(" after")

        def new_log(server: JupyterProcess) -> str:
            return server.log_text()[log_sizes[server] :]

        if is_said:
            for server in servers:
                await until(
                    lambda server=server: any(
                        "TeleportalExtension" in line and victim.room_id in line
                        for line in new_log(server).splitlines()
                    ),
                    timeout=15,
                    what=f"a log line that names the room on {server.name}",
                )
        # The room heals.
        bob.write(" and after")
        await until(lambda: len(ann.closures + bob.closures) == 0, timeout=1, what="no closures")
        await equal([ann, bob], timeout=20)
        assert "before" in ann.text
        assert " after" in ann.text
        assert "and after" in ann.text
        if attack is huge_entry:
            for client in (ann, bob):
                huge = client.doc.get("huge", type=Text)
                await until(
                    lambda huge=huge: len(huge) == HUGE_ENTRY_BYTES,
                    what="the huge update",
                    poll=0.5,
                )
        assert ann.connected.is_set()
        await until(
            lambda: file_sources(shared_folder / "victim.ipynb") == ann.sources,
            timeout=15,
            what="the saved victim",
        )
        await latency.stop()
        await equal([eve, joe])
        assert latency.worst < UNNOTICED_SECONDS, f"a keystroke was {latency.worst:.2f} s late"
        for client in (eve, joe, ann, bob):
            client.assert_undisturbed()
            assert not client.closures
        for server in servers:
            blamed = [
                line
                for line in new_log(server).splitlines()
                if line.startswith(("[W", "[E")) and bystander.room_id in line
            ]
            assert not blamed, blamed
            # Said once, not with every entry from then on.
            assert len([x for x in new_log(server).splitlines() if x.startswith("[E")]) < 20
    assert_no_out_of_band(a, b)


async def test_new_server_reads_past_bad_entries(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    write_notebook(shared_folder / "victim.ipynb", ["victim"])
    a = await make_server(redis_server=redis_server)
    session = await a.session("victim.ipynb")
    async with RtcClient(a, session, name="ann") as ann:
        ann.write(" before")
        await ann.settle()
        for attack in (garbage_entry, entry_without_fields):
            attack(redis_server, session.room_id)
        ann.write(" after")
        await ann.settle()
        b = await make_server(redis_server=redis_server)
        async with RtcClient(b, await b.session("victim.ipynb"), name="bob") as bob:
            await equal([ann, bob])
            assert bob.sources == ["victim before after"]
            assert any(session.room_id in line for line in b.grep(r"^\[[WE].*TeleportalExtension"))
            bob.write("!")
            await equal([ann, bob])
            ann.assert_undisturbed()
            bob.assert_undisturbed()
