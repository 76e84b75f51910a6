"""A document whose file is deleted, and what its users are told of its file."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.envelopes import Notice
from jupyter_teleportal.core.errors import SaveFailed
from jupyter_teleportal.files import saver as savers
from jupyter_teleportal.files import telling
from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, Disk, File, Server, Start, same

DELETED = "The file was deleted."


def told(server: Server, part: str) -> list[str]:
    return [message for level, message in server.told if level != "INFO" and part in message]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savers, "GONE_S", 0.05)
    monkeypatch.setattr(savers, "RETRY_S", 0.1)


def delete(disk: Disk, how: str, *servers: Server) -> None:
    """Delete the file by a browser, or by another program, which all servers see."""
    disk.gone = True
    for server in servers:
        if how == "browser":
            server.link.saver.deleted()
        else:
            server.link.saver.file_gone()


HOW = pytest.mark.parametrize("how", ["browser", "program"])


@HOW
async def test_all_who_have_a_deleted_document_open_go_on_together(
    start: Start, disk: Disk, how: str
) -> None:
    a, b = await start("a"), await start("b")
    delete(disk, how, a, b)
    for server in (a, b):
        await until(lambda server=server: told(server, DELETED), what="what is told")
    a.write(" of a")
    b.write(" of b")
    await until(same(a, b), what="one document")
    await until(lambda: " of a" in b.text and " of b" in a.text, what="both edits")
    await holds(lambda: disk.gone and not disk.written, seconds=0.5, what="no file")
    assert len(told(a, "")) == len(told(b, "")) == 1, "it is told once"


@HOW
@pytest.mark.parametrize("asks", ["saver", "other"])
async def test_a_deleted_document_is_saved_where_somebody_asks(
    start: Start, disk: Disk, how: str, asks: str
) -> None:
    a, b = await start("a"), await start("b")
    delete(disk, how, a, b)
    a.write(" of a")
    await until(same(a, b), what="one document")
    await (a if asks == "saver" else b).link.save_requests.save_now()
    assert not disk.gone
    assert disk.content == "text of a"
    for server in (a, b):
        server.link.saver.returned()
        await until(lambda server=server: server.link.saver._gone_from is None, what="it is there")
    b.write(" of b")
    await until(lambda: disk.content == "text of a of b", what="the next save, by itself")
    assert not disk.copies


async def test_a_file_that_is_back_and_cannot_be_read_is_no_reason_to_read_the_log_again(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has put back one that is only for themselves."""
    a = await start("a")
    delete(disk, "browser", a)
    looked = 0

    async def private(self: File) -> Any:
        nonlocal looked
        looked += 1
        raise PermissionError("Permission denied")

    with monkeypatch.context() as patch:
        disk.gone = False
        patch.setattr(File, "stat", private)
        a.link.saver.returned()
        await until(lambda: looked, what="a look at the file")
        await until(lambda: a.link.saver._gone_from is None, what="it is there")
    assert "something went wrong" not in caplog.text
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")


