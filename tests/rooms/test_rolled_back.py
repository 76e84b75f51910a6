"""A failover to a Redis that lacks what it had acknowledged, and what was noted of the file."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from support.waiting import until

from jupyter_teleportal.core.log_effects import Phase
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, Disk, Server, Start


async def _saved(server: Server, disk: Disk, text: str) -> None:
    """Wait until the file holds `text`, and that is noted."""

    async def noted() -> bool:
        record = await server.transport.read_map(ROOM, "saved")
        return record.get("hash") == disk.state().hash

    await until(lambda: disk.content == text, what="the save")
    await until(noted, what="the note of it")


async def _opened_and_saved(start: Start, disk: Disk) -> tuple[Server, Server]:
    """The document on two servers, of which the first one is the saver."""
    a, b = await start("a"), await start("b")
    await until(lambda: a.saves, what="a saver")
    await _saved(a, disk, "text")
    return a, b


async def _rolled_back(start: Start, disk: Disk, hub: MemoryHub, *, unsaved: str = "") -> Server:
    """The hub forgets what `a` wrote and saved, and what is `unsaved`, and `a` is gone; return the
    server that holds it."""
    a, b = await _opened_and_saved(start, disk)
    copied = hub.copy()
    a.write(" of a")
    await _saved(a, disk, "text of a")
    await until(lambda: b.text == "text of a", what="the edit")
    await a.die()
    b.write(unsaved)
    await until(lambda: b.link.replicator.settled, what="the log")
    hub.roll_back(copied)
    return b


def _blames_another_program(server: Server) -> bool:
    return any("another program" in message for _, message in server.told)


async def _saved_after_that(start: Start, disk: Disk, hub: MemoryHub) -> Server:
    b = await _rolled_back(start, disk, hub)
    b.write(" and b")
    await _saved(b, disk, "text of a and b")
    return b


async def test_what_a_forgotten_save_holds_is_no_change_by_another_program(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    b = await _saved_after_that(start, disk, hub)
    assert b.text == "text of a and b"
    assert not _blames_another_program(b)
    # Nobody can know who wrote it.
    assert disk.copies in ([], ["text of a"])


async def test_a_successor_waits_until_what_the_log_has_lost_is_put_back(
    start: Start, disk: Disk, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = MemorySyncTransport.append_log

    async def late(self: MemorySyncTransport, *arguments: Any) -> Any:
        await asyncio.sleep(hub.bulk_s)
        return await append(self, *arguments)

    monkeypatch.setattr(MemorySyncTransport, "append_log", late)
    b = await _rolled_back(start, disk, hub, unsaved=" and b")
    hub.bulk_s = 0.5
    hub.rooms[ROOM].held_until = 0.0
    await _saved(b, disk, "text of a and b")
    assert b.text == "text of a and b"
    assert not _blames_another_program(b)


async def test_catching_up_lasts_until_a_log_that_has_lost_something_is_read(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    b = await _rolled_back(start, disk, hub, unsaved=" and b")
    hub.bulk_s = 0.3
    catching_up = asyncio.create_task(b.link.catch_up(3))
    await until(lambda: b.link.replicator.phase is Phase.JOINING, what="the loss")
    await catching_up
    assert b.link.replicator.phase is Phase.LIVE


async def test_whoever_has_never_had_it_hears_of_it(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    b = await _rolled_back(start, disk, hub)
    b.link.lease_keeper._hold_off_until = math.inf
    b.write(" and b")

    async def told() -> bool:
        return "lost" in await b.transport.read_map(ROOM, "saved")

    await until(told, what="that entries are lost")
    c = await start("c")
    await until(lambda: c.saves, what="the successor")
    await _saved(c, disk, "text of a and b")
    assert b.text == c.text == "text of a and b"
    assert not _blames_another_program(c)


async def test_a_change_after_the_next_save_is_taken_over(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    b = await _saved_after_that(start, disk, hub)
    await until(lambda: not b.link.reconciler.unnoted, what="the note of the save")
    before = list(disk.copies)
    disk.content = "text of a and b, from outside"
    await b.link.saver.file_changed()
    assert b.text == "text of a and b, from outside"
    assert disk.copies == before


@pytest.mark.parametrize("values", [{"lost": "x"}, {"offset": "-"}, {"lost": "", "offset": "1"}])
async def test_what_is_said_of_it_may_be_nonsense(
    start: Start, disk: Disk, values: dict[str, Any]
) -> None:
    a, b = await _opened_and_saved(start, disk)
    await a.transport.write_map(ROOM, "saved", values)
    await a.die()
    disk.content = "text from outside"
    await until(lambda: b.saves and b.text == "text from outside", what="the successor")
