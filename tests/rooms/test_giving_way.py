"""A document whose file turns out to be another one's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pycrdt import Text
from support.waiting import until

from jupyter_teleportal.core.content import document_of
from jupyter_teleportal.core.envelopes import decode_note
from jupyter_teleportal.core.errors import SaveFailed
from rooms.sites import Disk, File, Start


def noted(disk: Disk) -> list[str]:
    """The texts that are noted beside the file."""
    updates = [decode_note(note)[2] for note in disk.notes.values()]
    return [str(document_of("file", update).ydoc.get("source", type=Text)) for update in updates]


async def test_what_was_not_saved_is_noted(start: Start, disk: Disk) -> None:
    a = await start("a")
    a.write(" of a")
    await a.link.give_way()
    assert noted(disk) == ["text of a"]
    assert disk.content == "text"
    assert a.link.saver.may_save is False


@pytest.mark.parametrize("error", [None, OSError(28, "No space left on device")])
async def test_what_cannot_be_noted_is_kept_in_a_copy(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    async def no_note(self: File, note: bytes) -> str | None:
        if error is not None:
            raise error
        return None

    monkeypatch.setattr(File, "write_note", no_note)
    a = await start("a")
    a.write(" of a")
    await a.link.give_way()
    assert disk.copies == ["text of a"]


async def test_what_can_be_kept_nowhere_goes_on(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: File, content: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(File, "write_note", full)
    monkeypatch.setattr(File, "keep_copy", full)
    a = await start("a")
    await until(lambda: a.saves, what="the saver")
    a.write(" of a")
    with pytest.raises(SaveFailed, match="No space left"):
        await a.link.give_way()
    await until(lambda: disk.content == "text of a", what="that it is saved all the same")


async def test_what_is_typed_meanwhile_is_noted(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_note = File.write_note
    writing = asyncio.Event()

    async def slow(self: File, note: bytes) -> str | None:
        writing.set()
        await asyncio.sleep(0.1)
        return await write_note(self, note)

    monkeypatch.setattr(File, "write_note", slow)
    a = await start("a")
    a.write(" of a")
    giving = asyncio.create_task(a.link.give_way())
    await writing.wait()
    a.write(" and more")
    await giving
    assert noted(disk)[-1] == "text of a and more"
