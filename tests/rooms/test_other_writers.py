"""Another program writes a file whose document holds what is not saved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, Disk, File, Start


@pytest.mark.parametrize(
    ("typed", "written", "found"),
    [
        (" unsaved", "text unsaved", ["text unsaved"]),
        (" unsaved", "text unsaved and more", ["text unsaved and more"]),
        ("\none\ntwo", "text\none\n", ["text", "one", "two"]),
        ("\none\ntwo\n", "text\none\nthree\n", ["text", "one", "three", "two"]),
    ],
)
async def test_what_the_document_holds_already_is_there_once(
    start: Start, disk: Disk, typed: str, written: str, found: list[str]
) -> None:
    """JupyterLab does so itself, with "Overwrite", or when a file was removed and is saved."""
    a = await start("a")
    await until(lambda: a.saves and not a.link.reconciler.unnoted, what="a saver")
    a.link._awareness.set_local_state({"autosave": False})
    a.write(typed)
    disk.content = written
    await a.link.saver.file_changed()
    await until(lambda: sorted(a.text.splitlines()) == sorted(found), what="the change")
    await holds(lambda: sorted(a.text.splitlines()) == sorted(found), 0.3, what="the text")


async def test_who_writes_in_the_moment_of_a_save_is_merged_at_once(
    start: Start, disk: Disk
) -> None:
    """As two views of one file do, each of which has a saver of its own."""
    a = await start("a")
    await until(lambda: a.saves and not a.link.reconciler.unnoted, what="a saver")
    disk.others = ["one\ntext", "two\none\ntext"]
    a.write("\nmine")
    await until(lambda: "mine" in disk.content, 2.0, what="the save")
    assert disk.content == a.text
    assert sorted(a.text.splitlines()) == ["mine", "one", "text", "two"]
    assert not [message for _, message in a.told if "could not be saved" in message]


async def test_a_change_is_one_edit_for_all_savers_also_where_somebody_has_just_typed(
    start: Start, disk: Disk, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = MemorySyncTransport.append_log

    async def late(self: MemorySyncTransport, *arguments: Any) -> Any:
        await asyncio.sleep(0.3)
        return await append(self, *arguments)

    disk.content = "one\ntwo\n"
    a = await start("a")
    await until(lambda: a.saves and not a.link.reconciler.unnoted, what="a saver")
    await until(lambda: a.link.replicator.settled, what="the log")
    a.link._awareness.set_local_state({"autosave": False})
    monkeypatch.setattr(MemorySyncTransport, "append_log", late)
    a.write("unsaved\n")
    disk.content = "ONE\ntwo\n"
    await a.link.saver.file_changed()
    assert a.text == "ONE\ntwo\nunsaved\n"
    assert any(key.startswith("change ") for key in hub.maps[ROOM, "saved"])


async def test_what_may_be_another_documents_file_is_left_alone(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was cut off has renamed the document's file, and is about to say so."""
    a = await start("a")
    await until(lambda: a.saves and not a.link.reconciler.unnoted, what="a saver")
    said = asyncio.Event()

    async def may_be_elsewhere(self: File) -> bool:
        return not said.is_set()

    monkeypatch.setattr(File, "may_be_elsewhere", may_be_elsewhere)
    disk.content = "of another document"
    looking = asyncio.create_task(a.link.saver.file_changed())
    await holds(lambda: a.text == "text" and not looking.done(), seconds=0.5, what="the document")
    assert disk.content == "of another document"
    # Where it was renamed to.
    disk.content = "text"
    said.set()
    await looking
    assert a.text == disk.content == "text"
    assert not disk.copies


async def test_what_is_written_right_after_nothing_could_be_read_is_not_written_over(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program writes the file anew while its half is looked at."""
    a = await start("a")
    a.write(" saved")
    await until(lambda: disk.content == "text saved", what="the save")
    load = File.load

    async def unreadable(self: File) -> Any:
        monkeypatch.setattr(File, "load", load)
        disk.content, disk.half = "another text saved", False
        raise ValueError("half a notebook")

    disk.content, disk.half = "", True
    monkeypatch.setattr(File, "load", unreadable)
    await a.link.saver.file_changed()
    await until(lambda: a.text == "another text saved", what="the other program's change")
    await holds(lambda: disk.content == a.text == "another text saved", seconds=0.5)
