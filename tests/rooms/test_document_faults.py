"""What must not happen to a document when several things go wrong at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pycrdt import Awareness, Doc, Text, handle_sync_message
from support.waiting import holds, until

from jupyter_teleportal.content import make_document
from jupyter_teleportal.documents import DocumentLink
from jupyter_teleportal.errors import TransportRefused
from jupyter_teleportal.fanout import Fanout, current_channel
from jupyter_teleportal.model import Scope
from jupyter_teleportal.saving import FileState
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, Disk, File, Start, same


class Client:
    """A channel that keeps what it is sent."""

    path = "client"

    def __init__(self, *, stuck: bool = False) -> None:
        self.stuck = asyncio.Event()
        if not stuck:
            self.stuck.set()
        self.got: list[bytes] = []

    async def send(self, message: bytes) -> None:
        await self.stuck.wait()
        self.got.append(message)


async def test_what_another_server_saved_during_an_outage_is_not_there_twice(
    start: Start, disk: Disk
) -> None:
    a, b = await start("a", away=True), await start("b", away=True)
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="a's save")
    await b.link.saver.file_changed()
    assert not b.saves
    b.transport.reconnect()
    a.transport.reconnect()
    await until(lambda: a.link.replicator.settled and b.link.replicator.settled, what="the log")
    await until(same(a, b), what="one document")
    assert a.text == "text of a"
    await holds(lambda: disk.content == "text of a", seconds=1, what="the file")


async def test_opened_elsewhere_while_the_last_saver_is_cut_off(start: Start, disk: Disk) -> None:
    a = await start("a")
    a.transport.disconnect()
    c = await start("c", away=True)
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the last saver's save")
    await c.link.saver.file_changed()
    a.transport.reconnect()
    c.transport.reconnect()
    await until(lambda: a.link.replicator.settled and c.link.replicator.settled, what="the log")
    await until(same(a, c), what="one document")
    assert a.text == "text of a"


async def test_follower_brings_its_edits_to_another_lineage(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """Redis comes back empty, and somebody opens the file before the follower is back."""
    a, b = await start("a"), await start("b")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    await until(same(a, b), what="a's edit")
    for server in (a, b):
        server.transport.disconnect()
    b.write(" of b")
    await a.die()
    hub.clear()
    c = await start("c")
    b.transport.reconnect()
    await until(lambda: b.link.replicator.settled, what="the log")
    await until(same(b, c), what="one document")
    assert b.text == "text one of b"


async def test_edits_of_a_room_that_could_not_join_in_time(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    read, answered = MemorySyncTransport.read_log, asyncio.Event()

    async def late(self: MemorySyncTransport, *arguments: Any) -> Any:
        await answered.wait()
        return await read(self, *arguments)

    monkeypatch.setattr(MemorySyncTransport, "read_log", late)
    b = await start("b", join_timeout_s=0.3)
    b.write(" of b")
    answered.set()
    await until(lambda: b.link.replicator.settled, what="the log")
    await until(same(a, b), what="one document")
    assert a.text == "text one of b"


async def test_a_log_that_was_put_back_is_no_change_of_the_file(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    a.transport.disconnect()
    hub.clear()
    a.transport.reconnect()
    a.write(" two")
    await until(lambda: disk.content == "text one two", what="the next save")
    assert not disk.copies
    assert "WARNING" not in dict(a.told)


@pytest.mark.parametrize("emptied", [False, True])
async def test_a_change_right_before_the_reconnect_is_kept(
    start: Start, disk: Disk, hub: MemoryHub, emptied: bool
) -> None:
    a = await start("a", away=not emptied)
    a.transport.disconnect()
    if emptied:
        hub.clear()
    disk.content = "from outside"
    a.transport.reconnect()
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    await until(
        lambda: disk.content == "from outside" or "from outside" in disk.copies, what="the change"
    )


async def test_a_change_after_a_failed_save_is_kept(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead saver was about to write is no excuse for overwriting something else."""
    write = File.write

    async def refuse(self: File, content: Any) -> FileState:
        raise OSError("the disk is full")

    monkeypatch.setattr(File, "write", refuse)
    a = await start("a")
    a.write(" unsaved")
    await until(lambda: "ERROR" in dict(a.told), what="the failure")
    await a.die()
    monkeypatch.setattr(File, "write", write)
    disk.content = "from outside"
    b = await start("b")
    await until(lambda: b.saves, what="the successor")
    await until(lambda: "from outside" in b.text, what="the change")
    assert "text unsaved" in disk.copies


