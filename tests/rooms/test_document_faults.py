"""What must not happen to a document when several things go wrong at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pycrdt import Awareness, Doc, Text, handle_sync_message
from support.waiting import holds, until

from jupyter_teleportal.clients.fanout import Fanout
from jupyter_teleportal.clients.turns import ClientTurns
from jupyter_teleportal.core.authors import current_channel
from jupyter_teleportal.core.content import make_document
from jupyter_teleportal.core.document_file import FileState
from jupyter_teleportal.core.errors import TransportRefused
from jupyter_teleportal.core.log_effects import Phase
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.files.document_link import DocumentLink
from jupyter_teleportal.sync import peers
from jupyter_teleportal.sync.threads import LARGE_BYTES
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


def make_fanout(*clients: Client, queue_max_bytes: int = 10**6, **callbacks: Any) -> Fanout:
    log = logging.getLogger(__name__)
    return Fanout(
        clients, log, queue_max_bytes=queue_max_bytes, turns=ClientTurns(0.01), **callbacks
    )  # type: ignore[arg-type]


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
    assert not any("changed" in message for _, message in a.told)


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
    disk.content = "FIRST\n2nd\n"

    async def typed_meanwhile(self: File, content: Any) -> str:
        a.write("keystroke\n")
        return "copy"

    monkeypatch.setattr(File, "keep_copy", typed_meanwhile)
    await a.link.saver.save()
    assert a.text == "FIRST\n2nd\nunsaved\nkeystroke\n"


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
    a.link.live.content_bytes = LARGE_BYTES  # so that it is read with pauses
    snapshot = asyncio.create_task(a.link.reconciler.snapshots.take())
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
    compact = MemorySyncTransport.compact_log

    async def slow(self: MemorySyncTransport, *arguments: Any) -> Any:
        reading.set()
        await finish.wait()
        return await compact(self, *arguments)

    monkeypatch.setattr(MemorySyncTransport, "compact_log", slow)
    link.compactor.appended("1-0", 10**9)
    await asyncio.wait_for(reading.wait(), 5)
    await holds(lambda: a.saves, seconds=1.5, what="the small room's lease")
    finish.set()
    await link.aclose()


async def test_what_the_link_applies_reaches_the_typist_too(start: Start, hub: MemoryHub) -> None:
    """Others' edits that arrive because of somebody's keystroke are not that somebody's own."""
    a, b = await start("a"), await start("b")
    client = Client()
    fanout = make_fanout(client)
    a.document.ydoc.observe(fanout.on_update)
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


async def test_a_client_that_does_not_read_keeps_nobody_waiting() -> None:
    stuck, quick = Client(stuck=True), Client()
    document = make_document("file")
    fanout = make_fanout(stuck, quick)
    document.ydoc.observe(fanout.on_update)
    for number in range(3):
        document.set(f"text {number}")
        await until(lambda number=number: len(quick.got) > number, what="the quick client")
    assert not stuck.got
    stuck.stuck.set()
    await until(lambda: stuck.got == quick.got, what="all of it, in order")


async def test_a_client_that_reads_nothing_is_dropped_at_the_bound() -> None:
    stuck, quick = Client(stuck=True), Client()
    dropped: list[Any] = []
    said: list[str] = []
    fanout = make_fanout(
        stuck, quick, queue_max_bytes=1000, drop=dropped.append, on_drop=said.append
    )
    fanout.broadcast(b"x" * 5000)  # on its way, however large it is
    await asyncio.sleep(0)
    fanout.broadcast(b"y" * 600)
    await asyncio.sleep(0)
    assert not dropped
    for _ in range(3):
        fanout.broadcast(b"z" * 600)
        await asyncio.sleep(0)
    assert dropped == [stuck]
    assert len(said) == 1
    assert "1000 bytes" in said[0]
    await until(lambda: len(quick.got) == 5, what="the quick client")
    stuck.stuck.set()
    await asyncio.sleep(0)
    assert len(stuck.got) == 1, "what waited is gone with the connection"


async def test_a_client_that_has_read_again_is_not_dropped() -> None:
    slow = Client(stuck=True)
    dropped: list[Any] = []
    fanout = make_fanout(slow, queue_max_bytes=1000, drop=dropped.append)
    for number in range(1, 6):
        fanout.broadcast(b"x" * 900)
        fanout.broadcast(b"y" * 900)
        slow.stuck.set()
        await until(lambda number=number: len(slow.got) == 2 * number, what="all of it")
        slow.stuck.clear()
    assert not dropped


async def test_what_gathers_for_a_client_goes_out_as_one() -> None:
    slow = Client(stuck=True)
    document = make_document("file")
    fanout = make_fanout(slow)
    document.ydoc.observe(fanout.on_update)
    for number in range(50):
        document._ysource += f"{number} "
    slow.stuck.set()
    await until(lambda: len(slow.got) == 2, what="the first, and the rest")
    tab: Doc = Doc()
    for message in slow.got:
        handle_sync_message(message[1:], tab)
    assert str(tab.get("source", type=Text)) == document.get()


