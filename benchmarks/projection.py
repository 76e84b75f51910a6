"""What many servers and documents would ask of Redis and of each server, from measured costs.

``python -m benchmarks.projection results.json`` takes what a server spends on an edit and on a
document from a file of results (W1 and W4 of ``teleportal-2``), measures what Redis spends on an
append, on a renewed lease and on a heartbeat on a Redis of its own, and prints what follows.

The model, for S servers, D open documents, each on K servers, of which a share A is being edited
with E edits a second:

- appends a second:  D * A * E
- leases asked for a second:  D * K / heartbeat interval
- heartbeats a second:  S / heartbeat interval, each of which reads S members
- Redis, cores:  appends * CPU of one + leases * CPU of one + heartbeats * CPU of one
- a server, cores:  (D * K / S) * idle CPU of a document + (appends * K / S) * CPU of an edit
- a server, memory:  (D * K / S) * memory of a document

It leaves out what it cannot know: the network, saves, outputs, and people who all come at nine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.values import LeaseWish, Scope
from jupyter_teleportal.transports.base import SyncTransport
from jupyter_teleportal.transports.redis.transport import create_redis_sync_transport

from .results import read
from .targets.redis_process import Redis

APPENDS = 20_000
AT_ONCE = 16
PAYLOAD_BYTES = 60
LEASES = 200
QUESTIONS = 100
HEARTBEATS = 200
TARGET = "teleportal-2"


@dataclass(frozen=True)
class Costs:
    """What things cost: CPU in seconds, memory in bytes."""

    redis_append: float
    redis_lease: float
    redis_heartbeat: float
    edit: float
    idle_document: float
    document_bytes: float
    redis_document_bytes: float


@dataclass(frozen=True)
class Load:
    """How many there are of everything (see the model above)."""

    servers: int
    documents: int
    servers_each: float
    edited_share: float
    edits_per_s: float
    heartbeat_s: float = Timing().heartbeat_interval_s


def project(costs: Costs, load: Load) -> dict[str, float]:
    """Return what `load` would take, by what it is called."""
    appends = load.documents * load.edited_share * load.edits_per_s
    leases = load.documents * load.servers_each / load.heartbeat_s
    heartbeats = load.servers / load.heartbeat_s
    here = load.documents * load.servers_each / load.servers
    redis = {
        "Redis: appends, cores": appends * costs.redis_append,
        "Redis: leases, cores": leases * costs.redis_lease,
        "Redis: heartbeats, cores": heartbeats * costs.redis_heartbeat,
    }
    return {
        "appends a second": appends,
        "leases asked for a second": leases,
        **redis,
        "Redis: all, cores": sum(redis.values()),
        "Redis: memory, GB": load.documents * costs.redis_document_bytes / 1e9,
        "a server: documents": here,
        "a server: idle, cores": here * costs.idle_document,
        "a server: edits, cores": appends * load.servers_each / load.servers * costs.edit,
        "a server: memory of documents, MB": here * costs.document_bytes / 1e6,
    }


async def _cpu(client: redis.Redis, work: Callable[[], Awaitable[object]], count: int) -> float:
    """The seconds of CPU that Redis spends on each of the `count` things that `work` does."""

    def used() -> float:
        found = client.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    before = used()
    await work()
    return (used() - before) / count


async def _append(transport: SyncTransport, scope: Scope) -> None:
    seeded = await transport.seed_log(scope, "lineage", "replica", b"seed")
    payload = bytes(PAYLOAD_BYTES)
    for _ in range(APPENDS // AT_ONCE):
        appends = [
            transport.append_log(scope, seeded.log, "replica", payload) for _ in range(AT_ONCE)
        ]
        await asyncio.gather(*appends)


async def measure_redis(servers: int) -> tuple[float, float, float]:
    """Redis' CPU, in seconds, of an append with two subscribers, of one lease that is renewed with
    many others, and of a heartbeat among `servers`."""
    log = logging.getLogger(__name__)
    timing = Timing()
    with tempfile.TemporaryDirectory(prefix="teleportal-projection-") as folder:
        store = Redis(Path(folder) / "redis")
        store.start()
        transports = [await create_redis_sync_transport(store.url, log=log) for _ in range(2)]
        client = store.cli()
        try:
            scope = Scope("default", "room")
            for transport in transports:
                await transport.subscribe(scope, lambda message: None)
            transport = transports[0]
            append = await _cpu(client, lambda: _append(transport, scope), APPENDS)

            wishes = [LeaseWish(Scope("default", f"room {n}"), True) for n in range(LEASES)]

            async def ask() -> None:
                for _ in range(QUESTIONS):
                    await transport.hold_leases(
                        wishes, "a", ttl_s=timing.lease_ttl_s, keep_s=timing.history_keep_s
                    )

            async def beat(name: str) -> None:
                await transport.heartbeat(
                    name,
                    "session",
                    forget_s=10 * timing.dead_after_s,
                    keep_s=timing.history_keep_s,
                )

            async def beats() -> None:
                for number in range(HEARTBEATS):
                    await beat(f"replica {number % servers}")

            lease = await _cpu(client, ask, QUESTIONS * LEASES)
            for number in range(servers):
                await beat(f"replica {number}")
            return append, lease, await _cpu(client, beats, HEARTBEATS)
        finally:
            for transport in transports:
                await transport.aclose()
            client.close()
            store.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--servers-each", type=float, default=2.0)
    parser.add_argument("--edited-share", type=float, default=0.1)
    parser.add_argument("--edits-per-s", type=float, default=2.0)
    options = parser.parse_args()
    results = read(options.results)
    typing, many = results.medians("W1", TARGET), results.medians("W4", TARGET)
    append, lease, heartbeat = asyncio.run(measure_redis(options.servers))
    open_twice = 2 * many["opened"]
    costs = Costs(
        redis_append=append,
        redis_lease=lease,
        redis_heartbeat=heartbeat,
        # Both servers' and Redis' part in one edit, so each server's is half of it at most.
        edit=typing["cpu_ms"] / 1000 / 2,
        idle_document=max(0.0, many["idle_cpus"] - many["empty_cpus"]) / open_twice,
        document_bytes=many["kb_servers"] * 1024 / 2,
        redis_document_bytes=many["kb_redis_data"] * 1024,
    )
    load = Load(
        options.servers,
        options.documents,
        options.servers_each,
        options.edited_share,
        options.edits_per_s,
    )
    for title, figures in (("costs", vars(costs)), ("load", vars(load))):
        print(title)
        for name, value in figures.items():
            print(f"  {name:36} {value:.3g}")
    print("follows")
    for name, value in project(costs, load).items():
        print(f"  {name:36} {value:,.3f}")


if __name__ == "__main__":
    main()
