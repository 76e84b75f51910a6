"""A member of the share announces entries at offsets that the log does not have."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count

import pytest
from support.waiting import until

from jupyter_teleportal.core.crdt import EMPTY_UPDATE
from jupyter_teleportal.core.envelopes import EntryEnvelope, encode_payload
from jupyter_teleportal.core.values import ZERO_OFFSET, LogRead, Scope
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, Disk, Server, Start

_numbers = count(1)


async def forge(server: Server) -> None:
    """Announce an entry that follows on where `server` is, far ahead, and then one that follows on
    the beginning: as if the log had lost what `server` has."""
    log, here = server.link.replicator.log, server.link.replicator.offset
    assert log is not None
    for previous in (here, ZERO_OFFSET):
        offset = f"{10**14 + next(_numbers)}-0"
        envelope = EntryEnvelope("evil.1", log, previous, offset, encode_payload(EMPTY_UPDATE))
        await server.transport.publish(ROOM, envelope.encode())


async def test_the_whole_log_is_not_read_again_and_again(
    start: Start, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start("a"), await start("b")
    a.write(" of a")
    await until(lambda: b.text == "text of a", what="the edit")
    whole: Counter[bool] = Counter()
    read = MemorySyncTransport.read_log

    async def counted(
        self: MemorySyncTransport, scope: Scope, log: str | None, after: str
    ) -> LogRead:
        found = await read(self, scope, log, after)
        whole[not found.contiguous] += 1
        return found

    monkeypatch.setattr(MemorySyncTransport, "read_log", counted)
    hub.bulk_s = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (took := loop.time() - began) < 3:
        await forge(b)
        await asyncio.sleep(0.01)
    # Both read it a few times at once, and then no more than a fifth of the time.
    assert 2 <= whole[True] <= 2 * (4 + 0.2 * took / hub.bulk_s)
    a.write(" and again")
    await until(lambda: b.text == "text of a and again", what="the next edit")


async def test_after_an_outage_nothing_is_put_off(start: Start, hub: MemoryHub) -> None:
    a, b = await start("a"), await start("b")
    now = asyncio.get_running_loop().time()
    for _ in range(5):
        b.link.effects._retries.took(now - 10, now)
    copied = hub.copy()
    a.write(" of a")
    await until(lambda: b.text == "text of a", what="the edit")
    b.transport.disconnect()
    hub.roll_back(copied)
    a.write(" and again")
    b.transport.reconnect()
    await until(lambda: b.text == "text of a and again", timeout=5, what="the next edit")


async def test_it_is_no_loss_that_makes_saves_out_of_date(
    start: Start, disk: Disk, hub: MemoryHub
) -> None:
    a = await start("a")
    await until(lambda: a.saves, what="a saver")
    a.write(" of a")
    await until(lambda: disk.content == "text of a", what="the save")
    await until(lambda: not a.link.reconciler.unnoted, what="the note of it")
    await forge(a)

    async def told() -> bool:
        return "lost" in await a.transport.read_map(ROOM, "saved")

    await until(told, what="that entries seem lost")
    await until(lambda: a.link.replicator.settled, what="the log")
    disk.content = "text of a, from outside"
    await a.link.saver.file_changed()
    assert a.text == "text of a, from outside"
    assert not disk.copies