async def test_closing_waits_for_the_save_that_is_under_way(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was written and not noted would look changed by somebody else."""
    writing, written = asyncio.Event(), asyncio.Event()
    write = File.write

    async def slow(self: File, content: Any, over: FileState) -> FileState:
        state = await write(self, content, over)
        writing.set()
        await written.wait()
        return state

    monkeypatch.setattr(File, "write", slow)
    # A lease that lasts, however long the machine keeps this process waiting.
    a = await start("a", lease_ttl_s=60)
    a.write(" saved")
    await writing.wait()
    closing = asyncio.create_task(a.link.aclose())
    await holds(lambda: not closing.done(), 0.2, "that it is not closed")
    written.set()
    await closing
    disk.content = "changed meanwhile"
    b = await start("b")
    await until(lambda: b.text == "changed meanwhile", what="the change on b")
    assert not disk.copies


async def test_opening_without_the_transport_waits_for_nothing(start: Start) -> None:
    await asyncio.wait_for(start("a", away=True), 1)


async def test_an_outage_is_told_in_the_room_and_so_is_its_end(start: Start) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves != b.saves, what="the saver")
    saver, other = (a, b) if a.saves else (b, a)
    for server in (a, b):
        server.transport.disconnect()
    (warning,) = [message for level, message in saver.told if level == "WARNING"]
    assert "they are saved" in warning
    (warning,) = [message for level, message in other.told if level == "WARNING"]
    assert "the file is not saved" in warning
    for server in (a, b):
        server.transport.reconnect()
    await until(
        lambda: all(("INFO", "Redis is back: edits are shared again.") in x.told for x in (a, b)),
        what="the end of the outage",
    )


async def test_what_only_a_newer_version_reads_is_neither_saved_over_nor_compacted(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="the saver")
    a.replica.formats[ROOM.share] = 7  # as a server that lives says it writes
    log = hub.rooms[ROOM].log
    assert log is not None
    await a.transport.append_log(ROOM, log, "newer", b"\x07what a later version knows")
    await until(lambda: not a.saves, what="the saver steps down")
    a.write(" from an old version")
    a.link.compactor.appended("1-0", 10**9)
    await until(lambda: a.link.lease.holder is None, what="the lease is free for a newer one")
    await holds(lambda: disk.content == "text", seconds=0.5, what="the file")
    assert hub.rooms[ROOM].checkpoint is None
    (complaint,) = a.replica.complaints.values()
    assert "does not save" in complaint.message
    assert "newer version" in complaint.message
    await a.link.aclose()
    assert hub.rooms[ROOM].checkpoint is None
    # A checkpoint of a newer version stands for what could not be read.
    document = make_document("file")
    document.ydoc.apply_update(a.document.ydoc.get_update())
    room = hub.rooms[ROOM]
    room.checkpoint = b"\x00" + document.ydoc.get_update()
    room.checkpoint_offset = room.entries[-1].offset
    b = await start("b")
    await until(lambda: disk.content == "text from an old version", what="the save")
    assert b.saves


async def test_what_a_saver_that_was_cut_off_has_written_is_no_change_by_another_program(
    start: Start, disk: Disk
) -> None:
    """Its successor lacks the edits that it wrote, and gets them as edits."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves != b.saves, what="the saver")
    saver, other = (a, b) if a.saves else (b, a)
    saver.transport.disconnect()
    saver.write(" of the saver")
    await until(lambda: disk.content == "text of the saver", what="its save")
    other.write(" of the other")
    await until(lambda: other.saves, what="the successor")
    await until(
        lambda: all(part in str(disk.content) for part in ("of the saver", "of the other")),
        what="both in the file",
    )
    assert not disk.copies
    saver.transport.reconnect()
    await until(same(a, b), what="one document")
    assert a.text.count("of the saver") == a.text.count("of the other") == 1
    await until(lambda: disk.content == a.text, what="the file")
    await until(lambda: disk.note is None, what="no note any more")


async def test_whoever_opens_it_at_the_same_moment_has_not_to_be_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them says that it has nothing to put back."""
    monkeypatch.setattr(peers, "ANSWER_S", 60)
    servers = await asyncio.gather(*(start(name) for name in "abc"))
    assert all(server.link.replicator.phase is Phase.LIVE for server in servers)


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_log_without_its_beginning_is_not_taken_for_the_document(
    start: Start, disk: Disk, hub: MemoryHub, kept: int
) -> None:
    """Nobody lives who could put it back: the file is the document again."""
    a = await start("a")
    a.write(" saved")
    await until(lambda: disk.content == "text saved" and a.link.replicator.settled, what="the save")
    await a.die()
    room = hub.rooms[ROOM]
    room.checkpoint = None
    del room.entries[: len(room.entries) - kept]
    b = await start("b")
    assert b.text == "text saved"
    await holds(lambda: disk.content == "text saved", seconds=1.5, what="the file")


async def test_a_log_without_its_beginning_is_put_back_by_who_holds_it(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a = await start("a", save_ceiling_s=100)
    a.link._awareness.set_local_state({"autosave": False})
    a.write(" not saved")
    await until(lambda: a.link.replicator.settled, what="the log")
    room = hub.rooms[ROOM]
    del room.entries[: len(room.entries) - 1]
    b = await start("b")
    assert b.text == "text not saved"
    assert not disk.copies


async def test_only_the_last_saver_saves_when_redis_is_emptied_and_then_away(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")
    hub.clear()
    await b.link.lease_keeper.hold(want=False)
    for server in (a, b):
        server.transport.disconnect()
    assert (a.saves, b.saves) == (True, False)
    b.write(" of b")
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    for server in (a, b):
        server.transport.reconnect()
    await until(lambda: " of a" in disk.content and " of b" in disk.content, what="both edits")
    assert not disk.copies


@pytest.mark.parametrize("saver", [True, False])
async def test_who_loses_the_share_keeps_what_the_file_does_not_hold(
    start: Start, disk: Disk, saver: bool
) -> None:
    """Also what the others have: it may be a while until one of them saves it."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves or b.saves, what="a saver")
    leaves, stays = (a, b) if a.saves is saver else (b, a)
    leaves.write(" saved")
    await until(lambda: disk.content == "text saved", what="the save")
    kept: list[Any] = []

    async def keep(content: Any) -> str:
        kept.append(content)
        return "copy"

    disk.writable = False
    leaves.write(" not saved")
    await until(same(a, b), what="one document")
    await leaves.link.flush(3)
    await leaves.link.removed(keep)
    assert kept == ["text saved not saved"]
    assert leaves.told[-1][0] == "ERROR"
    assert "what was not saved is in copy" in leaves.told[-1][1]
    disk.content = "text saved not saved"
    await stays.link.removed(keep)
    assert kept == ["text saved not saved"]
    assert stays.told[-1][1] == "You are no longer a member of share"


async def test_a_note_is_taken_over_before_it_is_removed(start: Start, disk: Disk) -> None:
    """Its author may have died, and the edits in it with it."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")
    a.transport.disconnect()
    a.write(" of a")
    await until(lambda: disk.note is not None and disk.content == "text of a", what="the save")
    await a.die()
    await until(lambda: b.saves, what="the successor")
    await b.link.saver.file_changed()
    assert b.text == "text of a"
    await until(lambda: disk.note is None, what="no note any more")
    assert not disk.copies


async def test_a_saver_that_does_not_know_the_file_does_not_touch_it_while_redis_is_away(
    start: Start, disk: Disk
) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="a saver")
    a.transport.disconnect()
    disk.content = "of another program"
    a.link.saver.look_again()  # somebody else may have had it
    a.write(" of a")
    await holds(lambda: disk.content == "of another program", seconds=1.5, what="the file")
    assert not disk.copies
    assert any("not saved from here" in message for _, message in a.told)


async def test_a_successor_merges_what_another_program_and_the_users_have_changed(
    start: Start, disk: Disk
) -> None:
    """It has never saved, but the log says what the document was when it was saved last."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")
    a.write(" saved")
    await until(lambda: disk.content == "text saved" and a.link.replicator.settled, what="the save")
    await until(lambda: not a.link.reconciler.unnoted, what="the note of it")
    for server in (a, b):
        server.link._awareness.set_local_state({"autosave": False})
    a.write(" unsaved")
    await until(lambda: b.text == "text saved unsaved", what="the edit")
    await a.die()
    disk.content = "outside text saved"
    await until(lambda: b.saves and "outside" in b.text, what="the successor")
    assert b.text == "outside text saved unsaved"


