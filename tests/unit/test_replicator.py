"""Replicas of one room under random schedules: messages lost, repeated and reordered, effects
answered late or never, the log trimmed, emptied and restarted, replicas cut off and started anew.

Whatever happens, once it is over all replicas hold the same document, with every edit in it.
"""

from __future__ import annotations

import copy
import random
import tracemalloc
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pycrdt import Array, Decoder, Doc, Text, merge_updates
from support.yjs_bytes import blocks, string

from jupyter_teleportal.core import crdt
from jupyter_teleportal.core.completeness import WAITING_MAX, WAITING_MAX_BYTES, Waiting
from jupyter_teleportal.core.crdt import EMPTY_UPDATE
from jupyter_teleportal.core.envelopes import EntryEnvelope, decode_payload, encode_payload
from jupyter_teleportal.core.errors import ForeignBytes
from jupyter_teleportal.core.log_decoding import decoded_log
from jupyter_teleportal.core.log_effects import (
    Append,
    AppendState,
    Apply,
    Convert,
    Effect,
    Linger,
    LoadContent,
    Phase,
    Problem,
    Quarantined,
    Read,
    Seed,
)
from jupyter_teleportal.core.replicator import (
    EARLY_MAX_ENTRIES,
    OUTBOX_MAX_UPDATES,
    Replicator,
)
from jupyter_teleportal.core.values import ZERO_OFFSET, Appended, Entry, LogRead, Seeded, offset_key

SEED_LINEAGE = "lineage"
INLINE_MAX_BYTES = 200
"""Entries that are larger are announced by their offsets only."""


def seed_update() -> bytes:
    doc = Doc(client_id=7)
    doc.get("items", type=Array).append("seed")
    return doc.get_update()


def clocks(doc: Doc) -> dict[int, int]:
    """The state vector, whose bytes come in no order."""
    decoder = Decoder(doc.get_state())
    count = decoder.read_var_uint()
    return {decoder.read_var_uint(): decoder.read_var_uint() for _ in range(count)}


def large_text(number: int) -> str:
    """What does not deflate to less than is announced with its content."""
    return random.Random(number).randbytes(INLINE_MAX_BYTES).hex()


@dataclass
class Server:
    """The other side of a transport, as a plain list."""

    log: str | None = None
    entries: list[Entry] = field(default_factory=list)
    tail: str = ZERO_OFFSET
    checkpoint: bytes | None = None
    checkpoint_offset: str = ZERO_OFFSET
    seeds: int = 0
    appends: int = 0
    clock: int = 0
    announced: Callable[[EntryEnvelope], None] = lambda envelope: None

    def next_offset(self) -> str:
        self.clock += 1
        return f"{self.clock}-0"

    def append(self, sender: str, payload: bytes) -> Appended:
        assert self.log is not None
        previous = self.tail if self.entries else ZERO_OFFSET
        entry = Entry(self.next_offset(), payload, sender)
        self.entries.append(entry)
        self.tail = entry.offset
        self.appends += 1
        announced = payload if len(payload) <= INLINE_MAX_BYTES else None
        self.announced(EntryEnvelope(sender, self.log, previous, entry.offset, announced))
        return Appended(previous, entry.offset)

    def seed(self, lineage: str, sender: str, payload: bytes) -> Seeded:
        if self.log is not None:
            return Seeded(False, self.log, self.tail)
        self.seeds += 1
        self.log = f"{lineage}/{self.seeds}"
        self.entries.clear()
        self.tail = ZERO_OFFSET
        return Seeded(True, self.log, self.append(sender, payload).offset)

    def read(self, log: str | None, after: str) -> LogRead:
        if self.log is None:
            return LogRead(None, False, [])
        if log == self.log:
            for position, entry in enumerate(self.entries):
                if entry.offset == after:
                    return LogRead(log, True, self.entries[position + 1 :], None, after)
        start = offset_key(self.checkpoint_offset)
        tail = [entry for entry in self.entries if offset_key(entry.offset) > start]
        return LogRead(self.log, False, tail, self.checkpoint, self.checkpoint_offset)

    def clear(self) -> None:
        self.log, self.tail = None, ZERO_OFFSET
        self.entries.clear()
        self.checkpoint, self.checkpoint_offset = None, ZERO_OFFSET


