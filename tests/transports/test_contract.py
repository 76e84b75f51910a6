"""What every transport has to do, as `jupyter_teleportal.transports.base` documents it.

A new transport joins by being a backend in `conftest.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.envelopes import EntryEnvelope, decode_envelope
from jupyter_teleportal.core.errors import (
    LogChanged,
    MapTooLarge,
    TransportError,
    TransportUnavailable,
)
from jupyter_teleportal.core.values import (
    ZERO_OFFSET,
    Appended,
    LeaseView,
    LeaseWish,
    LogRead,
    LogSize,
    Scope,
    offset_key,
)
from jupyter_teleportal.transports.base import SyncTransport, TransportState

from .backends import Backend

SHARE = Scope("team1")
ROOM = Scope("team1", "json:notebook:one")
OTHER_ROOM = Scope("team1", "json:notebook:two")
OTHER_SHARE_ROOM = Scope("team2", "json:notebook:one")
KEEP_S = 1000.0


def payloads(read: LogRead) -> list[bytes]:
    return [entry.payload for entry in read.entries]


async def cut_off(backend: Backend, *transports: SyncTransport) -> None:
    """Cut them off, and let them find out: whoever listens to nothing does so by asking."""
    await backend.disconnect()
    for transport in transports:
        with contextlib.suppress(TransportUnavailable):
            await transport.farewell("nobody")
        await until(lambda transport=transport: transport.state is TransportState.DEGRADED)


async def seeded(transport: SyncTransport, scope: Scope = ROOM, count: int = 0) -> list[str]:
    """Seed a log, append `count` entries, and return its id and the offsets of all entries."""
    seed = await transport.seed_log(scope, "lineage", "a", b"seed")
    offsets = [seed.offset]
    for number in range(count):
        appended = await transport.append_log(scope, seed.log, "a", b"entry %d" % number)
        offsets.append(appended.offset)
    return [seed.log, *offsets]


# -- state ---------------------------------------------------------------------------------


async def test_a_started_transport_is_connected_and_a_closed_one_is_local(
    backend: Backend,
) -> None:
    transport = await backend.make()
    assert transport.name == backend.name
    assert transport.state is TransportState.CONNECTED
    await transport.aclose()
    assert transport.state is TransportState.LOCAL
    await transport.aclose()
    with pytest.raises(TransportUnavailable):
        await transport.publish(ROOM, b"too late")


async def test_a_closed_transport_that_is_started_again_is_connected(backend: Backend) -> None:
    transport = await backend.make()
    for _ in range(2):
        await transport.aclose()
        await transport.start()
        assert transport.state is TransportState.CONNECTED
        heard: list[bytes] = []
        await transport.subscribe(ROOM, heard.append)
        await transport.publish(ROOM, b"x")
        await until(lambda heard=heard: heard == [b"x"])


async def test_a_start_ends_when_the_transport_is_closed(backend: Backend) -> None:
    transport = await backend.make()
    await transport.aclose()
    starting = asyncio.ensure_future(transport.start())
    await asyncio.sleep(0)
    await transport.aclose()
    await asyncio.wait_for(starting, 5)
    assert transport.state is TransportState.LOCAL


async def test_state_changes_are_told(backend: Backend) -> None:
    transport = await backend.make()
    states: list[TransportState] = []
    transport.watch(states.append)
    await cut_off(backend, transport)
    await backend.reconnect()
    await until(lambda: transport.state is TransportState.CONNECTED)
    await transport.aclose()
    assert states == [TransportState.DEGRADED, TransportState.CONNECTED, TransportState.LOCAL]


# -- channels ------------------------------------------------------------------------------


async def test_a_message_reaches_all_subscribers_and_the_sender(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    heard: dict[str, list[bytes]] = {"one": [], "two": []}
    await one.subscribe(ROOM, heard["one"].append)
    await two.subscribe(ROOM, heard["two"].append)
    message = bytes(range(256))
    await one.publish(ROOM, message)
    await until(lambda: heard == {"one": [message], "two": [message]})


async def test_scopes_do_not_hear_each_other(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    scopes = [SHARE, Scope("team2"), ROOM, OTHER_ROOM, OTHER_SHARE_ROOM, Scope("team1", "all")]
    heard: dict[Scope, list[bytes]] = {scope: [] for scope in scopes}
    for scope in scopes:
        await one.subscribe(scope, heard[scope].append)
    for scope in scopes:
        await two.publish(scope, repr(scope).encode())
    await until(lambda: all(heard.values()))
    assert heard == {scope: [repr(scope).encode()] for scope in scopes}


async def test_who_unsubscribes_hears_no_more(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    heard: list[bytes] = []
    other: list[bytes] = []
    await one.subscribe(ROOM, heard.append)
    await two.subscribe(ROOM, other.append)
    await one.unsubscribe(ROOM)
    await one.unsubscribe(OTHER_ROOM)
    await two.publish(ROOM, b"x")
    await until(lambda: other)
    await holds(lambda: not heard, 0.1)
    await one.subscribe(ROOM, heard.append)
    await two.publish(ROOM, b"y")
    await until(lambda: heard == [b"y"])


async def test_a_scope_has_one_listener(backend: Backend) -> None:
    transport = await backend.make()
    first: list[bytes] = []
    second: list[bytes] = []
    await transport.subscribe(ROOM, first.append)
    await transport.subscribe(ROOM, second.append)
    await transport.publish(ROOM, b"x")
    await until(lambda: second == [b"x"])
    assert first == []
    await transport.unsubscribe(ROOM)
    await transport.publish(ROOM, b"y")
    await holds(lambda: second == [b"x"], 0.1)


async def test_subscribing_to_many_scopes_at_once(backend: Backend) -> None:
    transport = await backend.make()
    heard: list[bytes] = []
    scopes = [Scope("team1", f"room {number}") for number in range(100)]
    await asyncio.gather(*(transport.subscribe(scope, heard.append) for scope in scopes))
    await asyncio.gather(*(transport.publish(scope, b"x") for scope in scopes))
    await until(lambda: len(heard) == 100)


async def test_a_listener_that_raises_harms_nobody_else(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await backend.make()
    heard: list[bytes] = []

    def fail(message: bytes) -> None:
        raise RuntimeError("a bug in one room")

    await transport.subscribe(ROOM, fail)
    await transport.subscribe(OTHER_ROOM, heard.append)
    with caplog.at_level(logging.ERROR):
        await transport.publish(ROOM, b"x")
        await transport.publish(OTHER_ROOM, b"y")
        await until(lambda: heard == [b"y"])
    assert transport.state is TransportState.CONNECTED
    assert "json:notebook:one" in caplog.text


# -- logs ----------------------------------------------------------------------------------


async def test_a_log_is_seeded_once(backend: Backend) -> None:
    transports = [await backend.make() for _ in range(3)]
    attempts = [
        transport.seed_log(ROOM, f"lineage{number}", f"r{number}", b"seed %d" % number)
        for number, transport in enumerate(transports * 5)
    ]
    results = await asyncio.gather(*attempts)
    (winner,) = [number for number, result in enumerate(results) if result.won]
    assert len({result.log for result in results}) == 1
    assert len({result.offset for result in results}) == 1
    assert results[winner].log.startswith(f"lineage{winner}/")
    read = await transports[0].read_log(ROOM, None, ZERO_OFFSET)
    assert read.log == results[0].log
    assert payloads(read) == [b"seed %d" % winner]
    assert read.tail == results[0].offset


async def test_a_loser_is_told_where_the_log_ends(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=2)
    late = await transport.seed_log(ROOM, "other", "b", b"other seed")
    assert (late.won, late.log, late.offset) == (False, log, offsets[-1])


async def test_a_log_that_is_seeded_again_has_another_id(backend: Backend) -> None:
    transport = await backend.make()
    (log, _) = await seeded(transport)
    await backend.clear()
    (again, _) = await seeded(transport)
    assert log.split("/")[0] == again.split("/")[0] == "lineage"
    assert log != again


async def test_an_append_says_where_it_ended_up(backend: Backend) -> None:
    transport = await backend.make()
    log, first = await seeded(transport)
    one = await transport.append_log(ROOM, log, "a", b"one")
    two = await transport.append_log(ROOM, log, "b", b"two")
    assert one.previous == first
    assert two.previous == one.offset
    keys = [offset_key(offset) for offset in (ZERO_OFFSET, first, one.offset, two.offset)]
    assert keys == sorted(set(keys))
    read = await transport.read_log(ROOM, log, first)
    assert [(entry.offset, entry.payload, entry.replica) for entry in read.entries] == [
        (one.offset, b"one", "a"),
        (two.offset, b"two", "b"),
    ]


async def test_concurrent_appends_form_one_chain(backend: Backend) -> None:
    transports = [await backend.make() for _ in range(3)]
    log, first = await seeded(transports[0])
    appends = [
        transport.append_log(ROOM, log, "r", b"%d" % number)
        for number, transport in enumerate(transports * 20)
    ]
    appended: list[Appended] = await asyncio.gather(*appends)
    follows = {each.previous: each.offset for each in appended}
    chain = [first]
    while chain[-1] in follows:
        chain.append(follows[chain[-1]])
    assert len(chain) == 61
    read = await transports[0].read_log(ROOM, log, first)
    assert [entry.offset for entry in read.entries] == chain[1:]
    assert sorted(payloads(read)) == sorted(b"%d" % number for number in range(60))


async def test_appends_of_one_replica_keep_their_order(backend: Backend) -> None:
    transport = await backend.make()
    log, first = await seeded(transport)
    await asyncio.gather(
        *(transport.append_log(ROOM, log, "a", b"%d" % number) for number in range(50))
    )
    read = await transport.read_log(ROOM, log, first)
    assert payloads(read) == [b"%d" % number for number in range(50)]


async def test_seed_and_append_are_announced(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    heard: list[bytes] = []
    await two.subscribe(ROOM, heard.append)
    log, first = await seeded(one)
    appended = await one.append_log(ROOM, log, "replica", b"\x00payload")
    await until(lambda: len(heard) == 2)
    assert [decode_envelope(message) for message in heard] == [
        EntryEnvelope("a", log, ZERO_OFFSET, first, b"seed"),
        EntryEnvelope("replica", log, first, appended.offset, b"\x00payload"),
    ]


async def test_an_append_to_another_log_or_none_is_refused(backend: Backend) -> None:
    transport = await backend.make()
    heard: list[bytes] = []
    with pytest.raises(LogChanged, match=r"gone|None"):
        await transport.append_log(ROOM, "lineage/1", "a", b"x")
    log, first = await seeded(transport)
    await transport.subscribe(ROOM, heard.append)
    with pytest.raises(LogChanged, match=log):
        await transport.append_log(ROOM, "lineage/other", "a", b"x")
    assert payloads(await transport.read_log(ROOM, log, first)) == []
    await holds(lambda: not heard, 0.1)


async def test_rooms_and_shares_have_logs_of_their_own(backend: Backend) -> None:
    transport = await backend.make()
    for scope in (ROOM, OTHER_ROOM, OTHER_SHARE_ROOM):
        await transport.seed_log(scope, "lineage", "a", repr(scope).encode())
    for scope in (ROOM, OTHER_ROOM, OTHER_SHARE_ROOM):
        read = await transport.read_log(scope, None, ZERO_OFFSET)
        assert payloads(read) == [repr(scope).encode()]


async def test_reading_what_follows_an_entry(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=5)
    for position, offset in enumerate(offsets):
        read = await transport.read_log(ROOM, log, offset)
        assert read.contiguous
        assert read.log == log
        assert [entry.offset for entry in read.entries] == offsets[position + 1 :]
        assert read.tail == offsets[-1]


async def test_reading_a_log_that_is_gone(backend: Backend) -> None:
    transport = await backend.make()
    assert await transport.read_log(ROOM, None, ZERO_OFFSET) == LogRead(None, False, [])
    log, first = await seeded(transport)
    await backend.clear()
    assert await transport.read_log(ROOM, log, first) == LogRead(None, False, [])


async def test_reading_after_an_entry_that_the_log_does_not_hold(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=2)
    for wrong_log, after in (
        (log, ZERO_OFFSET),
        (log, "99999999999999-0"),
        ("lineage/other", offsets[1]),
        (None, ZERO_OFFSET),
    ):
        read = await transport.read_log(ROOM, wrong_log, after)
        assert not read.contiguous
        assert read.log == log
        assert (read.checkpoint, read.checkpoint_offset) == (None, ZERO_OFFSET)
        assert [entry.offset for entry in read.entries] == offsets


async def test_long_logs_are_read_whole(backend: Backend) -> None:
    transport = await backend.make()
    log, first = await seeded(transport)
    count = 4500
    await asyncio.gather(
        *(transport.append_log(ROOM, log, "a", b"%d" % number) for number in range(count))
    )
    expected = [b"%d" % number for number in range(count)]
    contiguous = await transport.read_log(ROOM, log, first)
    assert payloads(contiguous) == expected
    assert payloads(await transport.read_log(ROOM, None, ZERO_OFFSET)) == [b"seed", *expected]
    assert len((await transport.read_history(ROOM)).entries) == count + 1


# -- checkpoints and history ---------------------------------------------------------------


async def test_a_checkpoint_stands_for_what_came_before(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=5)
    await transport.compact_log(ROOM, log, offsets[3], b"checkpoint")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.checkpoint, read.checkpoint_offset) == (b"checkpoint", offsets[3])
    assert [entry.offset for entry in read.entries] == offsets[4:]
    # Whoever follows the log does not need it.
    follower = await transport.read_log(ROOM, log, offsets[1])
    assert follower.contiguous
    assert [entry.offset for entry in follower.entries] == offsets[2:]


async def test_a_checkpoint_at_the_very_end_is_all_that_is_read(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=2)
    await transport.compact_log(ROOM, log, offsets[-1], b"checkpoint")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert read.entries == []
    assert read.tail == offsets[-1]


async def test_an_older_checkpoint_does_not_replace_a_newer_one(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=5)
    await transport.compact_log(ROOM, log, offsets[4], b"newer")
    await transport.trim_history(ROOM, log, offsets[4], b"base")
    # By a saver that was deposed while it was at work.
    await transport.compact_log(ROOM, log, offsets[1], b"older")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.checkpoint, read.checkpoint_offset) == (b"newer", offsets[4])


async def test_a_trimmed_log_is_read_from_its_checkpoint(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=6)
    await transport.compact_log(ROOM, log, offsets[4], b"checkpoint")
    await transport.trim_history(ROOM, log, offsets[3], b"base")
    behind = await transport.read_log(ROOM, log, offsets[1])
    assert not behind.contiguous
    assert behind.checkpoint == b"checkpoint"
    assert [entry.offset for entry in behind.entries] == offsets[5:]
    near = await transport.read_log(ROOM, log, offsets[3])
    assert near.contiguous
    assert [entry.offset for entry in near.entries] == offsets[4:]
    appended = await transport.append_log(ROOM, log, "a", b"more")
    assert appended.previous == offsets[-1]


async def test_history_is_what_was_not_trimmed_after_its_base(backend: Backend) -> None:
    transport = await backend.make()
    empty = await transport.read_history(ROOM)
    assert (empty.base, empty.entries) == (None, [])
    log, *offsets = await seeded(transport, count=4)
    whole = await transport.read_history(ROOM)
    assert whole.base is None
    assert [entry.offset for entry in whole.entries] == offsets
    await transport.compact_log(ROOM, log, offsets[-1], b"checkpoint")
    await transport.trim_history(ROOM, log, offsets[2], b"base")
    kept = await transport.read_history(ROOM)
    assert kept.base == b"base"
    assert [entry.offset for entry in kept.entries] == offsets[2:]


async def test_compacting_or_trimming_another_log_is_refused(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=2)
    with pytest.raises(LogChanged):
        await transport.compact_log(ROOM, "lineage/other", offsets[1], b"x")
    with pytest.raises(LogChanged):
        await transport.trim_history(ROOM, "lineage/other", offsets[1], b"x")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert read.checkpoint is None
    history = await transport.read_history(ROOM)
    assert history.base is None
    assert [entry.offset for entry in history.entries] == offsets
    with pytest.raises(LogChanged):
        await transport.compact_log(OTHER_ROOM, log, offsets[1], b"x")


async def test_a_log_that_is_seeded_again_has_no_checkpoint(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=2)
    await transport.compact_log(ROOM, log, offsets[1], b"checkpoint")
    await transport.trim_history(ROOM, log, offsets[1], b"base")
    await transport.expire_room(ROOM, log, 0)
    again = await transport.seed_log(ROOM, "new", "b", b"new seed")
    assert again.won
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert read.checkpoint is None
    assert payloads(read) == [b"new seed"]
    assert (await transport.read_history(ROOM)).base is None


# -- leases --------------------------------------------------------------------------------


async def hold(
    transport: SyncTransport, replica: str, *, want: bool = True, ttl_s: float = 60
) -> tuple[str | None, int]:
    view = await transport.hold_lease(ROOM, replica, want=want, ttl_s=ttl_s, keep_s=KEEP_S)
    return view.holder, view.fence


async def test_a_lease_has_one_holder(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    holder, fence = await hold(one, "a")
    assert holder == "a"
    assert fence > 0
    assert await hold(two, "b") == ("a", fence)
    assert await hold(one, "a") == ("a", fence)
    assert (await hold(two, "b", want=False))[0] == "a"


async def test_one_of_many_takes_a_free_lease(backend: Backend) -> None:
    transports = [await backend.make() for _ in range(3)]
    views = await asyncio.gather(
        *(hold(transport, f"r{n}") for n, transport in enumerate(transports * 4))
    )
    assert len(set(views)) == 1


async def test_a_lease_that_is_given_back_is_free_and_its_fence_grows(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    _, fence = await hold(one, "a")
    assert (await hold(one, "a", want=False))[0] is None
    assert (await hold(two, "b", want=False))[0] is None
    holder, next_fence = await hold(two, "b")
    assert holder == "b"
    assert next_fence > fence


async def test_a_lease_expires_unless_it_is_renewed(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    _, fence = await hold(one, "a", ttl_s=0.5)

    async def renewed() -> bool:
        assert (await hold(one, "a", ttl_s=0.5))[0] == "a"
        return (await hold(two, "b", ttl_s=0.5))[0] == "a"

    await holds(renewed, 0.8, "the lease that is renewed")

    async def expired() -> bool:
        return (await hold(two, "b", ttl_s=60))[0] == "b"

    await until(expired, 2)
    holder, next_fence = await hold(one, "a")
    assert holder == "b"
    assert next_fence > fence


async def test_a_look_at_the_lease_shows_where_the_log_ends(backend: Backend) -> None:
    transport = await backend.make()
    view = await transport.hold_lease(ROOM, "a", want=False, ttl_s=6, keep_s=KEEP_S)
    assert (view.holder, view.log, view.tail) == (None, None, ZERO_OFFSET)
    log, *offsets = await seeded(transport, count=3)
    for want in (True, False):
        view = await transport.hold_lease(ROOM, "a", want=want, ttl_s=6, keep_s=KEEP_S)
        assert (view.log, view.tail) == (log, offsets[-1])
    await transport.compact_log(ROOM, log, offsets[-1], b"checkpoint")
    await transport.trim_history(ROOM, log, offsets[-1], b"base")
    view = await transport.hold_lease(ROOM, "a", want=False, ttl_s=6, keep_s=KEEP_S)
    assert (view.log, view.tail) == (log, offsets[-1])


async def test_rooms_have_leases_of_their_own(backend: Backend) -> None:
    transport = await backend.make()
    await hold(transport, "a")
    for scope in (OTHER_ROOM, OTHER_SHARE_ROOM):
        view = await transport.hold_lease(scope, "b", want=True, ttl_s=6, keep_s=KEEP_S)
        assert view.holder == "b"


async def test_many_leases_are_asked_for_at_once(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    log, *_ = await seeded(one)
    await hold(one, "a")
    rooms = [ROOM, OTHER_ROOM, OTHER_SHARE_ROOM, *(Scope("share", f"{n}") for n in range(120))]
    wishes = [LeaseWish(room, number % 2 == 0) for number, room in enumerate(rooms)]
    views = await two.hold_leases(wishes, "b", ttl_s=6, keep_s=KEEP_S)
    assert all(isinstance(view, LeaseView) for view in views)
    holders = [view.holder for view in views if isinstance(view, LeaseView)]
    assert holders == ["a", *(None if n % 2 else "b" for n in range(1, len(rooms)))]
    assert views[0] == await one.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S)
    assert views[0].log == log  # type: ignore[union-attr]
    assert await two.hold_leases([], "b", ttl_s=6, keep_s=KEEP_S) == []


# -- maps, saves, expiry -------------------------------------------------------------------


async def test_a_map_is_read_whole_or_in_part(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    assert await one.read_map(SHARE, "files") == {}
    written = await one.write_map(SHARE, "files", {"a": "1", "b": "2", "é 👩": "ü\n"})
    assert written == {"a": "1", "b": "2", "é 👩": "ü\n"}
    assert await two.read_map(SHARE, "files") == written
    assert await two.read_map(SHARE, "files", ["a", "x", "é 👩"]) == {"a": "1", "é 👩": "ü\n"}
    assert await two.read_map(SHARE, "files", []) == {}
    assert await two.read_map(SHARE, "files", (name for name in "b")) == {"b": "2"}
    assert await two.read_map(SHARE, "paths") == {}
    assert await two.read_map(ROOM, "files") == {}
    assert await two.read_map(Scope("team2"), "files") == {}


async def test_a_map_that_is_too_large_is_read_in_part(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_teleportal.transports.base.MAP_ENTRIES_MAX", 3)
    transport = await backend.make()
    most = {"a": "1", "b": "2", "c": "3"}
    assert await transport.write_map(SHARE, "files", most) == most
    assert await transport.read_map(SHARE, "files") == most
    assert transport.counters["unreadable"] == 0
    await transport.write_map(SHARE, "files", {"d": "4"})
    with pytest.raises(MapTooLarge, match="4 entries, more than 3"):
        await transport.read_map(SHARE, "files")
    assert transport.counters["unreadable"] == 1
    assert await transport.read_map(SHARE, "files", [*"abcd"]) == {**most, "d": "4"}
    assert await transport.write_map(SHARE, "files", {"d": None}) == {}
    assert await transport.read_map(SHARE, "files") == most


async def test_a_map_is_changed_and_its_keys_removed(backend: Backend) -> None:
    transport = await backend.make()
    await transport.write_map(SHARE, "files", {"a": "1", "b": "2", "c": "3"})
    now = await transport.write_map(SHARE, "files", {"a": "9", "b": None, "x": None})
    assert now == {"a": "9"}
    assert await transport.read_map(SHARE, "files") == {"a": "9", "c": "3"}
    assert await transport.write_map(SHARE, "files", {}) == {}


async def test_what_is_there_stays_with_keep(backend: Backend) -> None:
    transports = [await backend.make() for _ in range(3)]
    claims = await asyncio.gather(
        *(
            transport.write_map(SHARE, "files", {"path": f"id{number}"}, keep=True)
            for number, transport in enumerate(transports * 4)
        )
    )
    assert len({claim["path"] for claim in claims}) == 1
    assert await transports[0].read_map(SHARE, "files") == claims[0]


async def test_a_save_is_recorded(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=1)
    record = {"hash": "abc", "mtime": "today"}
    await transport.mark_saved(ROOM, log, offsets[0], record, KEEP_S)
    saved = await transport.read_map(ROOM, "saved", ["hash", "mtime", "offset"])
    assert saved == {**record, "offset": offsets[0]}
    await transport.mark_saved(ROOM, log, offsets[1], {"hash": "def"}, KEEP_S)
    saved = await transport.read_map(ROOM, "saved", ["hash", "mtime", "offset"])
    assert saved == {"hash": "def", "mtime": "today", "offset": offsets[1]}
    with pytest.raises(LogChanged):
        await transport.mark_saved(ROOM, "lineage/other", offsets[1], {"hash": "x"}, KEEP_S)
    assert (await transport.read_map(ROOM, "saved", ["hash"])) == {"hash": "def"}


async def test_the_unsaved_outlives_what_was_saved_before_it(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=1)
    await transport.mark_saved(ROOM, log, offsets[0], {}, 0.05)

    async def there() -> bool:
        return (await transport.read_log(ROOM, None, ZERO_OFFSET)).log == log

    await holds(there, 0.2, "the log with unsaved entries")


async def test_a_room_that_is_expired_is_gone(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=1)
    await hold(transport, "a")
    await transport.mark_saved(ROOM, log, offsets[0], {"hash": "abc"}, KEEP_S)
    await seeded(transport, OTHER_ROOM)
    await transport.expire_room(ROOM, log, 1000)
    assert (await transport.read_log(ROOM, None, ZERO_OFFSET)).log == log
    await transport.expire_room(ROOM, log, 0)
    assert await transport.read_log(ROOM, None, ZERO_OFFSET) == LogRead(None, False, [])
    assert await transport.read_map(ROOM, "saved") == {}
    assert (await transport.read_log(OTHER_ROOM, None, ZERO_OFFSET)).log is not None
    with pytest.raises(LogChanged):
        await transport.expire_room(ROOM, log, 0)


async def test_a_log_that_another_replica_has_begun_is_not_expired(backend: Backend) -> None:
    """Whoever gives up a damaged log may come late: what is there by then is another's."""
    transport, other = await backend.make(), await backend.make()
    log, *_ = await seeded(transport)
    await transport.expire_room(ROOM, log, 0)
    begun = await other.seed_log(ROOM, "lineage", "b", b"seed of b")
    await other.append_log(ROOM, begun.log, "b", b"acknowledged")
    for after_s in (0, 1000):
        with pytest.raises(LogChanged):
            await transport.expire_room(ROOM, log, after_s)
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert payloads(read) == [b"seed of b", b"acknowledged"]