async def test_whoever_was_frozen_for_longer_than_its_lease_waits_before_it_saves_alone(
    start: Start, disk: Disk
) -> None:
    a = await start("a", lease_ttl_s=2.0)
    await until(lambda: a.saves, what="a saver")
    a.link.lease._until = 0.0  # nothing could be heard or done since
    a.transport.disconnect()
    a.write(" of the frozen one")
    await holds(lambda: disk.content == "text", seconds=1.5, what="the file")
    await until(lambda: disk.content == "text of the frozen one", what="the save, alone")


async def test_a_save_that_redis_has_forgotten_is_noted_again(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """Or whoever comes next takes the file for another program's, after a failover."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")

    async def noted() -> bool:
        record = await b.transport.read_map(ROOM, "saved")
        return record.get("hash") == disk.state().hash

    await until(noted, what="the note of the file")
    older = await b.transport.read_map(ROOM, "saved")
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    await until(noted, what="the note of it")
    await b.transport.write_map(ROOM, "saved", older)
    a.transport.disconnect()
    a.transport.reconnect()
    await until(noted, what="the note again")
    await a.die()
    await until(lambda: b.saves, what="the successor")
    b.write(" of b")
    await until(lambda: disk.content == "text of a of b", what="the successor's save")
    assert not disk.copies