class Site:
    """One replica: a document, a replicator, and whatever is under way."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.server = server
        self.doc: Doc = Doc()
        # Written before anything is linked, as a document room writes its path.
        self.items = self.doc.get("items", type=Array)
        self.doc.get("state", type=Array).append(name)
        self.replicator = Replicator(name)
        self.replicator.door.known.state = self.doc.get_state
        self.pending: list[Effect] = []
        self.results: list[Callable[[], list[Effect]]] = []
        self.inbox: list[EntryEnvelope] = []
        self.connected = False
        self.applying = False
        self.applications_fail = False
        self.doc.observe(self._on_update)

    def _on_update(self, event) -> None:
        if not self.applying and event.update != EMPTY_UPDATE:
            self.perform(self.replicator.local_update(event.update))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Apply):
                # Some of it may be in the document all the same.
                self.apply(effect.updates[: len(effect.updates) // 2])
                if self.applications_fail:
                    self.perform(self.replicator.failed(effect))
                    return
                self.apply(effect.updates)
            elif isinstance(effect, Convert):
                raise AssertionError("there is one lineage here")
            elif isinstance(effect, Problem):
                raise AssertionError(effect.message)
            elif isinstance(effect, AppendState):
                self.pending.append(_Prepared(effect, self.doc.get_update(effect.since)))
            elif isinstance(effect, Seed):
                update = effect.update or self.doc.get_update()
                self.pending.append(_Prepared(effect, update))
            else:
                self.pending.append(effect)

    def apply(self, updates: tuple[bytes, ...]) -> None:
        self.applying = True
        with self.doc.transaction():
            for update in updates:
                self.doc.apply_update(update)
        self.applying = False

    def carry_out(self, index: int) -> None:
        """Let one effect reach the server; its result is on the way back."""
        effect = self.pending.pop(index)
        replicator, server = self.replicator, self.server
        if isinstance(effect, LoadContent):
            self.results.append(lambda: replicator.provide(SEED_LINEAGE, seed_update()))
            return
        if isinstance(effect, Linger):
            self.results.append(replicator.lingered)
            return
        base = effect.effect if isinstance(effect, _Prepared) else effect
        if not self.connected:
            self.results.append(lambda: replicator.failed(base))
        elif isinstance(base, Read):
            read = copy.deepcopy(server.read(base.log, base.after))
            self.results.append(lambda: replicator.read_done(base, read))
        elif isinstance(base, Seed):
            assert isinstance(effect, _Prepared)
            seeded = server.seed(base.lineage, self.name, encode_payload(effect.update))
            self.results.append(lambda: replicator.seed_done(base, seeded))
        elif isinstance(base, AppendState) and effect.update == EMPTY_UPDATE:
            self.results.append(lambda: replicator.nothing_to_append(base))
        else:
            assert isinstance(base, Append | AppendState)
            update = (
                effect.update if isinstance(effect, _Prepared) else merge_updates(*base.updates)
            )
            if server.log != base.log:
                self.results.append(lambda: replicator.failed(base, changed=True))
                return
            appended = server.append(self.name, encode_payload(update))
            self.results.append(lambda: replicator.append_done(base, appended))

    def deliver_result(self, index: int) -> None:
        self.perform(self.results.pop(index)())

    def lose_result(self, index: int) -> None:
        """The connection breaks while an answer is on its way."""
        self.results.pop(index)
        self.disconnect()

    def disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self.inbox.clear()
            self.perform(self.replicator.disconnected())

    def connect(self) -> None:
        self.connected = True
        self.perform(self.replicator.connected())

    def settle(self) -> bool:
        """Carry out everything that is under way; return whether there was anything."""
        busy = bool(self.pending or self.results or self.inbox)
        while self.pending:
            self.carry_out(0)
        while self.results:
            self.deliver_result(0)
        while self.inbox:
            self.perform(self.replicator.entry(self.inbox.pop(0)))
        return busy

    def tick(self) -> None:
        server = self.server
        tail = server.tail if server.entries else ZERO_OFFSET
        self.perform(self.replicator.observed(server.log, tail, self.replicator.offset))


def settle(sites: list[Site]) -> None:
    """Carry out everything that is under way anywhere."""
    busy = True
    while busy:
        busy = False
        for site in sites:
            busy = site.settle() or busy


@dataclass(frozen=True)
class _Prepared(Effect):
    """An effect whose bytes were taken from the document when it was due."""

    effect: Effect = None  # type: ignore[assignment]
    update: bytes = b""


picks = st.integers(min_value=0, max_value=10**6)


class OneRoom(RuleBasedStateMachine):
    """Three replicas of one room."""

    @initialize()
    def start(self) -> None:
        self.server = Server()
        self.server.announced = self.announce
        self.written: list[str] = []
        self.emptied = False
        self.sites = [Site(name, self.server) for name in "abc"]
        self.names = iter(f"r{number}" for number in range(10_000))
        for site in self.sites:
            site.connect()

    def announce(self, envelope: EntryEnvelope) -> None:
        for site in self.sites:
            if site.connected:
                site.inbox.append(envelope)

    def pick(self, number: int) -> Site:
        return self.sites[number % len(self.sites)]

    @rule(number=picks, where=picks, large=st.booleans())
    def edit(self, number: int, where: int, large: bool) -> None:
        site = self.pick(number)
        if site.replicator.lineage is None:
            return  # clients are let in once there is content
        text = f"e{len(self.written)}" + large * large_text(len(self.written))
        self.written.append(text)
        site.items.insert(where % (len(site.items) + 1), text)

    @rule(number=picks, which=picks)
    def effect_arrives(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.pending:
            site.carry_out(which % len(site.pending))

    @rule(number=picks, which=picks)
    def result_arrives(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.results:
            site.deliver_result(which % len(site.results))

    @rule(number=picks, which=picks)
    def result_is_lost(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.results:
            site.lose_result(which % len(site.results))

    @rule(number=picks, which=picks)
    def message_arrives(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.inbox:
            site.perform(site.replicator.entry(site.inbox.pop(which % len(site.inbox))))

    @rule(number=picks, which=picks)
    def message_is_lost(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.inbox:
            site.inbox.pop(which % len(site.inbox))

    @rule(number=picks, which=picks)
    def message_is_repeated(self, number: int, which: int) -> None:
        site = self.pick(number)
        if site.inbox:
            site.inbox.append(site.inbox[which % len(site.inbox)])

    @rule(number=picks)
    def cut_off(self, number: int) -> None:
        self.pick(number).disconnect()

    @rule(number=picks)
    def what_is_applied_fails(self, number: int) -> None:
        self.pick(number).applications_fail = True

    @rule(number=picks)
    def what_is_applied_is_applied(self, number: int) -> None:
        self.pick(number).applications_fail = False

    @rule(number=picks)
    def come_back(self, number: int) -> None:
        self.pick(number).connect()

    @rule(number=picks)
    def tick(self, number: int) -> None:
        site = self.pick(number)
        if site.connected:
            site.tick()

    @precondition(lambda self: self.server.log is not None)
    @rule(number=picks)
    def compact_and_trim(self, number: int) -> None:
        site = self.pick(number)
        replicator = site.replicator
        if not replicator.settled or replicator.log != self.server.log or not site.connected:
            return
        self.server.checkpoint = encode_payload(site.doc.get_update())
        self.server.checkpoint_offset = replicator.offset
        start = offset_key(replicator.offset)
        self.server.entries[:-1] = [
            entry for entry in self.server.entries[:-1] if offset_key(entry.offset) > start
        ]

    @rule()
    def the_log_is_emptied(self) -> None:
        # What only a dead replica held would be lost for good.
        if all(site.replicator.lineage is not None for site in self.sites):
            self.server.clear()
            self.emptied = True

    @precondition(lambda self: self.server.log is not None and self.server.checkpoint is None)
    @rule(count=st.integers(min_value=1, max_value=3))
    def the_end_of_the_log_is_forgotten(self, count: int) -> None:
        """As after a failover to a server that was behind."""
        if len(self.server.entries) > count:
            del self.server.entries[-count:]
            self.server.tail = self.server.entries[-1].offset
            self.emptied = True

    @rule(number=picks)
    def a_replica_dies_and_another_starts(self, number: int) -> None:
        site = self.pick(number)
        # Its clients keep what the log has not acknowledged, and this test has no clients.
        if self.emptied or not site.replicator.settled or not self.holds_all(site):
            return
        if site.replicator.log != self.server.log:
            return
        fresh = Site(next(self.names), self.server)
        self.sites[self.sites.index(site)] = fresh
        fresh.connect()

    def holds_all(self, site: Site) -> bool:
        """Whether the log holds what `site` holds."""
        doc: Doc = Doc()
        items = doc.get("items", type=Array)
        payloads = [entry.payload for entry in self.server.entries]
        if self.server.checkpoint is not None:
            payloads.insert(0, self.server.checkpoint)
        for payload in payloads:
            doc.apply_update(decode_payload(payload))
        return set(site.items.to_py()) <= set(items.to_py())

    @invariant()
    def offsets_are_offsets(self) -> None:
        for site in getattr(self, "sites", []):
            offset_key(site.replicator.offset)

    def teardown(self) -> None:
        if not hasattr(self, "sites"):
            return
        for site in self.sites:
            site.applications_fail = False
            site.connect()
        for _ in range(50):
            settle(self.sites)
            for site in self.sites:
                site.tick()
            if not any(site.pending for site in self.sites):
                break
        states = [site.replicator for site in self.sites]
        assert all(replicator.phase is Phase.LIVE for replicator in states), states
        assert all(replicator.settled for replicator in states), states
        first = self.sites[0]
        for site in self.sites:
            assert site.items.to_py() == first.items.to_py()
            assert clocks(site.doc) == clocks(first.doc)
        assert sorted(first.items.to_py()) == sorted(["seed", *self.written])


OneRoom.TestCase.settings = settings(
    max_examples=400, stateful_step_count=60, deadline=None, print_blob=True
)
TestOneRoom = OneRoom.TestCase


def undisturbed(count: int) -> tuple[Server, list[Site]]:
    server = Server()
    sites = [Site(name, server) for name in "abcdefgh"[:count]]

    def announce(envelope: EntryEnvelope) -> None:
        for site in sites:
            site.inbox.append(envelope)

    server.announced = announce
    for site in sites:
        site.connect()
    settle(sites)
    return server, sites


def test_one_append_for_a_local_update_and_none_for_a_remote_one() -> None:
    server, sites = undisturbed(4)
    before = server.appends
    for number, site in enumerate(sites):
        site.items.append(f"edit {number}")
        settle(sites)
    assert server.appends - before == len(sites)


def test_what_could_not_be_applied_is_read_again() -> None:
    _, (one, two) = undisturbed(2)
    two.applications_fail = True
    offset = two.replicator.offset
    one.items.append("x")
    settle([one, two])
    assert (two.replicator.phase, two.replicator.offset) == (Phase.AWAY, offset)
    two.tick()
    settle([one, two])
    assert (two.replicator.phase, two.replicator.offset) == (Phase.AWAY, offset)
    two.applications_fail = False
    two.items.append("y")
    two.tick()
    settle([one, two])
    assert one.replicator.settled
    assert two.replicator.settled
    assert one.items.to_py() == two.items.to_py()
    assert sorted(one.items.to_py()) == ["seed", "x", "y"]


def test_what_gathers_while_an_append_is_under_way_goes_out_as_one() -> None:
    server, (site, _) = undisturbed(2)
    before = server.appends
    for number in range(100):
        site.items.append(f"edit {number}")
    while site.settle():
        pass
    assert server.appends - before == 2


def test_one_seed_for_replicas_that_open_at_once() -> None:
    server, sites = undisturbed(8)
    assert server.seeds == 1
    assert all(site.items.to_py() == ["seed"] for site in sites)


def test_a_full_outbox_collapses_to_the_documents_state() -> None:
    _, (site, other) = undisturbed(2)
    site.disconnect()
    for number in range(40):
        site.items.append(f"{number}" * 50_000)
    assert site.replicator.unacknowledged == 1
    site.connect()
    settle([site, other])
    assert site.replicator.settled
    assert other.items.to_py() == site.items.to_py()


def test_a_replica_that_may_not_write_never_appends() -> None:
    server, _ = undisturbed(2)
    reader = Site("reader", server)
    reader.replicator.writable = False
    reader.connect()
    while reader.settle():
        pass
    before = server.appends
    reader.items.append("mine alone")
    reader.perform(reader.replicator.reconcile())
    while reader.settle():
        pass
    assert server.appends == before
    assert reader.replicator.settled


def test_an_unreadable_entry_is_reported_and_passed_over() -> None:
    server, (site, _) = undisturbed(2)
    site.perform = lambda effects: seen.extend(effects)  # type: ignore[method-assign]
    seen: list[Effect] = []
    appended = server.append("somebody", b"\x07garbage")
    site.perform(site.replicator.entry(site.inbox.pop()))
    assert [effect for effect in seen if isinstance(effect, Problem)]
    assert site.replicator.offset == appended.offset


def test_an_entry_that_is_announced_by_its_offset_is_read_from_the_log() -> None:
    _, (site, other) = undisturbed(2)
    site.items.append(large_text(1))
    site.settle()
    assert other.inbox[-1].payload is None
    settle([site, other])
    assert other.items.to_py() == site.items.to_py()
    assert other.replicator.offset == site.replicator.offset


def behind(server: Server, site: Site, other: Site) -> None:
    """`site` has appended something, and `other` has it, that the log has forgotten since."""
    site.items.append("kept")
    settle([site, other])
    server.entries.pop()
    server.tail = server.entries[-1].offset
    # Where a log that has gone on continues is no older than what was forgotten.
    assert server.tail != site.replicator.offset


def test_a_forgotten_end_shows_by_the_next_entry() -> None:
    server, (site, other, late) = undisturbed(3)
    behind(server, site, other)
    late.inbox.clear()
    late.items.append("later")
    settle([late, site, other])
    assert sorted(site.items.to_py()) == ["kept", "later", "seed"]
    assert late.items.to_py() == site.items.to_py() == server_items(server)


def test_an_entry_that_only_says_it_goes_on_from_before_costs_no_whole_log() -> None:
    _, (site,) = undisturbed(1)
    replicator = site.replicator
    forged = EntryEnvelope("nobody", str(replicator.log), "0-1", "9999999999999-0", None)
    (read,) = replicator.entry(forged)
    assert isinstance(read, Read)
    assert (read.log, read.after) == (replicator.log, replicator.offset)


def test_a_forgotten_end_shows_by_a_look_at_the_tail() -> None:
    server, (site, other) = undisturbed(2)
    behind(server, site, other)
    site.tick()
    settle([site, other])
    assert server_items(server) == ["seed", "kept"]


def server_items(server: Server) -> list[str]:
    """What somebody who joins now reads."""
    doc: Doc = Doc()
    items = doc.get("items", type=Array)
    for entry in server.entries:
        doc.apply_update(decode_payload(entry.payload))
    return items.to_py()


def test_what_comes_while_the_log_is_read_has_a_bound() -> None:
    server, (site, other) = undisturbed(2)
    other.disconnect()
    other.connect()
    (reading,) = other.pending
    assert isinstance(reading, Read)
    for _ in range(EARLY_MAX_ENTRIES + 10):
        site.items.append("x")
        site.settle()
        other.perform(other.replicator.entry(other.inbox.pop()))
    assert len(other.replicator._early) <= EARLY_MAX_ENTRIES
    settle([site, other])
    other.tick()
    settle([site, other])
    assert len(other.items) == len(site.items) == EARLY_MAX_ENTRIES + 11
    assert other.replicator.offset == server.tail


def test_an_outbox_of_too_many_updates_collapses_too() -> None:
    _, (site, other) = undisturbed(2)
    site.disconnect()
    for _ in range(OUTBOX_MAX_UPDATES + 1):
        site.perform(site.replicator.local_update(b"\x00"))
    assert site.replicator.unacknowledged == 1
    site.items.append("after")
    site.connect()
    settle([site, other])
    assert other.items.to_py() == ["seed", "after"]


def test_an_entry_that_the_door_refuses_is_quarantined_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, (site, _) = undisturbed(2)
    other: Doc = Doc()
    other.get("items", type=Array).append("refused")
    update = other.get_update()
    monkeypatch.setattr(crdt, "_refused", OrderedDict({crdt._digest(update): "refused"}))
    refused = server.append("somebody", encode_payload(update))
    effects = site.replicator.entry(site.inbox.pop())
    assert [type(effect) for effect in effects] == [Quarantined]
    assert list(site.replicator.quarantined) == [refused.offset]
    assert site.replicator.offset == refused.offset
    later: Doc = Doc()
    later.get("items", type=Array).append("later")
    server.append("somebody", encode_payload(later.get_update()))
    site.settle()
    assert site.items.to_py() == ["seed", "later"]


def test_what_was_on_its_way_at_an_outage_is_sent_again() -> None:
    _, (site, other) = undisturbed(2)
    site.items.append("on its way")
    assert [type(effect) for effect in site.pending] == [Append]
    site.pending.clear()
    site.disconnect()
    site.connect()
    settle([site, other])
    assert other.items.to_py() == ["seed", "on its way"]


def test_a_state_that_was_on_its_way_at_an_outage_is_sent_again() -> None:
    _, (site, other) = undisturbed(2)
    site.items.append("on its way")
    site.settle()
    site.perform(site.replicator.reconcile())
    site.items.append("with it")
    site.carry_out(0)
    site.deliver_result(0)
    assert [type(effect) for effect in site.pending] == [_Prepared]
    site.pending.clear()
    site.disconnect()
    site.connect()
    settle([site, other])
    assert other.items.to_py() == ["seed", "on its way", "with it"]


def test_an_entry_whose_announcement_is_lost_is_found_at_the_tail() -> None:
    _, (site, other) = undisturbed(2)
    site.items.append("x")
    site.settle()
    other.inbox.clear()
    other.tick()
    settle([site, other])
    assert other.items.to_py() == ["seed", "x"]


def written(*parts: bytes, client: int = 40, clock: int = 0) -> bytes:
    return encode_payload(blocks(client, clock, *parts))


def test_an_entry_that_lacks_something_is_applied_when_that_has_come() -> None:
    server, sites = undisturbed(2)
    server.append("somebody", written(string("b", beside=(41, 0)), clock=1))
    server.append("somebody", written(string("a")))
    settle(sites)
    for site in sites:
        assert len(site.replicator.held) == 1
        assert written_text(site) == "a"
    late = Site("late", server)
    late.connect()
    while late.settle():
        pass
    assert written_text(late) == "a"
    assert len(late.replicator.held) == 1
    sites.append(late)
    server.append("somebody", written(string("c"), client=41))
    settle(sites)
    assert not any(site.replicator.held for site in sites)
    assert {len(written_text(site)) for site in sites} == {3}


def test_what_was_given_up_is_put_back_into_the_log_when_what_it_lacks_comes() -> None:
    server, sites = undisturbed(2)
    appended = server.append("somebody", written(string("b", beside=(41, 0))))
    settle(sites)
    for site in sites:
        (told,) = site.replicator.intake.give_up([appended.offset])
        assert "item 0 of client 41" in told.message  # type: ignore[attr-defined]
        assert not site.replicator.held
    before = server.appends
    server.append("somebody", written(string("c"), client=41))
    settle(sites)
    assert {written_text(site) for site in sites} == {"cb"}
    assert server.appends > before
    assert all(site.replicator.settled and not site.replicator.given_up for site in sites)


def test_what_waits_is_bounded_and_the_oldest_goes() -> None:
    waiting: Waiting[int] = Waiting()
    gone = [waiting.add(f"{n}", n, (5, n), 1) for n in range(WAITING_MAX + 2)]
    assert [one for some in gone for one in some] == [("0", 0, (5, 0)), ("1", 1, (5, 1))]
    assert len(waiting) == WAITING_MAX
    (last,) = [waiting.add("large", -1, (6, 0), WAITING_MAX_BYTES + 1)]
    assert len(waiting) == 1
    assert len(last) == WAITING_MAX


def written_text(site: Site) -> str:
    return str(site.doc.get("source", type=Text))


def test_what_has_waited_is_read_again_if_it_could_not_be_applied() -> None:
    server, (site, _) = undisturbed(2)
    server.append("somebody", written(string("b", beside=(41, 0))))
    site.perform(site.replicator.entry(site.inbox.pop()))
    assert len(site.replicator.held) == 1
    server.append("somebody", written(string("c"), client=41))
    apply, *_ = site.replicator.entry(site.inbox.pop())
    assert isinstance(apply, Apply)
    assert len(apply.updates) == 2
    assert not site.replicator.held
    site.replicator.failed(apply)
    assert written_text(site) == ""
    # Until then nothing that builds on it comes in.
    assert site.replicator.door.sift(blocks(42, 0, string("d", beside=(41, 0))))[1] == (41, 0)
    site.tick()
    while site.settle():
        pass
    assert written_text(site) == "cb"
    assert not site.replicator.held


def test_a_log_that_the_library_cannot_merge_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked to merge what passed the door, of which it may refuse something."""
    _, (site, other) = undisturbed(2)

    def refuse(updates: object) -> bytes:
        raise ForeignBytes("Cannot merge updates")

    monkeypatch.setattr("jupyter_teleportal.core.replicator.merge", refuse)
    site.perform(site.replicator.reconcile())
    site.items.append("more")
    settle([site, other])
    assert other.items.to_py() == ["seed", "more"]
    assert site.replicator.settled