async def test_a_log_that_has_gone_on_is_not_expired(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=1)
    await transport.append_log(ROOM, log, "b", b"acknowledged")
    with pytest.raises(LogChanged):
        await transport.expire_room(ROOM, log, 0, tail=offsets[-1])
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert payloads(read) == [b"seed", b"entry 0", b"acknowledged"]
    await transport.expire_room(ROOM, log, 0, tail=read.tail)
    assert (await transport.read_log(ROOM, None, ZERO_OFFSET)).log is None


# -- the cluster ---------------------------------------------------------------------------


async def test_heartbeats_show_who_is_there(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    first = await one.heartbeat("a", "session-a", forget_s=60, keep_s=KEEP_S)
    assert first.session == "session-a"
    assert set(first.ages_s) == {"a"}
    second = await two.heartbeat("b", "session-b", forget_s=60, keep_s=KEEP_S)
    assert second.session == "session-a"
    assert set(second.ages_s) == {"a", "b"}
    assert all(0 <= age < 5 for age in second.ages_s.values())


async def test_a_silent_replica_ages_and_is_forgotten(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    await one.heartbeat("a", "s", forget_s=60, keep_s=KEEP_S)

    async def age(forget_s: float) -> float | None:
        view = await two.heartbeat("b", "s", forget_s=forget_s, keep_s=KEEP_S)
        assert view.ages_s["b"] < 0.1
        return view.ages_s.get("a")

    async def aged() -> bool:
        seen = await age(60)
        return seen is not None and seen > 0.2

    await until(aged, 3)
    assert await age(0.1) is None
    assert await age(60) is None


async def test_a_replica_that_says_goodbye_is_forgotten_at_once(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    await one.heartbeat("a", "s", forget_s=60, keep_s=KEEP_S)
    await one.farewell("a")
    await one.farewell("never there")
    view = await two.heartbeat("b", "s", forget_s=60, keep_s=KEEP_S)
    assert set(view.ages_s) == {"b"}


# -- losing the connection -----------------------------------------------------------------

CALLS: dict[str, Callable[[SyncTransport], Awaitable[object]]] = {
    "publish": lambda t: t.publish(ROOM, b"x"),
    "subscribe": lambda t: t.subscribe(OTHER_ROOM, lambda message: None),
    "seed_log": lambda t: t.seed_log(ROOM, "lineage", "a", b"x"),
    "append_log": lambda t: t.append_log(ROOM, "lineage/1", "a", b"x"),
    "read_log": lambda t: t.read_log(ROOM, None, ZERO_OFFSET),
    "compact_log": lambda t: t.compact_log(ROOM, "lineage/1", "1-0", b"x"),
    "read_history": lambda t: t.read_history(ROOM),
    "trim_history": lambda t: t.trim_history(ROOM, "lineage/1", "1-0", b"x"),
    "hold_lease": lambda t: t.hold_lease(ROOM, "a", want=True, ttl_s=6, keep_s=KEEP_S),
    "mark_saved": lambda t: t.mark_saved(ROOM, "lineage/1", "1-0", {}, KEEP_S),
    "read_map": lambda t: t.read_map(SHARE, "files"),
    "write_map": lambda t: t.write_map(SHARE, "files", {"a": "1"}),
    "expire_room": lambda t: t.expire_room(ROOM, "log", 10),
    "heartbeat": lambda t: t.heartbeat("a", "s", forget_s=60, keep_s=KEEP_S),
    "farewell": lambda t: t.farewell("a"),
}


async def test_a_transport_that_is_cut_off_is_unavailable_and_comes_back(
    backend: Backend,
) -> None:
    transport = await backend.make()
    log, first = await seeded(transport)
    await cut_off(backend, transport)
    for name, call in CALLS.items():
        (outcome,) = await asyncio.gather(call(transport), return_exceptions=True)
        assert type(outcome) is TransportUnavailable, name
    await transport.unsubscribe(OTHER_ROOM)
    await backend.reconnect()
    await until(lambda: transport.state is TransportState.CONNECTED)
    appended = await transport.append_log(ROOM, log, "a", b"after")
    assert appended.previous == first


async def test_whatever_is_under_way_while_it_is_cut_off_ends_with_an_own_error(
    backend: Backend,
) -> None:
    transport = await backend.make()
    (log, _) = await seeded(transport)
    calls = [call(transport) for call in (*CALLS.values(),) * 3]
    calls += [transport.append_log(ROOM, log, "a", b"x" * 10_000) for _ in range(100)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    await backend.disconnect()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert [error for error in errors if not isinstance(error, TransportError)] == []


async def test_whatever_is_under_way_while_it_is_closed_ends(backend: Backend) -> None:
    transport = await backend.make()
    (log, _) = await seeded(transport)
    calls = [transport.append_log(ROOM, log, "a", b"x" * 10_000) for _ in range(2000)]
    calls += [transport.read_log(ROOM, None, ZERO_OFFSET) for _ in range(3)]
    calls += [transport.subscribe(Scope("s", f"{n}"), lambda message: None) for n in range(50)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0.002)
    await transport.aclose()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert [error for error in errors if not isinstance(error, TransportError)] == []


async def test_subscriptions_outlive_a_disconnect(backend: Backend) -> None:
    one, two = await backend.make(), await backend.make()
    before: list[bytes] = []
    meanwhile: list[bytes] = []
    gone: list[bytes] = []
    await one.subscribe(ROOM, before.append)
    await one.subscribe(SHARE, gone.append)
    await cut_off(backend, one, two)
    with pytest.raises(TransportUnavailable):
        await one.subscribe(OTHER_ROOM, meanwhile.append)
    await one.unsubscribe(SHARE)
    await backend.reconnect()
    await until(lambda: one.state is two.state is TransportState.CONNECTED)
    for scope in (ROOM, OTHER_ROOM, SHARE):
        await two.publish(scope, b"x")
    await until(lambda: before == [b"x"] and meanwhile == [b"x"])
    await holds(lambda: not gone, 0.1)


async def test_closing_leaves_no_task_and_no_subscription(backend: Backend) -> None:
    transport = await backend.make()
    await transport.subscribe(ROOM, lambda message: None)
    await seeded(transport)
    await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert backend.listeners() == 1
    await transport.aclose()
    await until(lambda: backend.listeners() == 0)
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in left if name.startswith("teleportal")]


# -- how much a log is ---------------------------------------------------------------------


async def test_a_log_says_how_much_it_is(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=3)
    size = await transport.log_size(ROOM, log)
    assert size == LogSize(4, 4 + 3 * 7, offsets[0], offsets[-1], 0)
    large = await transport.append_log(ROOM, log, "a", bytes(200_000))
    await transport.compact_log(ROOM, log, offsets[1], b"checkpoint")
    size = await transport.log_size(ROOM, log)
    assert size == LogSize(5, 200_000 + 25, offsets[0], large.offset, 10)
    await transport.trim_history(ROOM, log, offsets[1], b"base", entries=1, payload_bytes=4)
    size = await transport.log_size(ROOM, log)
    assert size == LogSize(4, 200_000 + 21, offsets[1], large.offset, 14)
    assert size.bytes == 200_035
    # Whoever trims need not know how much that is.
    await transport.trim_history(ROOM, log, large.offset, b"base")
    assert (await transport.log_size(ROOM, log)).payload_bytes == 200_000
    with pytest.raises(LogChanged):
        await transport.log_size(ROOM, "lineage/other")


async def test_a_history_is_read_in_pages(backend: Backend) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=1)
    for size in (300_000, 10, 2_000_000, 10):
        appended = await transport.append_log(ROOM, log, "a", bytes(size))
        offsets.append(appended.offset)
    await transport.trim_history(ROOM, log, offsets[1], b"base")
    whole = await transport.read_history(ROOM)
    assert whole.base == b"base"
    assert [entry.offset for entry in whole.entries] == offsets[1:]
    sizes = [len(entry.payload) for entry in whole.entries]
    assert sizes == [7, 300_000, 10, 2_000_000, 10]
    pages: list[list[int]] = []
    after = None
    while True:
        page = await transport.read_history(ROOM, after=after, max_bytes=300_010)
        assert page.base == (b"base" if after is None else None)
        if not page.entries:
            break
        pages.append([len(entry.payload) for entry in page.entries])
        after = page.entries[-1].offset
    assert pages == [[7, 300_000], [10], [2_000_000], [10]]


@pytest.mark.parametrize("size", [70_000, 3_000_000, 13_000_000])
async def test_what_is_large_comes_back_as_it_went(backend: Backend, size: int) -> None:
    """Payloads, checkpoints, what stands for the forgotten, and what is kept of crossings."""
    transport = await backend.make()
    data = random.Random(size).randbytes(size)
    seed = await transport.seed_log(ROOM, "lineage", "a", data)
    again = await transport.seed_log(ROOM, "lineage", "a", data)
    assert (again.won, again.log) == (False, seed.log)
    small = await transport.append_log(ROOM, seed.log, "a", b"small")
    large = await transport.append_log(ROOM, seed.log, "a", data + b"more")
    expected = [b"small", data + b"more"]
    for log, after in ((seed.log, seed.offset), (None, ZERO_OFFSET), (seed.log, large.offset)):
        read = await transport.read_log(ROOM, log, after)
        found = [data, *expected] if log is None else expected if after == seed.offset else []
        assert payloads(read) == found
    await transport.compact_log(ROOM, seed.log, small.offset, data + b"checkpoint")
    await transport.trim_history(ROOM, seed.log, large.offset, data + b"base")
    read = await transport.read_log(ROOM, None, ZERO_OFFSET)
    assert (read.checkpoint, payloads(read)) == (data + b"checkpoint", [data + b"more"])
    assert read.checkpoint_offset == small.offset
    history = await transport.read_history(ROOM)
    assert history.base == data + b"base"
    with pytest.raises(LogChanged):
        await transport.append_log(ROOM, "lineage/other", "a", data)
    text = data.hex()[:size]
    assert await transport.write_map(ROOM, "saved", {"crossing": text, "k": "v"}, keep=True) == {
        "crossing": text,
        "k": "v",
    }
    other = {"crossing": text + "0"}
    assert await transport.write_map(ROOM, "saved", other, keep=True) == {"crossing": text}
    assert await transport.write_map(ROOM, "saved", other) == other
    assert await transport.read_map(ROOM, "saved") == {**other, "k": "v"}
    assert await transport.read_map(ROOM, "saved", ["k", "x"]) == {"k": "v"}


async def test_whoever_trims_less_than_was_trimmed_already_comes_too_late(
    backend: Backend,
) -> None:
    transport = await backend.make()
    log, *offsets = await seeded(transport, count=4)
    await transport.compact_log(ROOM, log, offsets[4], b"checkpoint")
    await transport.trim_history(ROOM, log, offsets[3], b"base of three")
    await transport.trim_history(ROOM, log, offsets[1], b"base of one")
    history = await transport.read_history(ROOM)
    assert history.base == b"base of three"
    assert [entry.offset for entry in history.entries] == offsets[3:]
