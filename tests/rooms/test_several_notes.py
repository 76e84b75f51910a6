"""Several servers that save one file in one outage: what each has noted is there, and once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.waiting import until

from jupyter_teleportal.core.content import document_of, seed
from jupyter_teleportal.core.envelopes import encode_note
from jupyter_teleportal.core.errors import SaveFailed
from rooms.sites import Disk, File, Server, Start, same


class Interrupted:
    """Servers that stop between two steps of a save, until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_note: dict[str, asyncio.Event] = {}
        self.may_write: dict[str, asyncio.Event] = {}
        self.at: list[str] = []
        note, write = File.write_note, File.write

        async def write_note(file: File, *arguments: Any) -> Any:
            if file.name in self.may_note:
                self.at.append(f"{file.name} notes")
                await self.may_note[file.name].wait()
            return await note(file, *arguments)

        async def write_file(file: File, *arguments: Any) -> Any:
            if file.name in self.may_write:
                self.at.append(f"{file.name} writes")
                await self.may_write[file.name].wait()
            return await write(file, *arguments)

        monkeypatch.setattr(File, "write_note", write_note)
        monkeypatch.setattr(File, "write", write_file)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    return Interrupted(monkeypatch)


async def back(*servers: Server) -> None:
    for server in servers:
        server.transport.reconnect()
        await until(lambda server=server: server.link.replicator.settled, what="the log")
    await until(same(*servers), what="one document")


def once(server: Server, *parts: str) -> None:
    for part in parts:
        assert server.text.count(part) == 1, server.text


async def test_two_that_save_at_once_leave_a_note_each(
    start: Start, disk: Disk, interrupted: Interrupted
) -> None:
    """Only one of them writes the file, and the other one does not take its note away."""
    c, d = await start("c", away=True), await start("d", away=True)
    interrupted.may_note["d"] = asyncio.Event()
    d.write(" of d")
    await until(lambda: "d notes" in interrupted.at, what="d's save")
    c.write(" of c")
    await until(lambda: disk.content == "text of c", what="c's save")
    interrupted.may_note["d"].set()
    await until(lambda: d.link.reconciler.stepped_down, what="the end of d's save")
    late = await start("late")
    await until(lambda: late.saves, what="a saver")
    await back(late, c, d)
    once(late, "text", " of c", " of d")
    await until(lambda: disk.content == late.text and not disk.note, what="the file")
    assert not disk.copies


async def test_whoever_dies_before_it_writes_what_it_has_noted_harms_no_other_note(
    start: Start, disk: Disk, interrupted: Interrupted
) -> None:
    c, d = await start("c", away=True), await start("d", away=True)
    interrupted.may_note["d"] = asyncio.Event()
    interrupted.may_write["d"] = asyncio.Event()
    d.write(" of d")
    await until(lambda: "d notes" in interrupted.at, what="d's save")
    c.write(" of c")
    await until(lambda: disk.content == "text of c", what="c's save")
    interrupted.may_note["d"].set()
    await until(lambda: "d writes" in interrupted.at, what="d's note")
    await d.die()
    late = await start("late")
    await until(lambda: late.saves, what="a saver")
    await back(late, c)
    once(late, "text", " of c", " of d")
    await until(lambda: disk.content == late.text and not disk.note, what="the file")
    assert not disk.copies


async def test_what_was_noted_and_never_written_is_no_deletion(
    start: Start, disk: Disk, interrupted: Interrupted
) -> None:
    """The file holds what the same server has saved before, and noted too."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")
    a.transport.disconnect()
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    interrupted.may_write["a"] = asyncio.Event()
    a.write(" two")
    await until(lambda: "a writes" in interrupted.at, what="the second save")
    await a.die()
    await until(lambda: b.saves, what="the successor")
    await b.link.saver.file_changed()
    await until(lambda: disk.content == "text one two" and not disk.note, what="the file")
    once(b, "text", " one", " two")
    assert not disk.copies


async def test_the_first_that_was_noted_and_never_written_is_no_deletion(
    start: Start, disk: Disk, interrupted: Interrupted
) -> None:
    a = await start("a", away=True)
    interrupted.may_write["a"] = asyncio.Event()
    a.write(" one")
    await until(lambda: "a writes" in interrupted.at, what="the save")
    await a.die()
    b = await start("b")
    await until(lambda: disk.content == "text one" and not disk.note, what="the file")
    once(b, "text", " one")
    # Another program may have put that there.
    assert disk.copies == ["text"]


async def test_a_save_that_fails_leaves_what_was_noted_before(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a", away=True)
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    left = disk.note
    assert left

    async def refused(file: File, *arguments: Any) -> Any:
        raise SaveFailed("the disk is full")

    monkeypatch.setattr(File, "write", refused)
    a.write(" two")
    await until(lambda: "saves room" in a.replica.complaints, what="the failure")
    assert disk.note == left


def cell(name: str, source: str) -> dict[str, Any]:
    outputs: dict[str, Any] = {"outputs": [], "execution_count": None}
    return {"cell_type": "code", "id": name, "source": source, "metadata": {}, **outputs}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def typed_into(update: bytes, number: int, text: str) -> tuple[Any, bytes]:
    document = document_of("notebook", update)
    source = document.ycells[number]["source"]
    source += text
    return document.get(), document.ydoc.get_update()


async def test_what_is_noted_in_a_cell_that_another_program_has_deleted_is_in_a_copy(
    start: Start, disk: Disk
) -> None:
    """Two servers have saved in an outage: one before the cell was deleted, one after that."""
    whole, rest = notebook(cell("one", "1"), cell("two", "2")), notebook(cell("two", "2"))
    disk.content = whole
    a = await start("a", file_type="notebook")
    await until(lambda: a.saves and a.link.reconciler.disk is not None, what="the saver")
    await until(lambda: a.link.replicator.settled, what="the log")
    lineage = a.link.replicator.lineage
    assert lineage is not None
    _, before = typed_into(a.link.doc.get_update(), 0, " of b")
    other = seed("notebook", rest)
    disk.content, after = typed_into(other.update, 0, " of c")
    disk.notes = {
        "of b": encode_note(lineage, whole, before),
        "of c": encode_note(other.lineage, other.content, after),
    }
    await a.link.saver.file_changed()
    await until(lambda: not disk.notes, what="no notes any more")
    assert "2 of c" in str(a.document.get())
    assert "1 of b" in str([a.document.get(), *disk.copies])