async def test_a_file_that_nobody_has_missed_yet_is_not_made_anew(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    disk.gone = True
    b.write("!")
    await until(lambda: told(a, DELETED), what="what is told")
    await holds(lambda: disk.gone and not disk.written, seconds=0.3, what="no file")
    await b.link.save_requests.save_now()
    assert disk.content == "text!"


async def test_a_file_that_is_renamed_while_somebody_saves_is_not_made_anew(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savers, "GONE_S", 0.3)
    write = File.write
    over_what: list[Any] = []

    async def written(self: File, content: Any, over: Any) -> Any:
        over_what.append(over)
        return await write(self, content, over)

    monkeypatch.setattr(File, "write", written)
    a = await start("a")
    a.write(" of a")
    disk.gone = True
    saving = asyncio.create_task(a.link.save_requests.save_now())
    await until(lambda: a.link.saver._gone_from is not None, what="that it is missed")
    disk.gone = False  # at its new path
    await saving
    assert disk.content == "text of a"
    assert None not in over_what


async def test_a_deleted_document_gives_way_to_another_one(start: Start, disk: Disk) -> None:
    """Which a browser has made at its old path."""
    a, b = await start("a"), await start("b")
    delete(disk, "browser", a, b)
    a.write(" of a")
    disk.gone, disk.content = False, "another document"
    for server in (a, b):
        await server.link.saver.place_taken()
        await server.link.saver.file_changed()
        with pytest.raises(SaveFailed, match="another file is at its place"):
            await server.link.save_requests.save_now()
        await until(lambda server=server: told(server, "Save As"), what="what is told")
    await until(same(a, b), what="one document")
    assert a.text == "text of a"
    assert disk.content == "another document"
    assert not disk.written


async def test_a_deleted_document_that_is_saved_by_another_way_is_there_again(
    start: Start, disk: Disk
) -> None:
    """JupyterLab sends the whole file where it has lost the room."""
    a = await start("a")
    delete(disk, "browser", a)
    a.write("!")
    disk.gone, disk.content = False, "text!"
    await a.link.saver.place_taken()
    await until(lambda: not a.link.saver.file_deleted, what="the document at its path")
    a.write("!")
    await until(lambda: disk.content == "text!!", what="the next save")
    assert not disk.copies
    assert not told(a, "another file")


async def test_a_document_whose_place_is_another_ones_does_not_take_it(
    start: Start, disk: Disk
) -> None:
    a = await start("a")
    delete(disk, "browser", a)
    disk.taken = "another document is there"
    with pytest.raises(SaveFailed, match="another document is there"):
        await a.link.save_requests.save_now()
    assert disk.gone


async def test_a_file_that_another_program_makes_anew_is_a_change(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    delete(disk, "program", a, b)
    b.write(" of b")
    await until(same(a, b), what="one document")
    disk.gone, disk.content = False, "other text"
    for server in (a, b):
        server.link.saver.file_there()
    await until(lambda: a.text == b.text == "other text of b", what="both changes")
    await until(lambda: disk.content == "other text of b", what="the next save")
    assert disk.copies == ["text of b"]


async def test_a_file_that_is_gone_for_a_moment_is_not_told_of(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savers, "GONE_S", 0.3)
    a = await start("a")
    delete(disk, "program", a)
    disk.gone = False
    a.link.saver.file_there()
    await holds(lambda: not a.told, seconds=0.5, what="nothing told")
    a.write("!")
    await until(lambda: disk.content == "text!", what="the next save")


@pytest.mark.parametrize(
    ("problem", "told"),
    [("No space left on device", "No space left on device"), (TimeoutError(), "TimeoutError")],
    ids=["an error that says why", "one that says nothing"],
)
async def test_why_a_document_is_not_saved_is_told_on_every_server(
    start: Start, disk: Disk, problem: str | Exception, told: str
) -> None:
    a, b = await start("a"), await start("b")
    disk.problem = problem
    b.write("!")
    message = f"The document could not be saved: {told}"
    for server in (a, b):
        await until(
            lambda server=server: ("ERROR", message) in server.told, what="why it is not saved"
        )
    disk.problem = ""
    for server in (a, b):
        await until(
            lambda server=server: ("INFO", "Content saved.") in server.told, what="that it is"
        )
    assert disk.content == "text!"


async def test_whoever_asks_is_told_why_each_time(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = b.link.saver._delay_s = None
    disk.problem = "No space left on device"
    b.write("!")
    for times in (1, 2):
        with pytest.raises(SaveFailed):
            await b.link.save_requests.save_now()
        assert len(told(b, "No space left")) == times
        b.link._teller._shown.clear()
    await until(lambda: len(told(a, "No space left")) == 1, what="what the others are told, once")


@pytest.mark.parametrize(
    "details",
    [
        {"level": "CRITICAL", "message": "boo"},
        {"level": "ERROR", "message": 3},
        {"level": ["ERROR"], "message": "boo"},
        {},
    ],
)
async def test_what_no_server_tells_is_not_shown(
    start: Start, hub: MemoryHub, details: dict[str, Any]
) -> None:
    a = await start("a")
    a.link._on_message(Notice("forger", "told", details).encode())
    assert not a.told


async def test_what_others_tell_has_a_bound(start: Start) -> None:
    a = await start("a")
    for number in range(telling.HEARD_MAX * 3):
        details = {"level": "ERROR", "message": f"{number}" + "x" * 10_000}
        a.link._on_message(Notice("forger", "told", details).encode())
    assert len(a.told) == telling.HEARD_MAX
    assert max(len(message) for _, message in a.told) == telling.MESSAGE_MAX


@pytest.mark.parametrize("names", [1, telling.HEARD_FROM_MAX * 3])
@pytest.mark.parametrize("level", telling.LEVELS)
async def test_nobody_silences_the_savers_errors(start: Start, names: int, level: str) -> None:
    """Whoever writes to the channel can say anything, in any name but that one."""
    a, b = await start("a"), await start("b")
    for number in range(telling.HEARD_MAX * 3):
        details = {"level": level, "message": f"noise {number}"}
        b.link._on_message(Notice(f"forger {number % names}", "told", details).encode())
    assert len(b.told) <= telling.HEARD_MAX * telling.HEARD_FROM_MAX
    a.link.saver.failed(OSError("No space left on device"))
    await until(lambda: told(b, "No space left on device"), what="the error")


async def test_a_server_that_says_much_can_still_tell_of_an_error(start: Start) -> None:
    a = await start("a")
    for number in range(telling.HEARD_MAX * 3):
        details = {"level": "INFO", "message": f"{number}"}
        a.link._on_message(Notice("b", "told", details).encode())
    a.link._on_message(Notice("b", "told", {"level": "ERROR", "message": "it failed"}).encode())
    assert ("ERROR", "it failed") in a.told


async def test_what_is_not_saved_yet_is_saved_when_the_file_was_away_for_a_moment(
    start: Start, disk: Disk
) -> None:
    """In an outage, nothing but the file holds it once the server stops."""
    a = await start("a")
    a.transport.disconnect()
    disk.gone = True
    a.write(" of a")
    await until(lambda: a.link.saver._gone_from is not None, what="a save that misses the file")
    disk.gone = False
    await a.link.aclose()
    assert disk.content == "text of a"


async def test_a_deleted_file_is_not_made_anew_when_its_room_is_closed(
    start: Start, disk: Disk
) -> None:
    a = await start("a")
    delete(disk, "program", a)
    a.write(" of a")
    await a.link.aclose()
    assert disk.gone
    assert not disk.written


async def test_a_deleted_documents_log_that_lacks_something_gives_way_to_a_copy(
    start: Start, disk: Disk
) -> None:
    a = await start("a")
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    delete(disk, "browser", a)
    await a.link.content.abandon((a.document.ydoc.get_update(),))
    assert disk.copies == ["text of a"]


async def test_a_deleted_documents_log_is_not_kept_for_long(
    start: Start, disk: Disk, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start("a"), await start("b")
    expired: list[tuple[str, float]] = []

    async def expire(scope: Any, log: str, after_s: float, **_: Any) -> None:
        assert scope == ROOM
        expired.append((log, after_s))

    for server in (a, b):
        monkeypatch.setattr(server.transport, "expire_room", expire)
    delete(disk, "browser", a, b)
    b.write(" of b")
    await until(same(a, b), what="one document")
    assert not expired, "while it is open"
    await a.link.aclose()
    assert expired == [(hub.rooms[ROOM].log, savers.DELETED_KEEP_S)]