async def test_a_keystroke_while_a_copy_is_kept(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.content = "first\nsecond\n"
    a = await start("a")
    a.link.saver._delay_s = None
    a.write("unsaved\n")
    disk.content = "FIRST\nsecond\n"

    async def typed_meanwhile(self: File, content: Any) -> str:
        a.write("keystroke\n")
        return "copy"

    monkeypatch.setattr(File, "keep_copy", typed_meanwhile)
    await a.link.saver.save()
    assert a.text == "FIRST\nsecond\nunsaved\nkeystroke\n"


async def test_a_keystroke_while_the_successor_reads_the_file(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: not a.link.replicator.unacknowledged, what="the log")
    load = File.load

    async def typed_meanwhile(self: File) -> Any:
        loaded = await load(self)
        b.write(" keystroke")
        return loaded

    disk.content = "text from outside"
    monkeypatch.setattr(File, "load", typed_meanwhile)
    await a.die()
    await until(lambda: "from outside" in b.text, what="the change")
    assert "keystroke" in b.text or any("keystroke" in copy for copy in disk.copies)


async def test_a_change_from_outside_is_noted_at_once(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    for server in (a, b):
        server.link._awareness.set_local_state({"autosave": False})
    disk.content = "from outside"
    await a.link.saver.file_changed()
    await until(lambda: b.text == "from outside", what="the change")
    a.write(" and more")
    await until(same(a, b), what="the edit")
    await a.die()
    await until(lambda: b.saves, what="the successor")
    await holds(lambda: b.text == "from outside and more", seconds=0.5, what="the edit")


async def test_an_edit_while_the_lease_has_lapsed_is_saved(start: Start, disk: Disk) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="the saver")
    a.link.lease._until = 0
    a.write(" late")
    await until(lambda: disk.content == "text late", what="the save")


async def test_a_transport_that_takes_nothing_does_not_keep_the_file_back(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a")

    async def full(self: MemorySyncTransport, *arguments: Any, **keywords: Any) -> None:
        raise TransportRefused("OOM command not allowed")

    for name in ("append_log", "write_map", "mark_saved"):
        monkeypatch.setattr(MemorySyncTransport, name, full)
    a.write(" unsaved")
    await until(lambda: disk.content == "text unsaved", what="the save")


async def test_cells_that_are_deleted_while_they_are_read(start: Start, disk: Disk) -> None:
    disk.content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {"id": f"c{number}", "cell_type": "raw", "source": "x", "metadata": {}}
            for number in range(50)
        ],
    }
    a = await start("a", file_type="notebook")
    snapshot = asyncio.create_task(a.link.saver._snapshot())
    for _ in range(2):
        await asyncio.sleep(0)
    del a.document.ycells[10:40]
    assert len((await snapshot)["cells"]) == 20


async def test_a_slow_checkpoint_does_not_cost_another_room_its_lease(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a")
    big = make_document("file")
    link = DocumentLink(
        a.replica,
        Scope("share", "big"),
        big,
        "file",
        File(Disk("big"), "a"),
        awareness=Awareness(big.ydoc),
        broadcast=lambda message: None,
        writable=True,
        save_delay_s=None,
        tell=lambda level, message: None,
    )
    await link.open()
    reading, finish = asyncio.Event(), asyncio.Event()
    read = MemorySyncTransport.read_history

    async def slow(self: MemorySyncTransport, scope: Scope) -> Any:
        reading.set()
        await finish.wait()
        return await read(self, scope)

    monkeypatch.setattr(MemorySyncTransport, "read_history", slow)
    link.compactor.appended(10**9)
    await asyncio.wait_for(reading.wait(), 5)
    await holds(lambda: a.saves, seconds=1.5, what="the small room's lease")
    finish.set()
    await link.aclose()


async def test_what_the_link_applies_reaches_the_typist_too(start: Start, hub: MemoryHub) -> None:
    """Others' edits that arrive because of somebody's keystroke are not that somebody's own."""
    a, b = await start("a"), await start("b")
    client = Client()
    fanout = Fanout([client], logging.getLogger(__name__))  # type: ignore[list-item]
    a.document.ydoc.observe(fanout.on_update)
    running = asyncio.create_task(fanout.run())
    assert a.replica._beating is not None
    a.replica._beating.cancel()
    hub.clear()
    hub.listeners[ROOM][:] = [pair for pair in hub.listeners[ROOM] if pair[0] is not a.transport]
    b.write(" of b")
    await until(lambda: hub.rooms[ROOM].log is not None and b.link.replicator.settled, what="b")
    tab: Doc = Doc()
    tab.apply_update(a.document.ydoc.get_update())

    async def type_as_the_client() -> None:
        current_channel.set(client)  # type: ignore[arg-type]
        a.write(" of a")

    await asyncio.create_task(type_as_the_client())
    await until(lambda: "of b" in a.text, what="b's edit on a")

    def seen() -> bool:
        while client.got:
            handle_sync_message(client.got.pop(0)[1:], tab)
        return "of b" in str(tab.get("source", type=Text))

    await until(seen, what="b's edit in the browser")
    running.cancel()


async def test_a_client_that_does_not_read_keeps_nobody_waiting() -> None:
    stuck, quick = Client(stuck=True), Client()
    document = make_document("file")
    fanout = Fanout([stuck, quick], logging.getLogger(__name__))  # type: ignore[list-item]
    document.ydoc.observe(fanout.on_update)
    running = asyncio.create_task(fanout.run())
    for number in range(3):
        document.set(f"text {number}")
        await until(lambda number=number: len(quick.got) > number, what="the quick client")
    assert not stuck.got
    stuck.stuck.set()
    await until(lambda: stuck.got == quick.got, what="all of it, in order")
    running.cancel()


async def test_closing_waits_for_the_save_that_is_under_way(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was written and not noted would look changed by somebody else."""
    writing = asyncio.Event()
    write = File.write

    async def slow(self: File, content: Any) -> FileState:
        state = await write(self, content)
        writing.set()
        await asyncio.sleep(0.2)
        return state

    monkeypatch.setattr(File, "write", slow)
    a = await start("a")
    a.write(" saved")
    await writing.wait()
    await a.link.aclose()
    disk.content = "changed meanwhile"
    b = await start("b")
    assert b.text == "changed meanwhile"
    assert not disk.copies


async def test_opening_without_the_transport_waits_for_nothing(start: Start) -> None:
    await asyncio.wait_for(start("a", away=True), 1)
