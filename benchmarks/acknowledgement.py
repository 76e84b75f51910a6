"""How long an edit is at stake: from a keystroke until Redis holds it, and until the other's
browser shows it.

``python benchmarks/acknowledgement.py`` starts a Redis and two Jupyter servers of its own, and
types on one of them. What Redis holds is seen as another subscriber of the room's channel sees
it, to which Redis writes in the moment in which it answers the server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import redis.asyncio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.jupyter_process import JupyterProcess
from support.notebooks import write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient

EDITS_PER_S = 20
WARM_UP = 20


async def measure(fsync: str, edits: int) -> dict[str, list[float]]:
    """Type `edits` characters; return the milliseconds until each place had them."""
    took: dict[str, list[float]] = {"Redis": [], "the other browser": []}
    with tempfile.TemporaryDirectory(prefix="teleportal-benchmark-") as name:
        folder = Path(name)
        shared = folder / "shared"
        shared.mkdir()
        write_notebook(shared / "note.ipynb", [""])
        store = RedisServer(folder / "redis")
        store.start()
        servers = [
            JupyterProcess(shared, work_dir=folder / letter, name=letter, redis_url=store.url)
            for letter in "AB"
        ]
        client = redis.asyncio.Redis(port=store.port)
        try:
            await client.config_set("appendfsync", fsync)
            await asyncio.gather(*(server.start(60) for server in servers))
            session = await servers[0].session("note.ipynb")
            async with (
                RtcClient(servers[0], session, name="ann") as ann,
                RtcClient(servers[1], session, name="bob") as bob,
                client.pubsub() as channel,
            ):
                await channel.psubscribe("teleportal:sync:default:*")
                for number in range(WARM_UP + edits):
                    await asyncio.sleep(1 / EDITS_PER_S)
                    began = time.perf_counter()
                    ann.write("x")
                    there = await asyncio.gather(_entry(channel), _shown(bob, number + 1))
                    if number >= WARM_UP:
                        for times, at in zip(took.values(), there, strict=True):
                            times.append(1000 * (at - began))
        finally:
            await client.aclose()
            for server in servers:
                server.kill()
            store.kill()
    return took


async def _entry(channel: redis.asyncio.client.PubSub) -> float:
    while True:
        message = await channel.get_message(timeout=10)
        # Version 1, kind E: see docs/protocol.md.
        if message is not None and message["type"] == "pmessage" and message["data"][1:2] == b"E":
            return time.perf_counter()


async def _shown(client: RtcClient, length: int) -> float:
    while len(client.sources[0]) < length:  # noqa: ASYNC110 (as often as can be)
        await asyncio.sleep(0)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=400)
    options = parser.parse_args()
    print(f"{options.edits} keystrokes at {EDITS_PER_S}/s, one document; milliseconds")
    print(f"{'appendfsync':<12} {'until':<20} {'p50':>7} {'p99':>7} {'longest':>8}")
    for fsync in ("everysec", "always"):
        for place, times in asyncio.run(measure(fsync, options.edits)).items():
            p99 = statistics.quantiles(times, n=100)[98]
            print(
                f"{fsync:<12} {place:<20} {statistics.median(times):>7.2f} {p99:>7.2f} "
                f"{max(times):>8.2f}"
            )


if __name__ == "__main__":
    main()
