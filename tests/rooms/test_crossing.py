"""Edits of a document of another lineage come into the log, and each of them once."""

from __future__ import annotations

import asyncio
from typing import Any

from support.waiting import until

from jupyter_teleportal.core.content import document_of, seed
from jupyter_teleportal.core.values import ZERO_OFFSET, offset_key
from jupyter_teleportal.files.crossing import Known, cross
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, Disk, Start, same


def typed(seeded: bytes, at: int, text: str) -> bytes:
    """The document `seeded` after somebody has typed."""
    document = document_of("file", seeded)
    document._ysource.insert(at, text)
    return document.ydoc.get_update()


async def bring(
    hub: MemoryHub, document: bytes, log: list[bytes], base: Any = "old"
) -> list[bytes]:
    transport = MemorySyncTransport(hub)
    await transport.start()
    return await cross(
        transport,
        ROOM,
        "file",
        into="log",
        log=log,
        lineage="lost",
        document=document,
        base=base,
        known=Known(),
    )


async def test_whoever_brings_the_same_edits_brings_the_same_update(hub: MemoryHub) -> None:
    lost = typed(seed("file", "old").update, 3, " and ours")
    log = [seed("file", "old and theirs").update]
    one, two = await asyncio.gather(bring(hub, lost, log), bring(hub, lost, log))
    assert one == two
    # Which of two insertions at one place comes first is nobody's choice.
    assert document_of("file", *log, *one, *two).get() in (
        "old and ours and theirs",
        "old and theirs and ours",
    )


async def test_two_documents_of_one_lost_lineage_are_merged_in_it(hub: MemoryHub) -> None:
    """What both have is not there twice, and what only one has is there too."""
    both = typed(seed("file", "old").update, 0, "b ")
    first, second = typed(both, 0, "1 "), typed(both, 0, "2 ")
    log = [seed("file", "old !").update]
    carried = [*await bring(hub, first, log), *await bring(hub, second, log)]
    carried += await bring(hub, first, log)
    text = document_of("file", *log, *carried).get()
    assert sorted(str(text).split()) == ["!", "1", "2", "b", "old"]


async def test_nothing_is_noted_where_there_is_nothing_to_bring(hub: MemoryHub) -> None:
    document = seed("file", "old").update
    assert await bring(hub, document, [seed("file", "new").update]) == []
    assert not hub.maps[ROOM, "saved"]


async def test_a_damaged_crossing_is_made_anew(hub: MemoryHub) -> None:
    lost, log = typed(seed("file", "old").update, 3, "!"), [seed("file", "new old").update]
    hub.maps[ROOM, "saved"]["crossing lost log 1"] = "garbage"
    carried = await bring(hub, lost, log)
    assert document_of("file", *log, *carried).get() == "new old!"


async def test_saved_and_noted_by_a_server_that_opened_it_alone_and_found_by_the_saver(
    start: Start, disk: Disk
) -> None:
    """The file had changed since the log was seeded, so the histories are two."""
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    c = await start("c", away=True)
    c.write(" of c")
    await until(lambda: disk.note is not None and disk.content == "text one of c", what="c's save")
    await a.link.saver.file_changed()
    await until(lambda: a.text == "text one of c", what="the edit")
    a.write(" and a")
    c.transport.reconnect()
    await until(lambda: c.link.replicator.settled, what="the log")
    await until(same(a, c), what="one document")
    assert a.text == "text one of c and a"
    await until(lambda: disk.content == a.text and disk.note is None, what="the file")
    assert not disk.copies


async def test_the_same_where_its_author_never_comes_back(start: Start, disk: Disk) -> None:
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    c = await start("c", away=True)
    d = await start("d", away=True)
    c.write(" of c")
    await until(lambda: disk.note is not None and disk.content == "text one of c", what="c's save")
    await c.die()
    disk.content += " of a program"
    d.write(" of d")
    await a.link.saver.file_changed()
    await until(lambda: "of a program" in a.text, what="the edits")
    d.transport.reconnect()
    await until(lambda: d.link.replicator.settled, what="the log")
    await until(same(a, d), what="one document")
    for part in ("text", " one", " of c", " of d", " of a program"):
        assert a.text.count(part) == 1, a.text
    await until(lambda: disk.content == a.text, what="the file")


async def test_two_that_bring_the_same_unsaved_edits_to_a_log_that_was_begun_anew(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a, b = await start("a", save_ceiling_s=100), await start("b")
    for server in (a, b):
        server.link._awareness.set_local_state({"autosave": False})
    a.write(" of a")
    await until(same(a, b), what="a's edit")
    for server in (a, b):
        server.transport.disconnect()
    hub.clear()
    disk.content = "text two"
    await start("c")
    assert offset_key(hub.rooms[ROOM].entries[-1].offset) > offset_key(ZERO_OFFSET)
    for server in (a, b):
        server.transport.reconnect()
    await until(lambda: a.link.replicator.settled and b.link.replicator.settled, what="the log")
    await until(same(a, b), what="one document")
    assert a.text.count(" of a") == 1, a.text
    assert a.text.count(" two") == 1, a.text