def test_nothing_is_kept_of_what_inflates_to_much_and_is_no_update() -> None:
    bomb = b"\1" + zlib.compress(bytes(20_000_000))
    payloads = (bomb, bomb, bomb[:-9])
    read = LogRead("a/b", True, [Entry(f"{n}-0", one, "x") for n, one in enumerate(payloads, 1)])
    tracemalloc.start()
    try:
        found = decoded_log(read)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(one.error is not None for one in found)
    assert most > 20_000_000, "they were inflated"
    assert kept < 1_000_000


@pytest.mark.parametrize(
    ("offset", "read", "lost"),
    [
        ("2-0", LogRead("a/b", False, [Entry("1-0", b"", "x"), Entry("3-0", b"", "x")]), True),
        ("2-0", LogRead("a/b", False, [], b"", "1-0"), True),
        ("2-0", LogRead("a/b", False, [Entry("1-0", b"", "x"), Entry("2-0", b"", "x")]), False),
        ("2-0", LogRead("a/b", False, [], b"", "2-0"), False),
        ("2-0", LogRead("a/b", False, [Entry("3-0", b"", "x")], b"", "2-0"), False),
        ("2-0", LogRead("a/b", True, [Entry("3-0", b"", "x")]), False),
        ("2-0", LogRead("a/c", False, [Entry("1-0", b"", "x")]), False),
        ("2-0", LogRead(None, False, []), False),
        (ZERO_OFFSET, LogRead("a/b", False, [Entry("1-0", b"", "x")]), False),
    ],
)
def test_whether_the_log_has_lost_where_the_room_is(offset: str, read: LogRead, lost: bool) -> None:
    replicator = Replicator("a.1")
    replicator.log, replicator.offset = "a/b", offset
    assert replicator.lost_by(read) == (offset if lost else None)
