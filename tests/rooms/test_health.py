"""Health and status tell what is shared, and a start that failed is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from support.waiting import until

from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.jupyter import extension
from jupyter_teleportal.jupyter.extension import TeleportalExtension
from jupyter_teleportal.jupyter.file_ids import FileRegistry
from jupyter_teleportal.jupyter.status import describe, reason
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.base import TransportState
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms.sites import ROOM, TIMING, Server, Start

OTHERS_ID = "0d7e1f3c-6a52-4f0e-9c1b-8e0c5e1a7b55"
SHARES = Shares({"": "share"})


def room_of(server: Server) -> dict[str, Any]:
    (room,) = describe(server.replica, SHARES)["rooms"]
    return dict(room)


async def test_a_room_that_is_refused_is_named_with_the_reason(
    start: Start, hub: MemoryHub
) -> None:
    a = await start("a")
    assert (reason(a.replica), room_of(a)["degraded"]) == ("", False)
    hub.full = True
    a.write(" more")
    await until(lambda: "1 of 1 open documents" in reason(a.replica), what="the reason")
    assert "OOM" in reason(a.replica)
    assert "OOM" in room_of(a)["reason"]
    assert describe(a.replica, SHARES)["degraded"] is True
    hub.full = False
    await until(lambda: not reason(a.replica), what="all is well")
    assert room_of(a)["degraded"] is False


async def test_a_full_redis_is_no_health_without_a_document_either(
    start: Start, hub: MemoryHub
) -> None:
    a = await start("a")
    await a.link.aclose()
    hub.full = True
    await until(lambda: "OOM" in reason(a.replica), what="the reason")
    hub.full = False
    await until(lambda: not reason(a.replica), what="all is well")


async def test_a_refused_heartbeat_comes_before_file_ids_that_were_refused_earlier(
    start: Start,
) -> None:
    a = await start("a")
    a.replica.complain("files share", "its documents' ids cannot be read yet")
    a.replica.complain("outside_share x", "a link leads elsewhere")
    assert "ids" in reason(a.replica)
    a.replica.complain("heartbeat", "OOM")
    assert reason(a.replica) == "OOM"


async def test_an_outage_is_named(start: Start) -> None:
    a = await start("a")
    a.transport.disconnect()
    assert reason(a.replica) == "the memory transport is disconnected"


async def test_an_outage_is_a_complaint_until_it_is_over_and_also_from_the_very_start(
    hub: MemoryHub, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(MemorySyncTransport):
        async def start(self) -> None:
            self.disconnect()

    transport = Away(hub)
    replica = Replica(transport, timing=TIMING)
    await replica.start()
    try:
        for _ in range(2):
            assert transport.problem in replica.complaints["transport"].message
            before = replica.complaints["transport"].count
            await until(
                lambda before=before: replica.complaints["transport"].count > before,
                what="the next heartbeat",
            )
            transport.reconnect()
            assert "transport" not in replica.complaints
            transport.disconnect()
    finally:
        await replica.aclose()
    # The log is told by the transport.
    assert not [
        record for record in caplog.records if "Nothing can be shared" in record.getMessage()
    ]


async def test_one_rooms_error_does_not_hide_the_outage_from_the_others(start: Start) -> None:
    a = await start("a")

    class Broken:
        scope = Scope("share", "broken")

        def transport_changed(self, state: TransportState) -> None:
            raise RuntimeError("broken")

        def replica_left(self, replica: str) -> None:
            raise RuntimeError("broken")

        def lease_question(self) -> None:
            return None

        async def tick(self) -> None: ...

        async def aclose(self) -> None: ...

    a.replica.links = {Broken.scope: Broken(), **a.replica.links}
    a.transport.disconnect()
    assert any("Redis is away" in message for _, message in a.told)
    assert "errors broken" in a.replica.complaints
    a.transport.reconnect()
    b = await start("b")
    await until(lambda: b.replica.id in a.replica.membership.alive, what="b")
    a.link.peers.known.add(b.replica.id)
    await b.die()
    await until(lambda: b.replica.id not in a.link.peers.known, what="b has left")


async def test_a_start_that_fails_is_tried_again(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "START_AGAIN_S", 0.05)
    processes = "jupyter_teleportal.transports.embedded.processes"
    monkeypatch.setattr(f"{processes}.stop_at_interrupt", lambda **_: None)
    transport = MemorySyncTransport(hub)
    heartbeat, damaged = transport.heartbeat, True

    async def unreadable(*arguments: Any, **keywords: Any) -> Any:
        if damaged:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "another program's session")
        return await heartbeat(*arguments, **keywords)

    monkeypatch.setattr(transport, "heartbeat", unreadable)
    app = TeleportalExtension()
    app._replica = Replica(transport, timing=TIMING)
    app._registry = FileRegistry(app._replica, SHARES)
    app._seam = type("Seam", (), {"room_clients": None, "room_path": None, "close": lambda _: 0})()
    await app.ensure_started()  # whoever opens a document goes on without sharing
    assert app.health() == "degraded"
    assert "another program's session" in app.status()["reason"]
    damaged = False
    await until(lambda: app.health() == "ok", what="the start")
    assert app.status()["reason"] == ""
    await app.stop_extension()


async def test_file_ids_that_could_not_be_read_are_read_with_the_next_heartbeat(
    start: Start, hub: MemoryHub
) -> None:
    a = await start("a")
    hub.wrong_type.add((Scope("share"), "paths"))
    registry = FileRegistry(a.replica, SHARES)
    await registry.start()
    assert "documents' ids" in reason(a.replica)
    hub.maps[Scope("share"), "files"]["moved.txt"] = OTHERS_ID
    hub.wrong_type.clear()
    located = SHARES.locate("moved.txt")
    assert located is not None
    await until(lambda: registry.index(located) == OTHERS_ID, what="the ids")
    await until(lambda: not reason(a.replica), what="all is well")
    await registry.aclose()
    assert ROOM in a.replica.links
