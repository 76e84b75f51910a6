"""What a room leaves in the transport has bounds, and takes nothing that is another's."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter
from typing import Any

import pytest
from pycrdt import Doc
from support.redis_server import RedisServer
from support.waiting import holds, until

from jupyter_teleportal.core.content import document_of, seed, without_undo
from jupyter_teleportal.core.envelopes import Notice, decode_payload
from jupyter_teleportal.core.errors import LogFull
from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.sync.room_link import RoomLink
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from jupyter_teleportal.transports.redis.transport import RedisSyncTransport
from rooms.sites import ROOM, Disk, Server, Start, same

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "id": "plot",
            "source": "plot()",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def plot(size: int, seed: int) -> dict[str, Any]:
    """An output of about `size` bytes that do not deflate to much less."""
    raw = random.Random(seed).randbytes(size * 3 // 4)
    return {
        "output_type": "display_data",
        "data": {"image/png": base64.b64encode(raw).decode()},
        "metadata": {},
    }


def run(document: Any, output: dict[str, Any]) -> None:
    """What a client does when a cell is run again: the outputs are replaced."""
    outputs = document.ycells[0]["outputs"]
    with document.ydoc.transaction():
        outputs.clear()
        outputs.append(output)


def write(document: Any, text: str) -> None:
    """What a client does when somebody types at the end of the cell."""
    source = document.ycells[0]["source"]
    source += text


@pytest.fixture
def disk() -> Disk:
    return Disk(NOTEBOOK)


async def test_neither_document_nor_checkpoint_keeps_what_was_deleted(
    start: Start, hub: MemoryHub
) -> None:
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    for number in range(20):
        run(a.document, plot(50_000, number))
    await until(same(a, b), what="the last plot on b")
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.link.checkpoints.write()
    checkpoint = hub.rooms[ROOM].checkpoint
    assert checkpoint is not None
    assert document_of("notebook", decode_payload(checkpoint)).get() == b.document.get()
    for server in (a, b):
        assert len(server.document.ydoc.get_update()) < 100_000
    assert len(decode_payload(checkpoint)) < 100_000


async def test_a_client_that_was_away_reads_on_from_a_checkpoint_without_what_was_deleted(
    start: Start, hub: MemoryHub
) -> None:
    """What it has seen, and what it has written meanwhile, both go on."""
    a = await start("a", file_type="notebook")
    run(a.document, plot(1000, 0))
    tab: Doc[Any] = Doc()
    tab.apply_update(a.document.ydoc.get_update())
    behind = document_of("notebook", tab.get_update())
    for number in range(3):
        run(a.document, plot(1000, 1 + number))
    source = behind.ycells[0]["source"]
    source += "  # from the tab"
    behind.ycells[0]["outputs"].append(plot(1000, 9))
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.link.checkpoints.write()
    checkpoint = hub.rooms[ROOM].checkpoint
    assert checkpoint is not None
    fresh = document_of("notebook", decode_payload(checkpoint))
    written = behind.ydoc.get_update(fresh.ydoc.get_state())
    behind.ydoc.apply_update(fresh.ydoc.get_update(behind.ydoc.get_state()))
    for document in (fresh, a.document):
        document.ydoc.apply_update(written)
        assert document.get() == behind.get()
    assert behind.get()["cells"][0]["source"].endswith("from the tab")


@pytest.mark.parametrize("size", [150_000, 750_000, 1_500_000])
async def test_what_is_large_makes_a_checkpoint_due_by_its_size(
    redis_server: RedisServer, size: int
) -> None:
    timing = Timing(heartbeat_interval_s=0.1, dead_after_s=1, lease_ttl_s=1.5)
    transport = RedisSyncTransport(url=redis_server.url)
    replica = Replica(transport, timing=timing)
    document = document_of("notebook", seed("notebook", NOTEBOOK).update)
    await replica.start()
    link = RoomLink(replica, ROOM, document.ydoc)
    await link.open()
    try:
        written = 0
        while written < timing.checkpoint_bytes:
            assert not link.compactor.due
            before = await transport.log_size(ROOM, link.replicator.log or "")
            run(document, plot(size, written))
            await until(lambda: link.replicator.settled, what="the log")
            after = await transport.log_size(ROOM, link.replicator.log or "")
            written += after.payload_bytes - before.payload_bytes

        async def is_there() -> bool:
            return (await transport.log_size(ROOM, link.replicator.log or "")).other_bytes > 0

        await until(is_there, what="a checkpoint")
    finally:
        await link.aclose()
        await replica.aclose()


async def test_a_plot_that_is_run_again_and_again_does_not_fill_redis(
    redis_server: RedisServer,
) -> None:
    """141 runs of one cell with a plot of 0.75 MB were 111 MB, and stayed there for a week."""
    timing = Timing(heartbeat_interval_s=0.1, dead_after_s=1, lease_ttl_s=1.5)
    transport = RedisSyncTransport(url=redis_server.url)
    replica = Replica(transport, timing=timing)
    document = document_of("notebook", seed("notebook", NOTEBOOK).update)
    without_undo(document)
    await replica.start()
    link = RoomLink(replica, ROOM, document.ydoc)
    await link.open()
    try:
        for number in range(141):
            run(document, plot(750_000, number))
            await until(lambda: link.replicator.settled, what="the log")
        log = link.replicator.log
        assert log is not None

        async def within_bounds() -> bool:
            size = await transport.log_size(ROOM, log)
            return size.bytes < timing.history_max_bytes + 4_000_000

        await until(within_bounds, what="a checkpoint")
        await link.checkpoints.write()
        assert (await transport.log_size(ROOM, log)).other_bytes < 2_000_000
    finally:
        await link.aclose()
        await replica.aclose()
    with redis_server.cli() as client:
        used = sum(client.memory_usage(key, samples=0) for key in client.keys("*"))
    assert used < 1.3 * timing.history_max_bytes + 4_000_000


async def test_a_checkpoint_reads_no_whole_history(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a", file_type="notebook", history_max_bytes=2_000_000)
    read: list[int] = []
    read_history = MemorySyncTransport.read_history

    async def noted(self: MemorySyncTransport, *arguments: Any, **keywords: Any) -> Any:
        history = await read_history(self, *arguments, **keywords)
        read.append(sum(len(entry.payload) for entry in history.entries))
        return history

    monkeypatch.setattr(MemorySyncTransport, "read_history", noted)
    sent = 0
    for number in range(60):
        output = plot(200_000, number)
        sent += 150_000  # as it is deflated
        run(a.document, output)
        await until(lambda: a.link.replicator.settled, what="the log")
        await a.link.checkpoints.write()
    # Each byte once, when it is forgotten.
    assert sum(read) < 2 * sent
    size = await a.transport.log_size(ROOM, a.link.replicator.log or "")
    assert size.payload_bytes <= 2_000_000


async def test_a_large_entry_of_this_server_counts_with_its_size(
    start: Start, hub: MemoryHub
) -> None:
    a = await start("a", file_type="notebook", checkpoint_bytes=2_000_000)
    for number in range(2):
        run(a.document, plot(2_000_000, number))
        await until(lambda: a.link.replicator.settled, what="the log")
    await until(lambda: hub.rooms[ROOM].checkpoint, what="a checkpoint")


async def test_many_who_ask_for_what_is_lost_are_served_together(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    _a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    calls: Counter[str] = Counter()
    answers = 0
    for name in ("read_log", "compact_log"):
        original = getattr(MemorySyncTransport, name)

        def counted(self: Any, *arguments: Any, name: str = name, original: Any = original) -> Any:
            calls[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(MemorySyncTransport, name, counted)

    def heard(name: str, replica: str) -> None:
        nonlocal answers
        answers += name == "holding"

    monkeypatch.setattr(b.link.peers, "noticed", heard)
    for _ in range(100):
        b.link.publish(Notice(b.replica.id, "incomplete", {}))
    await until(lambda: answers, what="an answer")
    await holds(lambda: True, seconds=1.2)
    assert calls["read_log"] <= 4
    assert calls["compact_log"] == 1
    # Who asks for seconds hears that the document is held all the time.
    answers = 0
    for _ in range(4):
        b.link.publish(Notice(b.replica.id, "incomplete", {}))
        await asyncio.sleep(0.5)
    assert answers >= 3


async def test_a_full_log_forgets_its_history_before_it_refuses_anything(
    start: Start, hub: MemoryHub
) -> None:
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    hub.log_max_bytes = 1_200_000
    for number in range(20):
        run(a.document, plot(50_000, number))
        await until(same(a, b), what="the plot on b")
    await until(lambda: a.link.replicator.settled, what="the log")
    room = hub.rooms[ROOM]
    assert room.checkpoint is not None
    assert room.payload_bytes + room.other_bytes < 1_200_000
    assert not a.link.refused
    assert [told for told in a.told + b.told if told[0] != "INFO"] == [], "nobody need know"


def reasons(*servers: Server) -> list[str]:
    return [server.link.refused for server in servers]


async def test_a_document_that_is_too_large_is_saved_all_the_same_and_shared_when_it_fits(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    servers = a, b, c = [await start(name, file_type="notebook") for name in "abc"]
    hub.log_max_bytes = 300_000
    output = plot(300_000, 1)
    run(a.document, output)
    write(a.document, " # of a")
    await until(lambda: disk.content["cells"][0]["outputs"] == [output], what="the file")
    await until(lambda: "may take" in a.link.refused, what="the refusal")
    assert any("may take" in complaint.message for complaint in a.replica.complaints.values())
    # The others go on, with each other.
    write(b.document, " # of b")
    await until(same(b, c), what="the edit of b on c")
    assert reasons(b, c) == ["", ""]
    # The author makes it smaller, and everybody has what both have written.
    run(a.document, plot(1000, 2))
    await until(same(*servers), 15, what="everybody has all")
    assert sorted(str(a.document.ycells[0]["source"]).split(" # of ")) == ["a", "b", "plot()"]
    await until(lambda: reasons(*servers) == ["", "", ""], what="all is shared")
    await until(lambda: disk.content == a.document.get(), what="the file in the end")
    assert disk.copies == []


async def test_all_servers_at_the_bound_at_once_lose_nothing(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    servers = [await start(name, file_type="notebook") for name in "abc"]
    hub.log_max_bytes = 180_000
    for number, server in enumerate(servers):
        server.document.ycells[0]["outputs"].append(plot(100_000, number))
        write(server.document, f" # {number}")
    await until(lambda: all(reasons(*servers)), what="all are refused")
    await holds(lambda: all(reasons(*servers)), seconds=1)
    hub.log_max_bytes = 6_000_000
    await until(same(*servers), 15, what="everybody has all")
    assert len(servers[0].document.get()["cells"][0]["outputs"]) == 3
    assert all(f"# {number}" in str(servers[0].document.get()) for number in range(3))
    await until(lambda: disk.content == servers[0].document.get(), what="the file")


async def test_what_is_refused_for_long_costs_little(
    start: Start, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a", file_type="notebook")
    work = 0.0
    for name in ("append_log", "read_log"):
        original = getattr(MemorySyncTransport, name)

        async def slow(self: Any, *arguments: Any, original: Any = original) -> Any:
            nonlocal work
            await asyncio.sleep(0.1)
            work += 0.1
            return await original(self, *arguments)

        monkeypatch.setattr(MemorySyncTransport, name, slow)
    hub.log_max_bytes = 300_000
    run(a.document, plot(300_000, 1))
    await until(lambda: bool(a.link.refused), what="the refusal")
    await asyncio.sleep(1)  # the first attempts, at once
    work = 0.0
    await asyncio.sleep(4)
    assert work < 1.6
    hub.log_max_bytes = None
    await until(lambda: a.link.replicator.settled, what="the log")


async def test_a_share_at_its_bound_hinders_no_other(
    start: Start, hub: MemoryHub, disk: Disk
) -> None:
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    full = MemorySyncTransport(hub)
    await full.start()
    other = Scope("full", "room")
    hub.share_max_bytes = 200_000
    log = (await full.seed_log(other, "lineage", "x", bytes(199_000))).log
    with pytest.raises(LogFull):
        await full.append_log(other, log, "x", bytes(70_000))
    run(a.document, plot(100_000, 1))
    await until(same(a, b), what="the plot on b")
    # In a share that is full, what is small goes on.
    hub.share_max_bytes = 160_000
    run(a.document, plot(150_000, 2))
    await until(lambda: bool(a.link.refused), what="the refusal")
    write(b.document, " # of b")
    await until(lambda: "of b" in str(a.document.get()), what="the edit on a")
    hub.share_max_bytes = None
    await until(same(a, b), what="all on b")
