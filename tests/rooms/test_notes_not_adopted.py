"""A server's note beside the file whose edits cannot be brought into the document."""

from __future__ import annotations

from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.content import seed
from jupyter_teleportal.core.envelopes import encode_note
from jupyter_teleportal.transports.memory import MemorySyncTransport
from rooms.sites import ROOM, Disk, File, Server, Start

LONE = seed("file", "text of c")


def note(base: str | None) -> bytes:
    """What a server of another history has left that died before it could write the file."""
    return encode_note("another", base, LONE.update)


async def saves_with(server: Server, disk: Disk, left: bytes, word: str) -> None:
    await until(lambda: server.saves, what="a saver")
    disk.note = left
    server.write(word)
    await until(lambda: word in disk.content and server.link.saver.last_save, what="the save")


async def test_what_it_holds_is_kept_in_a_copy_before_it_is_removed(
    start: Start, disk: Disk
) -> None:
    a = await start("a")
    await saves_with(a, disk, note(None), " of a")
    await until(lambda: disk.note is None, what="no note any more")
    assert disk.copies == ["text of c"]
    assert a.text == disk.content == "text of a"
    assert any("copy" in message for _, message in a.told)


async def test_it_stays_if_that_cannot_be_kept(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep = File.keep_copy

    async def full(self: File, content: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(File, "keep_copy", full)
    a = await start("a")
    await saves_with(a, disk, note(None), " of a")
    await holds(lambda: disk.note is not None, seconds=0.5, what="the note")
    assert "The note beside file stays there" in caplog.text
    assert not any(level == "ERROR" for level, _ in a.told)
    monkeypatch.setattr(File, "keep_copy", keep)
    a.write(" again")
    await until(lambda: disk.note is None, what="no note any more")
    assert disk.copies == ["text of c"]


async def test_it_stays_if_the_transport_is_gone_meanwhile(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, left = MemorySyncTransport.mark_saved, note("text")

    async def cut(self: MemorySyncTransport, *arguments: Any) -> None:
        await mark(self, *arguments)
        if disk.note == left:
            self.disconnect()

    monkeypatch.setattr(MemorySyncTransport, "mark_saved", cut)
    a = await start("a")
    await saves_with(a, disk, left, " of a")
    await until(lambda: not a.link.shared, what="the outage")
    await holds(lambda: disk.note is not None, seconds=0.5, what="the note")
    monkeypatch.setattr(MemorySyncTransport, "mark_saved", mark)
    a.transport.reconnect()
    a.write(" again")
    await until(lambda: disk.note is None, what="no note any more")
    await until(lambda: a.text == disk.content, what="the save")
    assert a.text.count(" of c") == a.text.count(" of a") == 1


async def test_nothing_is_kept_that_the_document_holds(start: Start, disk: Disk) -> None:
    a = await start("a")
    await saves_with(
        a, disk, encode_note("another", None, seed("file", "text of a").update), " of a"
    )
    await until(lambda: disk.note is None, what="no note any more")
    assert not disk.copies
    assert await a.transport.read_map(ROOM, "saved")
