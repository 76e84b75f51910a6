"""The pure core by itself: ``python -m pytest benchmarks/micro.py``, with pytest-benchmark.

No server, no Redis and no socket: what one edit costs in each of the steps between them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pycrdt import merge_updates

from benchmarks.load.edits import Counter, Pen, appended, varint
from benchmarks.load.notebooks import as_update
from jupyter_teleportal.clients.fanout import Fanout
from jupyter_teleportal.clients.turns import ClientTurns
from jupyter_teleportal.core.envelopes import (
    EntryEnvelope,
    decode_envelope,
    decode_payload,
    encode_payload,
)
from jupyter_teleportal.core.log_effects import Append, AppendState, Apply, Read, Seed
from jupyter_teleportal.core.replicator import Replicator
from jupyter_teleportal.core.values import Appended, LogRead, Seeded

pytest.importorskip("pytest_benchmark")

AUTHOR = 3_123_456_789
LOG = "0123456789abcdef/1"
SENDER = "replica-1.1"
CLIENTS = 50
UPDATES = 64

Benchmark = Any


def edit(number: int) -> bytes:
    return appended(varint(AUTHOR), number)


def offsets() -> Iterator[tuple[str, str]]:
    """Pairs of an offset and the one after it, without end."""
    return itertools.pairwise(f"1700000000000-{number}" for number in itertools.count(1))


def live(sender: str) -> tuple[Replicator, Iterator[tuple[str, str]]]:
    """A replicator that follows a log, and the offsets of the entries to come."""
    replicator = Replicator(sender)
    following = offsets()
    (read,) = replicator.connected()
    assert isinstance(read, Read)
    replicator.read_done(read, LogRead(None, contiguous=False, entries=[]))
    (seed,) = replicator.provide("0123456789abcdef", as_update())
    assert isinstance(seed, Seed)
    before, offset = next(following)
    effects = replicator.seed_done(seed, Seeded(won=True, log=LOG, offset=before))
    (state,) = (effect for effect in effects if isinstance(effect, AppendState))
    replicator.append_done(state, Appended(before, offset))
    assert replicator.settled
    return replicator, following


@pytest.mark.parametrize("size", [0, 24_000, 1_000_000])
def test_encode_payload(benchmark: Benchmark, size: int) -> None:
    update = as_update(size) if size else edit(1000)
    assert decode_payload(benchmark(encode_payload, update)) == update


@pytest.mark.parametrize("size", [0, 24_000, 1_000_000])
def test_decode_payload(benchmark: Benchmark, size: int) -> None:
    update = as_update(size) if size else edit(1000)
    assert benchmark(decode_payload, encode_payload(update)) == update


def test_encode_envelope(benchmark: Benchmark) -> None:
    payload = encode_payload(edit(1000))
    envelope = EntryEnvelope(SENDER, LOG, "1700000000000-1", "1700000000000-2", payload)
    assert decode_envelope(benchmark(envelope.encode)) == envelope


def test_decode_envelope(benchmark: Benchmark) -> None:
    payload = encode_payload(edit(1000))
    envelope = EntryEnvelope(SENDER, LOG, "1700000000000-1", "1700000000000-2", payload)
    assert benchmark(decode_envelope, envelope.encode()) == envelope


def test_keystroke_here(benchmark: Benchmark) -> None:
    """From the document's update to the log's answer."""
    replicator, following = live(SENDER)
    update = edit(1000)

    def keystroke() -> None:
        (effect,) = replicator.local_update(update)
        assert isinstance(effect, Append)
        replicator.append_done(effect, Appended(*next(following)))

    benchmark(keystroke)
    assert replicator.settled


def test_keystroke_there(benchmark: Benchmark) -> None:
    """From the message on the channel to what is to be applied."""
    replicator, following = live(SENDER)
    payload = encode_payload(edit(1000))

    def message() -> tuple[tuple[bytes], dict[str, Any]]:
        envelope = EntryEnvelope("replica-2.1", LOG, *next(following), payload)
        return (envelope.encode(),), {}

    def arrive(data: bytes) -> list[Any]:
        envelope = decode_envelope(data)
        assert isinstance(envelope, EntryEnvelope)
        return replicator.entry(envelope)

    effects = benchmark.pedantic(arrive, setup=message, rounds=2000)
    assert isinstance(effects[0], Apply)


def test_merge_of_a_batch(benchmark: Benchmark) -> None:
    """Updates that gathered while an append was under way."""
    updates = [edit(number) for number in range(1000, 1000 + UPDATES)]
    counter = Counter(AUTHOR)
    counter.seen = 1000
    counter.take(benchmark(merge_updates, *updates))
    assert counter.seen == 1000 + UPDATES


def test_fanout(benchmark: Benchmark) -> None:
    """Updates to all clients of a room, over connections that cost nothing."""

    class Event:
        def __init__(self, update: bytes) -> None:
            self.update = update

    class Silent:
        path = "room"

    sent: list[bytes] = []

    def send(client: Any, message: bytes) -> None:
        sent.append(message)

    events: list[Any] = [Event(edit(number)) for number in range(1000, 1000 + UPDATES)]
    clients: list[Any] = [Silent() for _ in range(CLIENTS)]
    fanout = Fanout(
        clients, logging.getLogger(), queue_max_bytes=1 << 20, turns=ClientTurns(0.01), send=send
    )

    def all_updates() -> None:
        sent.clear()
        for event in events:
            fanout.on_update(event)

    benchmark(all_updates)
    assert len(sent) == CLIENTS * UPDATES


def test_load_generator_makes_100_edits(benchmark: Benchmark) -> None:
    pen = Pen(AUTHOR, as_update(), cell=0)
    benchmark(pen.write, 100)


def test_load_generator_counts_an_edit(benchmark: Benchmark) -> None:
    counter = Counter(AUTHOR)
    counter.seen = 1
    numbers = itertools.count(1)

    def next_edit() -> tuple[tuple[bytes], dict[str, Any]]:
        return (edit(next(numbers)),), {}

    benchmark.pedantic(counter.take, setup=next_edit, rounds=2000)
    assert counter.seen == next(numbers)
