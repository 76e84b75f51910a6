"""A transport that can be reached and says no: the memory transport is as unkind as Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.waiting import until

from jupyter_teleportal.core.envelopes import EntryEnvelope, decode_envelope
from jupyter_teleportal.core.errors import TransportError, TransportRefused
from jupyter_teleportal.core.values import LeaseWish, Scope
from jupyter_teleportal.transports.base import SyncTransport

from .backends import Backend, MemoryBackend

HELD, OTHER, THIRD = Scope("share", "held"), Scope("share", "other"), Scope("share", "third")
CODES = ("OOM", "READONLY", "WRONGTYPE", "NOPERM")
LEASE = {"ttl_s": 60.0, "keep_s": 1000.0}


async def outcome(work: Awaitable[Any]) -> str:
    """What became of it: "taken", or the error's code."""
    try:
        result = await work
    except TransportRefused as error:
        return next((code for code in CODES if code in str(error)), str(error))
    except TransportError as error:
        return type(error).__name__
    refused = getattr(result, "refused", "")
    return str(refused).split(" ")[0] if refused else "taken"


async def everything(
    transport: SyncTransport, log: str, offset: str
) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every question that a server asks, by name; only `HELD` has a log, and a lease of "a"."""
    return {
        "seed a new log": lambda: transport.seed_log(OTHER, "lineage", "a", b"x"),
        "seed a log that is there": lambda: transport.seed_log(HELD, "lineage", "a", b"x"),
        "append": lambda: transport.append_log(HELD, log, "a", b"y"),
        "append to another log": lambda: transport.append_log(HELD, "other/1", "a", b"y"),
        "read": lambda: transport.read_log(HELD, None, "0-0"),
        "read a history": lambda: transport.read_history(HELD),
        "compact": lambda: transport.compact_log(HELD, log, offset, b"c"),
        "trim": lambda: transport.trim_history(HELD, log, offset, b"c"),
        "mark a save": lambda: transport.mark_saved(HELD, log, offset, {"hash": "h"}, 100),
        "read a map": lambda: transport.read_map(HELD, "saved"),
        "write a map": lambda: transport.write_map(HELD, "saved", {"k": "v"}),
        "write what is there": lambda: transport.write_map(HELD, "saved", {"k": "v"}, keep=True),
        "remove from a map": lambda: transport.write_map(HELD, "saved", {"k": None}),
        "expire": lambda: transport.expire_room(HELD, log, 1000),
        "publish": lambda: transport.publish(HELD, b"\x01"),
        "heartbeat": lambda: transport.heartbeat("a", "session", forget_s=60, keep_s=100),
        "farewell": lambda: transport.farewell("nobody"),
        "take a lease": lambda: transport.hold_lease(OTHER, "a", want=True, **LEASE),
        "renew a lease": lambda: transport.hold_lease(HELD, "a", want=True, **LEASE),
        "look at a lease": lambda: transport.hold_lease(HELD, "b", want=False, **LEASE),
    }


async def set_mood(backend: Backend, *, full: bool = False, read_only: bool = False) -> None:
    if isinstance(backend, MemoryBackend):
        backend.hub.full, backend.hub.read_only = full, read_only
        return
    with backend.server.cli() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb" if full else "0")
        if read_only:
            client.replicaof("127.0.0.1", 1)
        else:
            client.replicaof("no", "one")


NEEDS_MEMORY = {
    "seed a new log",
    "append",
    "compact",
    "trim",
    "mark a save",
    "write a map",
    "write what is there",
    "heartbeat",
    "take a lease",
}
WRITES = NEEDS_MEMORY | {"remove from a map", "expire", "farewell", "renew a lease"}


async def test_what_a_full_transport_refuses_and_what_goes_on(backend: Backend) -> None:
    await check_refusals(backend, mood="full", error="OOM", refused=NEEDS_MEMORY)


async def test_what_a_read_only_transport_refuses_and_what_goes_on() -> None:
    # A Redis that takes no writes is away as a whole, see test_redis_refusing.py.
    async with MemoryBackend() as backend:
        await check_refusals(backend, mood="read_only", error="READONLY", refused=WRITES)


async def check_refusals(backend: Backend, *, mood: str, error: str, refused: set[str]) -> None:
    transport = await backend.make()
    seeded = await transport.seed_log(HELD, "lineage", "a", b"x")
    await transport.hold_lease(HELD, "a", want=True, **LEASE)
    await transport.write_map(HELD, "saved", {"k": "v"})
    questions = await everything(transport, seeded.log, seeded.offset)
    await set_mood(backend, **{mood: True})
    outcomes = {what: await outcome(ask()) for what, ask in questions.items()}
    await set_mood(backend)
    expected = {what: error if what in refused else "taken" for what in questions}
    assert outcomes == {**expected, "append to another log": "LogChanged"}
    assert await outcome(questions["append"]()) == "taken"


async def test_a_lease_that_is_refused_says_how_things_are_all_the_same(backend: Backend) -> None:
    transport = await backend.make()
    seeded = await transport.seed_log(HELD, "lineage", "a", b"x")
    await set_mood(backend, full=True)
    view = await transport.hold_lease(HELD, "a", want=True, **LEASE)
    await set_mood(backend)
    assert (view.holder, view.log, view.tail) == (None, seeded.log, seeded.offset)
    assert "OOM" in view.refused


async def test_a_lease_that_cannot_be_renewed_is_its_holders_until_it_expires(
    backend: Backend,
) -> None:
    transport = await backend.make()
    await transport.hold_lease(HELD, "a", want=True, ttl_s=0.5, keep_s=100)
    await set_mood(backend, read_only=True)
    if isinstance(backend, MemoryBackend):  # a replica without its master shows no lease as expired
        view = await transport.hold_lease(HELD, "a", want=True, ttl_s=0.5, keep_s=100)
        assert (view.holder, view.refused[:8]) == ("a", "READONLY")
    await set_mood(backend)

    async def expired() -> bool:
        view = await transport.hold_lease(HELD, "b", want=False, **LEASE)
        return view.holder is None

    await until(expired, what="the end of the lease")


async def test_a_full_redis_lets_a_batch_go_on_that_has_written(backend: Backend) -> None:
    transport = await backend.make()
    await transport.hold_lease(HELD, "a", want=True, **LEASE)
    await set_mood(backend, full=True)
    wishes = [LeaseWish(OTHER, True), LeaseWish(HELD, True), LeaseWish(THIRD, True)]
    views = await transport.hold_leases(wishes, "a", **LEASE)
    await set_mood(backend)
    holders = [getattr(view, "holder", view) for view in views]
    assert holders == [None, "a", "a"]


async def test_a_large_payload_is_announced_by_its_offset_alone(backend: Backend) -> None:
    transport = await backend.make()
    seeded = await transport.seed_log(HELD, "lineage", "a", b"x")
    seen: list[EntryEnvelope] = []

    def take(message: bytes) -> None:
        envelope = decode_envelope(message)
        assert isinstance(envelope, EntryEnvelope)
        seen.append(envelope)

    await transport.subscribe(HELD, take)
    for size in (64 * 1024, 64 * 1024 + 1):
        await transport.append_log(HELD, seeded.log, "a", b"y" * size)
    await until(lambda: len(seen) == 2, what="both")
    assert [envelope.payload is None for envelope in seen] == [False, True]


@pytest.mark.parametrize("key", ["log", "checkpoint", "saved", "saver"])
async def test_a_key_of_the_wrong_kind(key: str) -> None:
    """Of one that Redis cannot mend; what it can: test_redis_odd_keys.py."""
    backend = MemoryBackend()
    transport = await backend.make()
    seeded = await transport.seed_log(HELD, "lineage", "a", b"x")
    backend.hub.wrong_type.add((HELD, key))
    questions = await everything(transport, seeded.log, seeded.offset)
    affected = {
        "append": {"log", "checkpoint"},
        "read": {"log", "checkpoint"},
        "mark a save": {"log", "checkpoint", "saved"},
        "renew a lease": {"log", "checkpoint", "saved", "saver"},
        "take a lease": set[str](),  # another room's
    }
    for what, keys in affected.items():
        expected = "WRONGTYPE" if key in keys else "taken"
        assert (what, await outcome(questions[what]())) == (what, expected)


async def test_a_right_that_is_missing_for_one_share(backend: Backend) -> None:
    mine, theirs = Scope("mine", "room"), Scope("theirs", "room")
    if isinstance(backend, MemoryBackend):
        transport = await backend.make()
        transport.forbidden = {(name, "theirs") for name in ("seed_log", "hold_lease", "read_map")}
    else:
        with backend.server.cli() as client:
            client.execute_command(
                *("ACL", "SETUSER", "team", "reset", "on", ">secret", "+@all"),
                *("~teleportal:sync:mine:*", "~teleportal:sync:replicas", "&teleportal:sync:*"),
            )
        scheme = backend.server.url.partition(":")[0]
        backend.server.url_at = lambda port: f"{scheme}://team:secret@127.0.0.1:{port}/0"  # type: ignore[method-assign]
        transport = await backend.make()
    for scope, expected in ((mine, "taken"), (theirs, "NOPERM")):
        for ask in (
            lambda scope=scope: transport.seed_log(scope, "lineage", "a", b"x"),
            lambda scope=scope: transport.hold_lease(scope, "a", want=True, **LEASE),
            lambda scope=scope: transport.read_map(scope, "saved"),
        ):
            assert await outcome(ask()) == expected


async def test_what_was_acknowledged_is_forgotten_by_a_rollback() -> None:
    backend = MemoryBackend()
    transport = await backend.make()
    seeded = await transport.seed_log(HELD, "lineage", "a", b"x")
    earlier = backend.hub.copy()
    await transport.append_log(HELD, seeded.log, "a", b"y")
    backend.hub.roll_back(earlier)
    read = await transport.read_log(HELD, None, "0-0")
    assert [entry.payload for entry in read.entries] == [b"x"]
