"""Documents with files: several replicas in one process, on a memory hub and files in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.content import apply_content, digest
from jupyter_teleportal.core.document_file import FileState
from jupyter_teleportal.core.errors import SaveFailed
from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, TIMING, Disk, File, Start, same


async def test_one_server_saves_what_both_write(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    assert [a.saves, b.saves] == [True, False]
    a.write(" of a")
    await until(same(a, b), what="a's edit")
    b.write(" and b")
    await until(lambda: disk.content == "text of a and b", what="the file")
    assert set(disk.written) == {"a"}


async def test_opening_does_not_write_the_file(start: Start, disk: Disk) -> None:
    servers = [await start(name) for name in "abc"]
    await holds(lambda: not disk.written, seconds=0.5, what="the file untouched")
    assert all(server.text == "text" for server in servers)
    assert all(server.link.saver.last_save is None for server in servers)


async def test_save_request_of_a_follower_is_answered(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = None
    b.write("!")
    await b.link.save_requests.save_now()
    assert disk.content == "text!"
    assert disk.written == ["a"]


async def test_failed_save_is_told_to_whoever_asked(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: File, content: Any, over: FileState) -> FileState:
        raise OSError("the disk is full")

    monkeypatch.setattr(File, "write", refuse)
    a, b = await start("a"), await start("b")
    b.write("!")
    with pytest.raises(SaveFailed, match="the disk is full"):
        await b.link.save_requests.save_now()
    problem = ("ERROR", "The document could not be saved: the disk is full")
    for server in (a, b):
        await until(lambda server=server: problem in server.told, what="a word to its users")


async def test_successor_saves_what_the_dead_saver_has_not(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = None
    a.write(" unsaved")
    await until(same(a, b), what="a's edit")
    await a.die()
    await until(lambda: b.saves, what="the successor")
    await until(lambda: disk.content == "text unsaved", what="the file")
    assert disk.written == ["b"]
    assert not disk.copies


async def test_successor_of_a_saver_that_died_after_writing(start: Start, disk: Disk) -> None:
    """It wrote the file but could not note it: that is no change from outside."""
    a, b = await start("a"), await start("b")
    a.write(" written")
    await a.link.saver._claim(digest(a.text), a.link.doc.get_state())
    await until(same(a, b), what="a's edit")
    disk.content = a.text
    a.write(" and more")
    await until(same(a, b), what="a's last edit")
    await a.die()
    await until(lambda: disk.content == "text written and more", what="the file")
    assert not disk.copies
    assert b.text == "text written and more"


@pytest.mark.parametrize(
    ("beside", "content"),
    [(True, "text wri"), (False, "text wri"), (False, ""), (False, "text of another program")],
)
async def test_successor_of_a_saver_that_died_while_writing(
    start: Start, disk: Disk, beside: bool, content: str
) -> None:
    """The file holds half of it, of which other programs know nothing."""
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = None
    a.write(" written")
    await a.link.saver._claim(digest(a.text), a.link.doc.get_state())
    await until(same(a, b), what="a's edit")
    disk.content = content
    disk.cut_off, disk.half = (a.text, False) if beside else (None, True)
    await a.die()
    await until(lambda: disk.content == "text written", what="the whole file")
    assert disk.copies == ([content] if "another" in content else [])
    assert b.text == "text written"


async def test_saver_that_gets_the_lease_again_knows_what_it_has_written(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the first save")
    a.transport.disconnect()
    a.write(" two")
    await until(lambda: disk.content == "text one two", what="a save during the outage")
    hub.rooms[ROOM].holder = None
    a.write(" three")
    a.transport.reconnect()
    await until(lambda: disk.content == "text one two three", what="a save after it")
    assert not disk.copies
    assert a.text == "text one two three"


async def test_last_saver_comes_first_after_an_outage(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    await until(lambda: b.link.lease.fence > 0, what="b's look at the lease")
    for server in (a, b):
        server.transport.disconnect()
    a.write(" of a")
    b.write(" of b")
    await until(lambda: disk.content == "text of a", what="the save of the last saver")
    await holds(lambda: set(disk.written) == {"a"}, seconds=TIMING.lease_ttl_s, what="one writer")
    b.transport.reconnect()
    a.transport.reconnect()
    await until(same(a, b), what="one document")
    await until(lambda: disk.content == a.text, what="the file")
    assert "of a" in a.text
    assert "of b" in a.text
    assert set(disk.written) == {"a"}
    assert not disk.copies


async def test_others_leave_the_lease_to_the_last_saver_for_a_while(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """It has saved during the outage, and is back a little later than the others."""
    a, b = await start("a"), await start("b")
    await until(lambda: b.link.lease.fence > 0, what="b's look at the lease")
    for server in (a, b):
        server.transport.disconnect()
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save of the last saver")
    await until(lambda: hub.clock() > hub.rooms[ROOM].held_until, what="the end of the lease")
    b.transport.reconnect()
    await holds(lambda: not b.saves, seconds=TIMING.lease_ttl_s / 2, what="the lease left alone")
    a.transport.reconnect()
    await until(lambda: a.saves, what="the last saver")
    await until(same(a, b), what="one document")
    assert set(disk.written) == {"a"}


async def test_whoever_has_lost_the_lease_does_not_write(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """It was frozen, and does not know yet that somebody else has become the saver."""
    a = await start("a", lease_ttl_s=30)
    await until(lambda: a.saves and a.link.reconciler.disk, what="the saver")
    a.link.saver._delay_s = None
    assert a.replica._beating is not None
    a.replica._beating.cancel()
    hub.rooms[ROOM].holder = "successor"
    a.write(" of a")
    assert a.saves
    with pytest.raises(SaveFailed, match="another server"):
        await a.link.saver.save()
    assert not disk.written


async def test_whoever_is_no_saver_after_all_does_not_take_over(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """What another program has changed is brought in by the saver, and by nobody else."""
    a = await start("a", lease_ttl_s=30)
    await until(lambda: a.saves and a.link.reconciler.disk, what="the saver")
    assert a.replica._beating is not None
    a.replica._beating.cancel()
    hub.rooms[ROOM].holder = "successor"
    disk.content = "text from outside"
    await a.link.saver.file_changed()
    assert a.text == "text"
    assert not disk.copies


async def test_a_successor_reads_the_log_to_its_end_before_it_looks_at_the_file(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    """It has heard nothing for a while and reads slowly, so it lacks what was saved meanwhile."""
    a, b = await start("a"), await start("b")
    assert b.replica._beating is not None
    b.replica._beating.cancel()
    hub.listeners[ROOM][:] = [pair for pair in hub.listeners[ROOM] if pair[0] is not b.transport]
    hub.bulk_s = 1
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    await until(lambda: not a.link.reconciler.unnoted, what="the note of it")
    await a.die()
    await until(lambda: hub.clock() > hub.rooms[ROOM].held_until, what="the end of the lease")
    assert b.text == "text"
    b.replica._beating = asyncio.create_task(b.replica._beat_for_ever())
    await until(lambda: b.saves and b.link.reconciler.disk, what="the successor")
    assert b.text == "text of a"
    assert not disk.copies
    assert not [message for level, message in b.told if "keep" in message or "kept" in message]


async def test_change_from_outside_with_nothing_unsaved(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    disk.content = "from outside"
    await a.link.saver.file_changed()
    await b.link.saver.file_changed()
    await until(lambda: a.text == b.text == "from outside", what="the change")
    assert not disk.copies
    for server in (a, b):
        await until(
            lambda server=server: [level for level, _ in server.told] == ["WARNING"],
            what="what is told on each server",
        )


async def test_change_from_outside_while_edits_are_unsaved(start: Start, disk: Disk) -> None:
    disk.content = "first line\nsecond line\n"
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = None
    b.write("third line\n")
    await until(same(a, b), what="b's edit")
    disk.content = "FIRST line\n2nd line\n"
    await a.link.saver.save()
    merged = "FIRST line\n2nd line\nthird line\n"
    await until(lambda: a.text == b.text == disk.content == merged, what="both changes")
    assert disk.copies == ["first line\nsecond line\nthird line\n"]


async def test_no_copy_is_kept_where_both_changes_stay_as_they_are(
    start: Start, disk: Disk
) -> None:
    disk.content = "first line\nsecond line\n"
    a, b = await start("a"), await start("b")
    a.link.saver._delay_s = None
    b.write("third line\n")
    await until(same(a, b), what="b's edit")
    disk.content = "FIRST line\nsecond line\n"
    await a.link.saver.save()
    merged = "FIRST line\nsecond line\nthird line\n"
    await until(lambda: a.text == b.text == disk.content == merged, what="both changes")
    assert not disk.copies


async def test_a_copy_is_kept_where_so_much_is_changed_that_lines_between_are_replaced(
    start: Start, disk: Disk
) -> None:
    """A formatter, say, has changed every fifth line."""
    lines = [f"line {number}\n" for number in range(5000)]
    disk.content = "".join(lines)
    a = await start("a")
    a.link.saver._delay_s = None
    mine = disk.content.replace("line 102\n", "line 102 is mine\n").replace("line 203\n", "")
    apply_content(a.document, mine)
    disk.content = "".join(line if n % 5 else f"LINE {n}\n" for n, line in enumerate(lines))
    await a.link.saver.save()
    assert disk.copies == [mine]


async def test_change_from_outside_while_nobody_has_it_open(start: Start, disk: Disk) -> None:
    a = await start("a")
    a.write(" saved")
    await until(lambda: disk.content == "text saved", what="the save")
    await until(lambda: not a.link.replicator.unacknowledged, what="everything noted")
    await a.link.aclose()
    disk.content = "changed meanwhile"
    b = await start("b")
    # It may get the lease only after it has opened.
    await until(lambda: b.text == "changed meanwhile", what="the change")
    assert not disk.copies


async def test_unsaved_edits_win_over_an_unchanged_file(start: Start, disk: Disk) -> None:
    a = await start("a")
    a.link.saver._delay_s = None
    a.write(" unsaved")
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.die()
    b = await start("b")
    assert b.text == "text unsaved"
    await until(lambda: disk.content == "text unsaved", what="the file")


@pytest.mark.parametrize("changed_between", [False, True])
async def test_opened_on_both_sides_of_an_outage(
    start: Start, disk: Disk, changed_between: bool
) -> None:
    """The same file gives the same lineage; another content another one, and then the histories
    must not be mixed."""
    a = await start("a", away=True)
    a.link.saver._delay_s = None
    if changed_between:
        disk.content = "text, changed"
    b = await start("b", away=True)
    assert (a.link.replicator.lineage == b.link.replicator.lineage) is not changed_between
    a.write(" of a")
    b.write(" of b")
    b.transport.reconnect()
    await until(lambda: b.link.replicator.settled, what="b's document in the log")
    a.transport.reconnect()
    await until(same(a, b), what="one document")
    await until(lambda: a.link.replicator.settled and b.link.replicator.settled, what="the log")
    for part in ("text", "of a", "of b"):
        assert a.text.count(part) == 1, a.text
    late = await start("late")
    assert late.text == a.text


async def test_notebooks_of_two_lineages(start: Start, disk: Disk) -> None:
    def notebook(*sources: str) -> dict[str, Any]:
        return {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [
                {
                    "id": f"cell-{number}",
                    "cell_type": "code",
                    "source": source,
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                }
                for number, source in enumerate(sources)
            ],
        }

    disk.content = notebook("one", "two")
    a = await start("a", away=True, file_type="notebook")
    a.link.saver._delay_s = None
    disk.content = notebook("one", "2")
    b = await start("b", away=True, file_type="notebook")
    for server, cell in ((a, 0), (b, 1)):
        source = server.document.ycells[cell]["source"]
        source += f" of {server.name}"
    b.transport.reconnect()
    await until(lambda: b.link.replicator.settled, what="b's document in the log")
    a.transport.reconnect()
    await until(same(a, b), what="one document")
    sources = [cell["source"] for cell in a.document.get()["cells"]]
    assert sources == ["one of a", "2 of b"]


async def test_closing_saves_and_hands_over(start: Start, disk: Disk) -> None:
    a, b = await start("a"), await start("b")
    a.write(" last words")
    await a.link.aclose()
    assert disk.content == "text last words"
    await until(lambda: b.saves, timeout=TIMING.lease_ttl_s / 2, what="the handover")
    b.write(" of b")
    await until(lambda: disk.content == "text last words of b", what="the successor's save")
    assert not disk.copies
