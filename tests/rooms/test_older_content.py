"""A saved file is never replaced by older content without a copy, whatever is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.envelopes import EntryEnvelope, decode_envelope
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.transports.base import Listener
from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, Disk, File, Server, Start, same


def is_rolled_back(hub: MemoryHub) -> None:
    del hub.rooms[ROOM].entries[1:]


def cannot_be_read(hub: MemoryHub) -> None:
    entries = hub.rooms[ROOM].entries
    entries[1:] = [replace(entry, payload=b"\xffgarbage") for entry in entries[1:]]


LOGS: dict[str, Callable[[MemoryHub], None]] = {
    "rolled back": is_rolled_back,
    "cannot be read": cannot_be_read,
}


def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep_copy(self: File, content: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(File, "keep_copy", keep_copy)


def errors(server: Server) -> list[str]:
    return [message for level, message in server.told if level == "ERROR"]


async def saved_and_gone(
    start: Start,
    hub: MemoryHub,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    noted: bool = True,
) -> None:
    """The file is saved, and nobody has it open; `noted`: its saver has lived to say so."""
    a = await start("a")
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    await until(lambda: a.link.reconciler.disk is not None, what="the file")
    if not noted:

        async def never(offset: str) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(a.link.reconciler, "mark", never)
    a.write(" saved")
    await until(lambda: disk.content == "text saved", what="the save")
    await until(lambda: a.link.reconciler.unnoted is not noted, what="the note of it")
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.die()
    hub.rooms[ROOM].holder = None


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "about to be written"])
@pytest.mark.parametrize("log", LOGS)
async def test_a_document_that_lacks_what_was_saved_keeps_a_copy_first(
    start: Start,
    hub: MemoryHub,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    log: str,
    noted: bool,
) -> None:
    await saved_and_gone(start, hub, disk, monkeypatch, noted)
    LOGS[log](hub)
    b = await start("b")
    b.write(" of b")
    await until(lambda: "of b" in disk.content, what="the save")
    assert "text saved" in [disk.content, *disk.copies]
    assert any("is kept in copy" in message for _, message in b.told)


@pytest.mark.parametrize("log", LOGS)
async def test_where_it_cannot_be_kept_the_file_is_left_alone(
    start: Start, hub: MemoryHub, disk: Disk, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    await saved_and_gone(start, hub, disk, monkeypatch)
    LOGS[log](hub)
    with monkeypatch.context() as full:
        no_space(full)
        b = await start("b")
        b.write(" of b")
        await until(lambda: errors(b), what="whoever types is told")
        assert "no space left" in errors(b)[0]
        await holds(lambda: disk.content == "text saved", seconds=1, what="the file")
    await until(lambda: "of b" in disk.content, what="the save, tried again")
    assert disk.copies == ["text saved"]


async def test_a_document_that_holds_what_was_saved_keeps_no_copy(
    start: Start, hub: MemoryHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved_and_gone(start, hub, disk, monkeypatch)
    b = await start("b")
    b.write(" of b")
    await until(lambda: disk.content == "text saved of b", what="the save")
    assert not disk.copies


async def test_what_another_one_still_has_is_asked_for_first(
    start: Start, hub: MemoryHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    a.write(" saved")
    await until(lambda: disk.content == "text saved" and same(a, b)(), what="the save")
    await until(lambda: not a.link.reconciler.unnoted, what="the note of it")
    await a.die()
    # Whoever has it does not see by itself that the log lacks it.
    assert b.replica._beating is not None
    b.replica._beating.cancel()
    deliver = b.transport._deliver

    def not_entries(scope: Scope, listener: Listener, message: bytes) -> None:
        if not isinstance(decode_envelope(message), EntryEnvelope):
            deliver(scope, listener, message)

    monkeypatch.setattr(b.transport, "_deliver", not_entries)
    is_rolled_back(hub)
    hub.rooms[ROOM].holder = None
    c = await start("c")
    await until(lambda: c.saves and c.link.reconciler.disk is not None, what="the successor")
    assert not disk.copies
    c.write(" of c")
    await until(lambda: disk.content == "text saved of c", what="the save")


async def test_what_is_said_may_be_too_long_or_nonsense(
    start: Start, hub: MemoryHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved_and_gone(start, hub, disk, monkeypatch)
    hub.maps[ROOM, "saved"]["state"] = "no state"
    b = await start("b")
    b.write(" of b")
    await until(lambda: disk.content == "text saved of b", what="the save")


async def test_a_change_from_outside_waits_for_the_copy_of_what_was_not_saved(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.content = "first\nsecond\n"
    a = await start("a")
    await until(lambda: a.saves and a.link.reconciler.disk is not None, what="the saver")
    a.link._awareness.set_local_state({"autosave": False})
    a.write("unsaved\n")
    with monkeypatch.context() as full:
        no_space(full)
        disk.content = "FIRST\n2nd\n"
        await a.link.saver.file_changed()
        await until(lambda: errors(a), what="whoever types is told")
        assert "no space left" in errors(a)[0]
        assert a.text == "first\nsecond\nunsaved\n"
        assert disk.content == "FIRST\n2nd\n"
    await until(lambda: a.text == "FIRST\n2nd\nunsaved\n", what="the change, tried again")
    assert disk.copies == ["first\nsecond\nunsaved\n"]


async def test_typed_while_a_copy_is_kept_and_the_content_before_is_unknown(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.content = "QQQ\n"
    a = await start("a")
    await until(lambda: a.saves and a.link.reconciler.disk is not None, what="the saver")
    a.link._awareness.set_local_state({"autosave": False})
    a.write("ZZZ\n")
    keep_copy = File.keep_copy

    async def typed_meanwhile(self: File, content: Any) -> str:
        a.write("keystroke\n")
        return await keep_copy(self, content)

    async def unknown(saved: dict[str, str]) -> Any:
        return None

    monkeypatch.setattr(File, "keep_copy", typed_meanwhile)
    monkeypatch.setattr(a.link.reconciler.records, "last_saved", unknown)
    disk.content = "from outside\n"
    await a.link.saver.file_changed()
    await until(lambda: a.text == "from outside\nkeystroke\n", what="the change, and the keystroke")
    assert "QQQ\nZZZ\n" in disk.copies


async def test_nothing_is_replaced_in_a_document_before_it_is_kept(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two have opened the document apart, and nobody knows what one's began with."""
    a = await start("a")
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    disk.content = "another"
    b = await start("b", away=True)
    disk.content = "text"
    b.link.saver._ended = True
    b.document.set("only here")
    b.link.reconciler._known.disk = b.link.reconciler._known.outage_content = None
    with monkeypatch.context() as full:
        no_space(full)
        b.transport.reconnect()
        await until(lambda: errors(b), what="whoever types is told")
        assert "no space left" in errors(b)[0]
        await holds(lambda: b.text == "only here", seconds=1, what="the document")
    await until(lambda: b.text == a.text == "text", what="one document")
    assert disk.copies == ["only here"]


async def test_what_this_server_saved_before_a_later_save_is_kept_in_a_copy(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    """Another program puts it back, while the server that saved last is dead."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the first save")
    await until(lambda: not a.link.reconciler.unnoted and same(a, b)(), what="the note of it")
    hub.rooms[ROOM].holder = b.replica.id
    await until(
        lambda: not a.saves and b.saves and b.link.reconciler.disk is not None,
        what="the other saver",
    )
    b.write(" two")
    await until(lambda: disk.content == "text one two", what="its save")
    assert disk.written[-1] == "b"
    await until(lambda: not b.link.reconciler.unnoted and same(a, b)(), what="the note of it")
    await b.die()
    disk.content = "text one"
    await until(lambda: disk.content == "text one two", what="the save")
    assert disk.copies == ["text one"]
    assert any("an earlier save" in message for _, message in a.told)
