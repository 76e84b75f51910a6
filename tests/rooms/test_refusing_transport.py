"""A transport that can be reached and refuses is one that is away: the document is saved."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.errors import SaveFailed
from jupyter_teleportal.core.values import LogRead
from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, Disk, File, Server, Start, same

RIGHTS = ("hold_lease", "seed_log", "append_log", "read_log", "read_map", "write_map", "mark_saved")


def refuse(hub: MemoryHub, *servers: Server, how: str) -> None:
    if how == "full":
        hub.full = True
    elif how == "read-only":
        hub.read_only = True
    elif how == "a key of another kind":
        hub.wrong_type.add((ROOM, "checkpoint"))
    elif how == "no right":
        for server in servers:
            server.transport.forbidden |= {(right, "share") for right in RIGHTS}


def cure(hub: MemoryHub, *servers: Server) -> None:
    hub.full = hub.read_only = False
    hub.wrong_type.clear()
    for server in servers:
        server.transport.forbidden.clear()


async def opened_while_refused(start: Start, hub: MemoryHub, how: str) -> Server:
    server = await start("a", opened=False)
    refuse(hub, server, how=how)
    await server.link.open()
    return server


async def saver_and_another(start: Start) -> tuple[Server, Server]:
    """Two servers that share the document, of which the first one is the saver."""
    saver = await start("a")
    await until(lambda: saver.saves, what="the saver")
    return saver, await start("b")


HOW = ["full", "read-only", "a key of another kind", "no right"]


def warnings(server: Server) -> list[str]:
    return [message for level, message in server.told if level == "WARNING"]


@pytest.mark.parametrize("how", HOW)
async def test_a_document_that_is_opened_then_is_saved(
    start: Start, hub: MemoryHub, disk: Disk, how: str
) -> None:
    a = await opened_while_refused(start, hub, how)
    a.write(" alone")
    await until(lambda: disk.content == "text alone", what="the save")
    assert not a.link.shared
    await until(lambda: len(warnings(a)) == 1, what="whoever types is told")
    assert a.link.refused in warnings(a)[0]
    assert "saved from here" in warnings(a)[0]
    # What is refused is told one by one, and the last is in the complaint.
    await until(
        lambda: (
            a.link.refused
            and any(a.link.refused in c.message for c in a.replica.complaints.values())
        ),
        what="the complaint",
    )
    cure(hub, a)
    await until(lambda: a.link.shared and a.saves, what="sharing, by itself")
    b = await start("b")
    await until(same(a, b), what="one document")
    b.write(" together")
    await until(lambda: disk.content == "text alone together", what="the save of both")
    assert not disk.copies
    assert disk.note is None
    assert not a.replica.complaints
    assert a.told[-1] != ("WARNING", warnings(a)[0])


@pytest.mark.parametrize("how", HOW)
async def test_ctrl_s_and_sigterm_save_it(
    start: Start, hub: MemoryHub, disk: Disk, how: str
) -> None:
    a = await opened_while_refused(start, hub, how)
    a.link._awareness.set_local_state({"autosave": False})
    a.write(" asked for")
    await a.link.save_requests.save_now()
    assert disk.content == "text asked for"
    a.link._awareness.set_local_state({"autosave": True})
    a.link.saver._schedule.delay_s = 60
    a.write(" and stopped")
    await a.link.aclose()
    assert disk.content == "text asked for and stopped"


@pytest.mark.parametrize("how", HOW)
async def test_two_that_open_it_then_do_not_write_over_each_other(
    start: Start, hub: MemoryHub, disk: Disk, how: str
) -> None:
    a, b = await start("a", opened=False), await start("b", opened=False)
    refuse(hub, a, b, how=how)
    await asyncio.wait_for(a.link.open(), 3)
    await asyncio.wait_for(b.link.open(), 3)
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save of one")
    await b.link.saver.file_changed()
    b.write(" of b")
    await holds(lambda: disk.content == "text of a", seconds=1.5, what="the file of a")
    with pytest.raises(SaveFailed, match="stays on this server"):
        await b.link.save_requests.save_now()
    cure(hub, a, b)
    await until(lambda: a.link.replicator.settled and b.link.replicator.settled, what="the log")
    await until(same(a, b), what="one document")
    assert a.text.count("of a") == a.text.count("of b") == a.text.count("text") == 1
    await until(lambda: disk.content == a.text, what="the file")
    assert not disk.copies


@pytest.mark.parametrize("how", HOW)
async def test_the_last_saver_goes_on(start: Start, hub: MemoryHub, disk: Disk, how: str) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves != b.saves, what="the saver")
    saver, other = (a, b) if a.saves else (b, a)
    refuse(hub, a, b, how=how)
    saver.write(" of the saver")
    other.write(" of the other")
    await until(lambda: disk.content == "text of the saver", what="the save")
    await until(lambda: not other.link.shared and not saver.link.shared, what="both know")
    with pytest.raises(SaveFailed, match="another server saves"):
        await other.link.save_requests.save_now()
    await holds(lambda: disk.content == "text of the saver", seconds=1.5, what="the file")
    assert "not saved from here" in warnings(other)[0]
    cure(hub, a, b)
    await until(lambda: a.link.shared and b.link.shared, what="sharing, by itself")
    await until(same(a, b), what="one document")
    assert a.text.count("of the saver") == a.text.count("of the other") == 1
    await until(lambda: disk.content == a.text, what="the file")
    assert not disk.copies


async def test_a_dead_savers_successor_saves_although_no_lease_can_be_had(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a, b = await saver_and_another(start)
    hub.full = True
    b.write(" of b")
    await until(lambda: not b.link.shared, what="the refusal")
    await holds(lambda: disk.content == "text", seconds=0.5, what="a is the saver")
    await a.die()
    await until(lambda: disk.content == "text of b", what="the successor's save")


async def test_one_without_rights_gives_way_to_one_that_has_them(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a, b = await saver_and_another(start)
    a.transport.forbidden.add(("append_log", "share"))
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    b.write(" of b")
    await until(lambda: b.saves and not a.saves, what="the saver who can share")
    await until(
        lambda: all(part in str(disk.content) for part in (" of a", " of b")), what="both edits"
    )
    cure(hub, a)
    await until(lambda: a.link.shared, what="sharing, by itself")
    await until(same(a, b), what="one document")
    assert a.text.count("of a") == a.text.count("of b") == 1
    assert not disk.copies


async def test_it_gives_way_whenever_it_learns_that_others_may_write(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    """Here by the log that it reads again and again, and not by where that ends."""
    a, b = await saver_and_another(start)
    a.transport.forbidden.add(("append_log", "share"))
    read_log = a.transport.read_log

    async def read(*arguments: Any) -> LogRead:
        if " of b" not in b.text:
            b.write(" of b")
            assert await b.link.flush(5)
        return await read_log(*arguments)

    a.transport.read_log = read  # type: ignore[method-assign]
    a.write(" of a")
    await until(lambda: b.saves and not a.saves, what="the saver who can share")


async def test_what_is_refused_once_is_tried_again_with_the_next_heartbeat(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="the saver")
    for round in range(3):
        hub.full = True
        a.write(f" {round}")
        await until(lambda: not a.link.shared, what="the refusal")
        await until(lambda: disk.content == a.text, what="the save")
        hub.full = False
        await until(lambda: a.link.shared and a.saves, timeout=2, what="sharing, by itself")
    told = [message for _, message in a.told if "Redis" in message]
    assert len(told) == 6, "its begin and its end, once each"
    assert not disk.copies


async def test_nobody_is_told_twice_while_it_lasts(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="the saver")
    hub.full = True
    for number in range(5):
        a.write(f" {number}")
        await asyncio.sleep(0.3)
    assert len(warnings(a)) == 1


async def test_a_closed_document_with_a_log_is_saved_when_it_is_opened_then(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    """Its file is what was saved last, which can be read although nothing can be written."""
    a = await start("a")
    a.write(" saved")
    await until(lambda: disk.content == "text saved" and a.saves, what="the save")
    await a.link.aclose()
    hub.full = True
    b = await start("b")
    b.write(" later")
    await until(lambda: disk.content == "text saved later", what="the save")
    assert not disk.copies


async def test_nothing_is_written_over_what_could_not_be_kept_in_a_copy(
    start: Start, hub: MemoryHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log holds something older than the file, of which nobody has said anything."""
    a = await start("a")
    await until(lambda: a.saves and a.link.replicator.settled, what="the saver")
    await a.die()
    hub.maps.clear()
    disk.content = "newer than the log"

    async def keep_copy(self: File, content: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(File, "keep_copy", keep_copy)
    b = await start("b", opened=False)
    with contextlib.suppress(OSError):
        await b.link.open()
    b.write(" of b")
    await holds(lambda: disk.content == "newer than the log", seconds=2, what="the file")
