"""Links: one room on several replicas, over every transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pycrdt import Awareness, Decoder, Doc, Text
from support.waiting import holds, until
from transports.backends import Backend, MemoryBackend, RedisBackend

from jupyter_teleportal.core.awareness_updates import AwarenessEntry, awareness_update
from jupyter_teleportal.core.envelopes import AwarenessEnvelope, decode_payload
from jupyter_teleportal.core.errors import TransportError
from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.values import ZERO_OFFSET, Appended, Scope
from jupyter_teleportal.sync import log_reading
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.sync.room_link import RoomLink
from jupyter_teleportal.transports.base import TransportState, loop_time

ROOM = Scope("team1", "text:file:one")
TIMING: dict[str, Any] = {
    "heartbeat_interval_s": 0.1,
    "dead_after_s": 0.6,
    "lease_ttl_s": 0.6,
    "lease_margin_s": 0.1,
    "join_timeout_s": 5,
    "stop_timeout_s": 2,
}


class Site:
    """One replica with one room."""

    def __init__(self, replica: Replica, *, scope: Scope = ROOM, writable: bool = True) -> None:
        self.replica = replica
        self.transport: Any = replica.transport
        self.doc: Doc[Any] = Doc()
        self.text = self.doc.get("source", type=Text)
        self.awareness = Awareness(self.doc)
        self.broadcasts: list[bytes] = []
        self.appends = 0
        self.link = RoomLink(
            replica,
            scope,
            self.doc,
            awareness=self.awareness,
            broadcast=self.broadcasts.append,
            writable=writable,
        )
        append_log = self.transport.append_log

        async def counted_append(*args: Any) -> Any:
            self.appends += args[0] == scope
            return await append_log(*args)

        self.transport.append_log = counted_append

    def __str__(self) -> str:
        return str(self.text)

    @property
    def settled(self) -> bool:
        return self.link.replicator.settled

    async def flush(self) -> None:
        assert await self.link.flush(5)

    async def forge(self, payload: bytes) -> str:
        """Put into the log what no server would, as whoever has an account may; return where."""
        log = self.link.replicator.log
        assert log is not None
        appended: Appended = await self.transport.append_log(self.link.scope, log, "evil", payload)
        return appended.offset

    async def die(self) -> None:
        """As `kill -9`: no goodbye, and nothing of it goes on."""
        beating = self.replica._beating
        assert beating is not None
        beating.cancel()
        self.replica._beating = None
        await self.transport.aclose()


MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def make_site(backend: Backend, caplog: pytest.LogCaptureFixture) -> AsyncIterator[MakeSite]:
    caplog.set_level(logging.INFO)
    made: list[Replica] = []

    async def make(
        *, opened: bool = True, writable: bool = True, replica: Replica | None = None, **timing: Any
    ) -> Site:
        if replica is None:
            transport = await backend.make()
            replica = Replica(transport, timing=Timing(**{**TIMING, **timing}))
            made.append(replica)
            await replica.start()
        site = Site(replica, writable=writable)
        if opened:
            await site.link.open()
        return site

    yield make
    for replica in made:
        await replica.aclose()


def state_vector(doc: Doc[Any]) -> dict[int, int]:
    decoder = Decoder(doc.get_state())
    return {
        decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())
    }


def agree(*sites: Site) -> bool:
    return (
        all(site.settled for site in sites)
        and len({str(site) for site in sites}) == 1
        and all(state_vector(site.doc) == state_vector(sites[0].doc) for site in sites)
    )


async def together(*sites: Site, timeout: float = 5) -> str:
    await until(lambda: agree(*sites), timeout, "all replicas to hold the same document")
    return str(sites[0])


async def log_text(site: Site) -> str:
    """The text that somebody who joins now would read."""
    read = await site.transport.read_log(ROOM, None, ZERO_OFFSET)
    doc: Doc[Any] = Doc()
    payloads = [entry.payload for entry in read.entries]
    for payload in [read.checkpoint, *payloads] if read.checkpoint else payloads:
        doc.apply_update(decode_payload(payload))
    return str(doc.get("source", type=Text))


async def test_three_replicas_converge(make_site: MakeSite) -> None:
    sites = [await make_site() for _ in range(3)]
    for number in range(20):
        for name, site in zip("abc", sites, strict=True):
            site.text += f"{name}{number} "
        await asyncio.sleep(0)
    text = await together(*sites)
    expected = [f"{name}{number}" for name in "abc" for number in range(20)]
    assert sorted(text.split()) == sorted(expected)
    assert sorted((await log_text(sites[0])).split()) == sorted(expected)


async def test_rooms_opened_at_the_same_time_are_seeded_once(make_site: MakeSite) -> None:
    sites = [await make_site(opened=False) for _ in range(4)]
    for name, site in zip("abcd", sites, strict=True):
        site.text += name
    await asyncio.gather(*(site.link.open() for site in sites))
    assert sorted(await together(*sites)) == list("abcd")
    assert len({site.link.replicator.log for site in sites}) == 1


async def test_who_joins_late_has_everything_when_it_is_open(make_site: MakeSite) -> None:
    first = await make_site()
    first.text += "one"
    await first.flush()
    late = await make_site()
    assert str(late) == "one"
    late.text += " two"
    assert await together(first, late) == "one two"


async def test_what_a_room_held_before_it_was_open_is_shared(make_site: MakeSite) -> None:
    first = await make_site()
    late = await make_site(opened=False)
    late.text += "written before the link"
    await late.link.open()
    assert await together(first, late) == "written before the link"


async def test_one_append_for_each_local_update_and_none_for_a_remote_one(
    make_site: MakeSite,
) -> None:
    sites = [await make_site() for _ in range(3)]
    await together(*sites)
    for site in sites:
        site.appends = 0
    for _ in range(10):
        sites[0].text += "x"
        await sites[0].flush()
    sites[1].text += "y"
    await together(*sites)
    await holds(lambda: [site.appends for site in sites] == [10, 1, 0], 0.3)


async def test_updates_made_while_an_append_is_under_way_travel_together(
    make_site: MakeSite,
) -> None:
    site, other = await make_site(), await make_site()
    site.appends = 0
    for _ in range(500):
        site.text += "x"
    assert await together(site, other) == "x" * 500
    assert site.appends < 10


async def test_who_may_not_write_follows_and_never_appends(make_site: MakeSite) -> None:
    writer, reader = await make_site(), await make_site(writable=False)
    reader.text += "stays here"
    writer.text += "everybody's "
    await until(lambda: "everybody's" in str(reader))
    await holds(lambda: reader.appends == 0 and str(writer) == "everybody's ", 0.3)
    await writer.link.aclose()
    await holds(lambda: reader.link.lease.holder != reader.replica.id, 0.3)


# -- faults --------------------------------------------------------------------------------


async def test_edits_on_both_sides_of_a_cut_merge_with_no_further_edit(
    backend: Backend, make_site: MakeSite
) -> None:
    sites = [await make_site() for _ in range(3)]
    sites[0].text += "before "
    await together(*sites)
    await backend.disconnect()
    await until(lambda: all(s.transport.state is TransportState.DEGRADED for s in sites))
    for name, site in zip("abc", sites, strict=True):
        for number in range(5):
            site.text += f"{name}{number} "
    assert [site.link.replicator.unacknowledged for site in sites] == [5, 5, 5]
    await backend.reconnect()
    text = await together(*sites)
    expected = ["before", *(f"{name}{number}" for name in "abc" for number in range(5))]
    assert sorted(text.split()) == sorted(expected)


async def test_a_cut_while_everybody_types_loses_nothing(
    backend: Backend, make_site: MakeSite
) -> None:
    sites = [await make_site() for _ in range(2)]
    typed = 0

    async def type_for(seconds: float) -> None:
        nonlocal typed
        end = loop_time() + seconds
        while loop_time() < end:
            for site in sites:
                site.text += f"{typed} "
                typed += 1
            await asyncio.sleep(0.005)

    for _ in range(3):
        await type_for(0.1)
        await backend.disconnect()
        await type_for(0.1)
        await backend.reconnect()
    await type_for(0.1)
    text = await together(*sites)
    assert sorted(map(int, text.split())) == list(range(typed))


async def test_a_room_opened_while_the_transport_is_away_is_shared_later(
    backend: Backend, make_site: MakeSite
) -> None:
    first = await make_site()
    first.text += "first "
    await first.flush()
    late = await make_site(opened=False)
    await backend.disconnect()
    await until(lambda: all(s.transport.state is TransportState.DEGRADED for s in (first, late)), 5)
    await late.link.open()
    late.text += "late "
    assert str(late) == "late "
    await backend.reconnect()
    assert sorted((await together(first, late)).split()) == ["first", "late"]


async def test_an_emptied_server_is_filled_again(backend: Backend, make_site: MakeSite) -> None:
    sites = [await make_site() for _ in range(2)]
    sites[0].text += "kept"
    await together(*sites)
    await backend.clear()

    async def filled() -> bool:
        return await log_text(sites[0]) == "kept"

    await until(filled, 5, "the log to hold the document again")
    assert await together(*sites) == "kept"
    late = await make_site()
    assert str(late) == "kept"


async def test_an_edit_into_an_emptied_server_is_kept(
    backend: Backend, make_site: MakeSite
) -> None:
    sites = [await make_site() for _ in range(2)]
    sites[0].text += "kept "
    await together(*sites)
    await backend.clear()
    sites[0].text += "zero "
    sites[1].text += "one "
    assert sorted((await together(*sites)).split()) == ["kept", "one", "zero"]
    assert sorted((await log_text(sites[0])).split()) == ["kept", "one", "zero"]


async def append_garbage(backend: Backend, site: Site) -> None:
    """A garbage entry at the end of the log, announced as any other."""
    assert site.link.replicator.log is not None
    await site.transport.append_log(ROOM, site.link.replicator.log, "evil", b"\x77garbage")


async def append_bad_update(backend: Backend, site: Site) -> None:
    """A well-formed payload that is no update."""
    assert site.link.replicator.log is not None
    await site.transport.append_log(ROOM, site.link.replicator.log, "evil", b"\x00\xff\xff\xff")


async def add_behind_the_back(backend: Backend, site: Site) -> None:
    """An entry that was put there by hand, without its fields and without being announced."""
    if isinstance(backend, RedisBackend):
        with backend.server.cli() as client:
            client.xadd(f"{site.transport.channel(ROOM)}:log", {"nonsense": "x"})
    else:
        assert isinstance(backend, MemoryBackend)
        room = backend.hub.rooms[ROOM]
        room.entries.append(type(room.entries[0])(backend.hub.next_offset(), b"", ""))


@pytest.mark.parametrize("spoil", [append_garbage, append_bad_update, add_behind_the_back])
async def test_a_bad_entry_is_logged_once_and_passed_over(
    backend: Backend,
    make_site: MakeSite,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Backend, Site], Awaitable[None]],
) -> None:
    sites = [await make_site() for _ in range(2)]
    sites[0].text += "before "
    await together(*sites)
    caplog.clear()
    await spoil(backend, sites[0])
    sites[0].text += "after "
    await sites[0].flush()
    sites[1].text += "andon "
    written = {"before", "after", "andon"}
    assert set((await together(*sites)).split()) == written
    late = await make_site()
    assert set((await together(*sites, late)).split()) == written
    # Several heartbeats later it is still there, and no news.
    bad = "is passed over"
    assert await settled_count(caplog, bad) <= 3
    assert bad in caplog.text
    assert all(record.levelno < logging.ERROR for record in caplog.records)


async def settled_count(caplog: pytest.LogCaptureFixture, part: str) -> int:
    """How often something was logged, some heartbeats later."""
    await asyncio.sleep(5 * TIMING["heartbeat_interval_s"])
    return sum(part in record.getMessage() for record in caplog.records)


async def test_malformed_messages_are_logged_once_and_passed_over(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    sites = [await make_site() for _ in range(2)]
    caplog.clear()
    malformed = [
        *(b"", b"\xff\xff", b"\x02E", b"\x01E\xff", b"\x01N\x01a\x01b[["),
        # Sound envelopes around awareness that is not.
        *(b"\x01A\x04evil" + update for update in (b"", b"\xff\xff\xff", b"\x05\x01")),
        b"\x01A\x04evil\x01\x07\x01\x02{[",
    ]
    for message in malformed:
        for _ in range(3):
            await sites[0].transport.publish(ROOM, message)
    sites[1].text += "still here"
    assert await together(*sites) == "still here"
    passed_over = [r for r in caplog.records if "are passed over" in r.getMessage()]
    # Each reason once.
    assert len(passed_over) == len(malformed) * len(sites)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_refused_append_is_told_and_made_up_for(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    site, other = await make_site(), await make_site()
    append_log = site.transport.append_log

    async def refuse(*args: Any) -> Any:
        raise TransportError("no more room here")

    site.transport.append_log = refuse
    site.text += "kept back"
    await until(lambda: "no more room here" in caplog.text)
    assert str(other) == ""
    site.transport.append_log = append_log
    assert await together(site, other) == "kept back"


# -- checkpoints and history ---------------------------------------------------------------


async def test_who_joins_after_a_checkpoint_and_a_trim_has_everything(
    make_site: MakeSite,
) -> None:
    site = await make_site(checkpoint_entries=10, history_max_entries=20)
    other = await make_site()
    for number in range(60):
        site.text += f"{number} "
        await site.flush()

    async def trimmed() -> bool:
        history = await site.transport.read_history(ROOM)
        return history.base is not None and len(history.entries) <= 30

    await until(trimmed, 5, "the history to be trimmed")
    read = await site.transport.read_log(ROOM, None, ZERO_OFFSET)
    assert read.checkpoint is not None
    assert len(read.entries) < 30
    late = await make_site()
    assert await together(site, other, late) == "".join(f"{number} " for number in range(60))


async def test_the_history_holds_all_that_was_ever_written(make_site: MakeSite) -> None:
    site = await make_site(checkpoint_entries=5, history_max_entries=10)
    for number in range(30):
        site.text += f"{number} "
        await site.flush()

    async def trimmed() -> bool:
        return (await site.transport.read_history(ROOM)).base is not None

    await until(trimmed)
    history = await site.transport.read_history(ROOM)
    doc: Doc[Any] = Doc()
    assert history.base is not None
    for payload in [history.base, *(entry.payload for entry in history.entries)]:
        doc.apply_update(decode_payload(payload))
    assert str(doc.get("source", type=Text)) == str(site)


async def test_no_checkpoint_holds_what_the_log_does_not(make_site: MakeSite) -> None:
    """Those who follow the log would not read it there, and those who join would have it."""
    site, other = await make_site(checkpoint_entries=3), await make_site()
    append_log, begun = site.transport.append_log, site.link.compactor.begun
    answered = asyncio.Event()

    async def unanswered(*args: Any) -> Any:
        await answered.wait()
        return await append_log(*args)

    def typed_right_then() -> None:
        begun()
        if site.transport.append_log is not unanswered and not answered.is_set():
            site.transport.append_log = unanswered
            site.text += "on its way "

    site.link.compactor.begun = typed_right_then  # type: ignore[method-assign]
    while "on its way" not in str(site):
        site.text += "typed "
        await until(lambda: site.settled or "on its way" in str(site), 5, "the log")

    async def checkpoint() -> bytes | None:
        return (await other.transport.read_log(ROOM, None, ZERO_OFFSET)).checkpoint

    async def none() -> bool:
        return await checkpoint() is None

    await holds(none, seconds=0.5, what="that there is no checkpoint")
    answered.set()
    await until(checkpoint, 5, "the checkpoint")
    late = await make_site()
    assert "on its way" in await together(site, other, late)


async def test_what_comes_while_a_checkpoint_is_written_is_not_trimmed(
    make_site: MakeSite,
) -> None:
    site = await make_site(history_max_bytes=10_000)
    other = await make_site()
    site.text += "x" * 8000
    await together(site, other)
    compact_log = site.transport.compact_log

    async def slowly(*args: Any) -> None:
        await compact_log(*args)
        # Others go on writing: something small, then something that fills the history.
        other.text += "small "
        await other.flush()
        other.text += "".join(chr(0x4E00 + (i * i * 7919) % 20_000) for i in range(9000))
        await other.flush()

    site.transport.compact_log = slowly
    await site.link.checkpoints.write()
    text = await together(site, other)
    # What the log alone gives: nobody is asked to put anything back.
    assert await log_text(site) == text


async def test_a_replica_that_was_away_while_the_log_was_trimmed_catches_up(
    backend: Backend, make_site: MakeSite
) -> None:
    site, other = await make_site(), await make_site()
    other.text += "before "
    await together(site, other)
    # Nothing reaches the other one for a while.
    await other.transport.unsubscribe(ROOM)
    for number in range(5):
        site.text += f"{number} "
        await site.flush()
    log, offset = site.link.replicator.log, site.link.replicator.offset
    await site.transport.compact_log(ROOM, log, offset, b"\x00" + site.doc.get_update())
    await site.transport.trim_history(ROOM, log, offset, b"\x00" + site.doc.get_update())
    assert await together(site, other) == "before 0 1 2 3 4 "


# -- leases --------------------------------------------------------------------------------


def holders(*sites: Site) -> list[Site]:
    return [site for site in sites if site.link.lease.held(loop_time())]


async def test_what_comes_at_once_is_taken_in_piece_by_piece(
    backend: Backend, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading, "BLOCKS_AT_ONCE", 20)
    there, away = await make_site(), await make_site()
    there.text += "begun "
    await together(there, away)
    pieces: list[int] = []
    apply = away.link.live.apply

    def counting(updates: tuple[bytes, ...], offsets: tuple[str, ...] = ()) -> None:
        pieces.append(len(updates))
        apply(updates, offsets)

    monkeypatch.setattr(away.link.live, "apply", counting)
    await away.transport.unsubscribe(ROOM)
    read_log, all_there = away.transport.read_log, asyncio.Event()

    async def read_later(*arguments: Any) -> Any:
        await all_there.wait()
        return await read_log(*arguments)

    monkeypatch.setattr(away.transport, "read_log", read_later)
    for word in range(100):
        there.text.insert(0, f"{word} ")
        await there.flush()
    all_there.set()
    text = await together(there, away)
    assert len(text.split()) == 101
    assert sum(pieces) == 100
    assert max(pieces) <= 20


async def test_one_replica_holds_the_lease_and_another_one_takes_over(
    make_site: MakeSite,
) -> None:
    sites = [await make_site() for _ in range(3)]
    await until(lambda: len(holders(*sites)) == 1)
    await holds(lambda: len(holders(*sites)) == 1, 1, "one holder")
    (holder,) = holders(*sites)
    rest = [site for site in sites if site is not holder]
    fence = holder.link.lease.fence
    await holder.link.aclose()
    # At once, since it is given back.
    await until(lambda: len(holders(*rest)) == 1, 0.3)
    (second,) = holders(*rest)
    assert second.link.lease.fence > fence
    await second.die()
    (last,) = [site for site in rest if site is not second]
    await until(lambda: holders(last) == [last], 3)


@pytest.mark.parametrize("lasts_s", [3, 5.5, None], ids=["for a while", "for long", "for ever"])
@pytest.mark.parametrize("said", ["a replica that is not there", "a replica without the room"])
async def test_a_lease_is_held_by_who_is_alive_and_renews_it(
    backend: Backend, make_site: MakeSite, said: str, lasts_s: float | None
) -> None:
    site = await make_site()
    other = Replica(await backend.make(), timing=Timing(**TIMING))
    await other.start()
    await until(lambda: holders(site), what="the lease")
    fence = site.link.lease.fence
    forged = "mallory" if said == "a replica that is not there" else other.id
    if isinstance(backend, MemoryBackend):
        room = backend.hub.rooms[ROOM]
        room.holder = forged
        room.held_until = float("inf") if lasts_s is None else backend.hub.clock() + lasts_s
    else:
        ends = [] if lasts_s is None else ["PX", int(1000 * lasts_s)]
        transport = site.transport
        await transport.execute("SET", transport._key(ROOM, "saver"), f"{forged} {fence}", *ends)
    if lasts_s is not None:
        await until(lambda: not holders(site), what="the forged lease")
    # Of a replica that is there, the lease is as long as it says.
    within_s = 4 if lasts_s == 5.5 and forged == "mallory" else 10
    await until(
        lambda: holders(site) and site.link.lease.fence > fence, within_s, what="the lease again"
    )
    await other.aclose()


@pytest.mark.parametrize("asked", ["by itself", "catching up", "with a heartbeat"])
async def test_a_lease_counts_from_the_question_however_long_the_answer_takes(
    make_site: MakeSite, asked: str
) -> None:
    site = await make_site()
    await until(lambda: holders(site), what="the lease")
    site.replica._beating.cancel()

    def late(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def ask_and_wait(*args: Any, **keywords: Any) -> Any:
            answer = await ask(*args, **keywords)
            await asyncio.sleep(0.3)
            return answer

        return ask_and_wait

    for name in ("hold_lease", "hold_leases"):
        setattr(site.transport, name, late(getattr(site.transport, name)))
    began = loop_time()
    if asked == "by itself":
        await site.link.tick()
    elif asked == "catching up":
        await site.link.catch_up(1)
    else:
        await site.replica._ask([site.link])
    ends = began + TIMING["lease_ttl_s"] - TIMING["lease_margin_s"]
    assert site.link.lease.held(ends - 0.01)
    assert not site.link.lease.held(ends + 0.2)


async def test_closing_a_room_does_not_take_the_lease_from_its_successor(
    make_site: MakeSite,
) -> None:
    """A room that is closed and opened again on one replica: the two overlap for a moment."""
    old = await make_site()
    await until(lambda: holders(old))
    new = await make_site(replica=old.replica)
    await until(lambda: holders(new))
    await old.link.aclose()
    view = await new.transport.hold_lease(ROOM, "nobody", want=False, ttl_s=1, keep_s=100)
    assert view.holder == new.replica.id
    new.text += "still linked"
    other = await make_site()
    assert await together(new, other) == "still linked"


# -- awareness -----------------------------------------------------------------------------


def names_at(site: Site) -> set[str]:
    return {state["name"] for state in site.awareness.states.values() if state}


async def test_awareness_crosses_and_goes_with_its_replica(make_site: MakeSite) -> None:
    sites = [await make_site() for _ in range(3)]
    for name, site in zip("abc", sites, strict=True):
        site.awareness.set_local_state({"name": name})
    await until(lambda: all(names_at(site) == set("abc") for site in sites))
    # Their clients are told.
    assert all(site.broadcasts for site in sites)
    late = await make_site()
    await until(lambda: names_at(late) == set("abc"))
    # Leaving in good order takes the cursors along at once.
    await sites[0].link.aclose()
    await until(lambda: names_at(sites[1]) == names_at(late) == set("bc"), 0.3)
    # Dying does when the heartbeat is missed.
    await sites[1].die()
    for survivor in (sites[2], late):
        survivor.broadcasts.clear()
    await until(lambda: names_at(sites[2]) == names_at(late) == set("c"), 3)
    assert sites[2].broadcasts
    assert late.broadcasts


async def test_a_replica_speaks_for_its_own_clients_only(make_site: MakeSite) -> None:
    site, other = await make_site(), await make_site()
    for name, one in (("a", site), ("b", other)):
        one.awareness.set_local_state({"user": {"name": name}})
    await until(lambda: len(site.awareness.states) == len(other.awareness.states) == 2)
    own, theirs = site.awareness.client_id, other.awareness.client_id
    assert site.awareness.states[theirs]["teleportal"] == {"replica": other.replica.id}
    assert "teleportal" not in site.awareness.states[own]
    forged = [
        AwarenessEntry(own, 99, {"user": {"name": "forged"}}),
        AwarenessEntry(theirs, 99, None),
        AwarenessEntry(7, 1, {"teleportal": {"replica": other.replica.id}}),
    ]
    for entries in (forged, [AwarenessEntry(own, 99, None)]):
        message = AwarenessEnvelope("mallory", awareness_update(entries)).encode()
        await site.transport.publish(ROOM, message)
    await until(lambda: 7 in site.awareness.states, what="the forger's own client")
    assert site.awareness.states[7] == {"teleportal": {"replica": "mallory"}}
    assert site.awareness.states[own] == {"user": {"name": "a"}}
    assert site.awareness.states[theirs]["user"] == {"name": "b"}


async def test_a_client_that_moves_before_its_server_notices_is_back(make_site: MakeSite) -> None:
    old, new = await make_site(), await make_site()
    bridge = old.link.awareness
    assert bridge is not None
    here = awareness_update([AwarenessEntry(7, 1, {"name": "ann"})])
    old.awareness.apply_awareness_update(here, "client")
    await until(lambda: 7 in new.awareness.states)
    moved = awareness_update([AwarenessEntry(7, 2, {"name": "ann"})])
    new.awareness.apply_awareness_update(moved, "client")
    await asyncio.sleep(0.1)
    bridge.remove_clients({7})
    await until(lambda: 7 in old.awareness.states, what="the client, from where it is now")
    assert 7 in new.awareness.states


async def test_cursors_of_others_have_a_bound(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_teleportal.sync.awareness.REPLICA_CLIENTS_MAX", 3)
    monkeypatch.setattr("jupyter_teleportal.sync.awareness.CLIENTS_MAX", 5)
    site = await make_site()
    for number, name in enumerate("xyz"):
        entries = [AwarenessEntry(10 * number + n + 1, 1, {"n": n}) for n in range(9)]
        message = AwarenessEnvelope(name, awareness_update(entries)).encode()
        await site.transport.publish(ROOM, message)
    await until(lambda: site.replica.counters["envelopes"] == 3, what="what is too much")
    shown = [state for state in site.awareness.states.values() if state]
    assert len(shown) == 5


async def test_awareness_comes_back_after_a_cut(backend: Backend, make_site: MakeSite) -> None:
    sites = [await make_site() for _ in range(2)]
    sites[0].awareness.set_local_state({"name": "a"})
    await until(lambda: names_at(sites[1]) == {"a"})
    await backend.disconnect()
    await until(lambda: all(s.transport.state is TransportState.DEGRADED for s in sites))
    sites[0].awareness.set_local_state({"name": "b"})
    await backend.reconnect()
    await until(lambda: names_at(sites[1]) == {"b"})


# -- the end -------------------------------------------------------------------------------


async def test_nothing_is_left_at_the_end(backend: Backend, make_site: MakeSite) -> None:
    before = asyncio.all_tasks()
    sites = [await make_site() for _ in range(2)]
    sites[0].awareness.set_local_state({"name": "a"})
    sites[0].text += "x"
    for site in sites:
        await site.replica.aclose()
        assert site.replica.links == {}
        assert site.transport.state is TransportState.LOCAL
    await until(lambda: backend.listeners() == 0)
    proxies = {"_pump", "_connect", "_accept"}
    left = [
        task
        for task in asyncio.all_tasks() - before
        if getattr(task.get_coro(), "__name__", "") not in proxies
    ]
    assert left == []
    # A change made afterwards goes nowhere and harms nothing.
    sites[0].text += "y"
    sites[0].awareness.set_local_state({"name": "b"})
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - set(left) == asyncio.all_tasks() - before


async def test_what_was_not_shared_yet_is_when_the_room_is_closed(make_site: MakeSite) -> None:
    site, other = await make_site(), await make_site()
    site.text += "the last word"
    await site.link.aclose()
    await until(lambda: str(other) == "the last word")


async def test_closing_twice_and_closing_while_cut_off(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    await backend.disconnect()
    await until(lambda: site.transport.state is TransportState.DEGRADED)
    site.text += "nowhere"
    began = loop_time()
    await site.link.aclose()
    await site.link.aclose()
    assert loop_time() - began < 1


async def test_many_rooms_ask_for_their_leases_some_at_a_time(make_site: MakeSite) -> None:
    one = await make_site(heartbeat_interval_s=0.2, lease_ttl_s=0.8)
    rooms = [Scope("team1", f"text:file:{number}") for number in range(60)]
    sites = [Site(one.replica, scope=scope) for scope in rooms]
    await asyncio.gather(*(site.link.open() for site in sites))
    asked: list[int] = []
    hold_leases = one.transport.hold_leases

    async def counted(wishes: Any, *args: Any, **keywords: Any) -> Any:
        asked.append(len(wishes))
        return await hold_leases(wishes, *args, **keywords)

    one.transport.hold_leases = counted
    await until(lambda: sum(asked) > 5 * len(rooms), what="five heartbeats")
    assert max(asked) <= 25
    assert len(asked) <= sum(asked) / len(rooms) * 4, "each room by itself"
    await holds(
        lambda: all(site.link.lease.held(loop_time()) for site in sites),
        seconds=1.5,
        what="all leases held",
    )


async def test_a_log_that_others_have_begun_anew_is_not_dropped(
    backend: Backend, make_site: MakeSite
) -> None:
    """Whoever gives a damaged log up comes too late, and finds an acknowledged edit."""
    transport: Any = await backend.make()
    log = (await transport.seed_log(ROOM, "lineage", "x", b"seed")).log
    last = await transport.append_log(ROOM, log, "x", b"more")
    await transport.trim_history(ROOM, log, last.offset, b"base")
    site = await make_site(opened=False)
    mine = Doc({"source": Text("acknowledged")})

    async def meanwhile(updates: tuple[bytes, ...]) -> None:
        await transport.expire_room(ROOM, log, 0)
        await transport.seed_log(ROOM, "other", "x", b"\x00" + mine.get_update())

    site.link.room.content.abandon = meanwhile
    await site.link.open()
    await until(lambda: site.settled, what="the room")
    assert str(site) == await log_text(site) == "acknowledged"
