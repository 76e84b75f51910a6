"""What goes wrong: each fault begins, lasts, and heals. All that is random is drawn beforehand."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from support.hostile import QUESTION, Hostile, awareness, deadly, frame, sync

from .tabs import END
from .world import DOCUMENTS, FOREIGN, NOTEBOOKS, TEXT, at_least

if TYPE_CHECKING:
    from .world import World

LONGER_THAN_A_LEASE = (8.0, 10.0)
PREFIX = b"teleportal:sync:"
BIG_OUTPUT_BYTES = 20_000_000


@dataclass(frozen=True)
class Fault:
    """One fault, drawn: `needs` names what it needs for itself while it lasts."""

    name: str
    what: str
    needs: frozenset[str]
    run: Callable[[World], Awaitable[None]] = field(compare=False)


Draw = Callable[[random.Random, int], Fault]
KINDS: list[Draw] = []


def kind(*needs: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a maker: it draws from a generator and returns what is done, and how."""

    def register(make: Callable[[random.Random, int], tuple[str, Any]]) -> Any:
        def draw(rng: random.Random, replicas: int) -> Fault:
            what, run = make(rng, replicas)
            return Fault(make.__name__, what, frozenset(needs), run)

        KINDS.append(draw)
        return make

    return register


def draw_round(rng: random.Random, replicas: int) -> list[Fault]:
    """One fault, or two that do not need the same thing."""
    chosen = [rng.choice(KINDS)(rng, replicas)]
    if rng.random() < 0.4:
        other = rng.choice(KINDS)(rng, replicas)
        if not other.needs & chosen[0].needs:
            chosen.append(other)
    return chosen


# -- servers -----------------------------------------------------------------------------------


@kind("servers")
def server_killed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    at, seconds = rng.randrange(replicas), rng.uniform(1, 5)

    async def run(world: World) -> None:
        server = world.servers[at]
        server.kill()
        await asyncio.sleep(seconds)
        await world.start(server)

    return f"kill -9 of server {at}, started again after {seconds:.1f} s", run


@kind("servers")
def server_stopped(rng: random.Random, replicas: int) -> tuple[str, Any]:
    at, seconds = rng.randrange(replicas), rng.uniform(0, 3)

    async def run(world: World) -> None:
        server = world.servers[at]
        began = time.monotonic()
        if not await asyncio.to_thread(server.terminate, 15):
            raise AssertionError(f"{server.name} was not gone 15 s after SIGTERM")
        world.timeline.note("fault", f"{server.name} took {time.monotonic() - began:.1f} s to stop")
        await asyncio.sleep(seconds)
        await world.start(server)

    return f"SIGTERM to server {at}, started again after {seconds:.1f} s", run


@kind("servers")
def server_frozen(rng: random.Random, replicas: int) -> tuple[str, Any]:
    at, seconds = rng.randrange(replicas), rng.uniform(*LONGER_THAN_A_LEASE)

    async def run(world: World) -> None:
        world.servers[at].freeze()
        await asyncio.sleep(seconds)
        world.servers[at].thaw()

    return f"SIGSTOP of server {at} for {seconds:.1f} s", run


# -- Redis -------------------------------------------------------------------------------------


@kind("redis")
def redis_killed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(0.5, 6)

    async def run(world: World) -> None:
        world.redis.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(world.redis.start)

    return f"Redis killed for {seconds:.1f} s", run


@kind("redis", "servers")
def redis_killed_and_emptied(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(0.5, 6)

    async def run(world: World) -> None:
        world.redis.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(world.redis.restart, keep_data=False)

    return f"Redis killed, and empty when it is back after {seconds:.1f} s", run


@kind("redis", "servers")
def redis_flushed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    async def run(world: World) -> None:
        with world.redis.cli() as client:
            client.flushall()

    return "FLUSHALL", run


@kind("redis")
def redis_rolled_back(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(1, 4)

    async def run(world: World) -> None:
        older = world.folder / "older"
        await asyncio.to_thread(world.redis.copy_data, older)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(world.redis.roll_back, older)

    return f"failover to a Redis that lacks the last {seconds:.1f} s", run


@kind("redis")
def redis_frozen(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(2, 9)

    async def run(world: World) -> None:
        world.redis.pause()
        await asyncio.sleep(seconds)
        world.redis.resume()

    return f"SIGSTOP of Redis for {seconds:.1f} s", run


@kind("redis")
def redis_kills_clients(rng: random.Random, replicas: int) -> tuple[str, Any]:
    which = rng.choice(["normal", "pubsub"])
    times = rng.randint(1, 4)

    async def run(world: World) -> None:
        for _ in range(times):
            with world.redis.cli() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", which, "SKIPME", "yes")
            await asyncio.sleep(0.5)

    return f"CLIENT KILL TYPE {which}, {times} times", run


@kind("redis")
def redis_full(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(2, 7)

    async def run(world: World) -> None:
        with world.redis.cli() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
            await asyncio.sleep(seconds)
            client.config_set("maxmemory", "0")

    return f"Redis is full for {seconds:.1f} s", run


@kind("redis")
def redis_read_only(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(2, 7)

    async def run(world: World) -> None:
        with world.redis.cli() as client:
            # A demoted master: it goes on answering, and refuses to write.
            client.replicaof("127.0.0.1", "1")
            await asyncio.sleep(seconds)
            client.replicaof("NO", "ONE")

    return f"Redis is read-only for {seconds:.1f} s", run


@kind("redis")
def forged_keys(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick, junk = rng.random(), b"\xff\xfe" + rng.randbytes(10)
    where = rng.choice(["session", "replicas", "saver", "paths", "entry", "checkpoint"])
    what, update = deadly(rng)

    async def run(world: World) -> None:
        with world.redis.cli() as client:
            keys = world.room_keys("log")
            log = keys[int(pick * len(keys))]
            room = log.removesuffix(b":log")
            share = PREFIX + b"default:"
            if where == "session":
                client.set(PREFIX + b"session", junk, keepttl=True)
            elif where == "replicas":
                client.zadd(PREFIX + b"replicas", {junk: 1})
            elif where == "saver":
                client.set(room + b":saver", junk, px=3000)
            elif where == "paths":
                client.hset(share + b"paths", junk, junk)
            elif where == "checkpoint":
                client.hset(room + b":checkpoint", "update", junk)
            else:
                client.xadd(log, {"u": b"\0" + update, "r": junk})

    forged = f"{what} in a log" if where == "entry" else f"{junk!r} in {where}"
    return f"somebody writes {forged}", run


@kind("redis")
def log_trimmed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    keep, pick = rng.choice([0, 1, 5]), rng.random()

    async def run(world: World) -> None:
        keys = world.room_keys("log")
        with world.redis.cli() as client:
            client.xtrim(keys[int(pick * len(keys))], maxlen=keep, approximate=False)

    return f"a log trimmed to {keep} entries", run


@kind("redis", "servers")
def key_of_wrong_type(rng: random.Random, replicas: int) -> tuple[str, Any]:
    which = rng.choice(["log", "checkpoint", "saver", "saved"])
    pick, seconds = rng.random(), rng.uniform(1, 5)

    async def run(world: World) -> None:
        keys = world.room_keys(which)
        if not keys:
            return
        key = keys[int(pick * len(keys))]
        with world.redis.cli() as client:
            client.delete(key)
            client.rpush(key, "not what it was")
            await asyncio.sleep(seconds)
            # Nobody's program can know whose key it is; the operator deletes it.
            client.delete(key)

    return f"a key {which!r} of the wrong type for {seconds:.1f} s", run


# -- the network -------------------------------------------------------------------------------


def _of(world: World, at: int | None) -> list[Any]:
    return world.proxies if at is None else [world.proxies[at]]


def _whom(rng: random.Random, replicas: int) -> tuple[int | None, str]:
    at = rng.choice([None, *range(replicas)])
    return at, "all servers" if at is None else f"server {at}"


@kind("network")
def network_cut(rng: random.Random, replicas: int) -> tuple[str, Any]:
    (at, whom), seconds = _whom(rng, replicas), rng.uniform(1, 9)

    async def run(world: World) -> None:
        for proxy in _of(world, at):
            await proxy.cut()
        await asyncio.sleep(seconds)
        for proxy in _of(world, at):
            await proxy.heal()

    return f"{whom} cut off from Redis for {seconds:.1f} s", run


@kind("network")
def network_slow(rng: random.Random, replicas: int) -> tuple[str, Any]:
    (at, whom), seconds = _whom(rng, replicas), rng.uniform(2, 6)

    async def run(world: World) -> None:
        for proxy in _of(world, at):
            proxy.latency = 0.2
        await asyncio.sleep(seconds)
        for proxy in _of(world, at):
            proxy.latency = 0.0

    return f"200 ms between {whom} and Redis for {seconds:.1f} s", run


@kind("network")
def network_black_hole(rng: random.Random, replicas: int) -> tuple[str, Any]:
    (at, whom), seconds = _whom(rng, replicas), rng.uniform(2, 10)

    async def run(world: World) -> None:
        for proxy in _of(world, at):
            proxy.stall()
        await asyncio.sleep(seconds)
        for proxy in _of(world, at):
            await proxy.heal()

    return f"nothing gets through between {whom} and Redis for {seconds:.1f} s", run


# -- files -------------------------------------------------------------------------------------


def _with_token(name: str, token: str) -> Callable[[str], str | None]:
    def change(text: str) -> str | None:
        if name == TEXT:
            return text.replace(END, f"{token}\n{END}")
        notebook = json.loads(text)
        cell = {"cell_type": "markdown", "id": f"f{abs(hash(token))}", "metadata": {}}
        notebook["cells"].append({**cell, "source": token})
        return json.dumps(notebook, indent=1)

    return change


@kind("files")
def file_changed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name, number = rng.choice(FOREIGN), rng.randrange(10**9)
    token = f"<outside.{number}>"

    async def run(world: World) -> None:
        for _ in range(50):
            if world.replace_file(name, _with_token(name, token)) is not None:
                world.foreign_tokens[token] = name
                return
            await asyncio.sleep(0.05)

    return f"another program adds {token} to {name}", run


@kind("files", "servers")
def file_gone_for_a_while(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name, seconds, renamed = rng.choice(DOCUMENTS), rng.uniform(1, 5), rng.random() < 0.5

    async def run(world: World) -> None:
        path, aside = world.shared / name, world.folder / "aside"
        before = path.read_bytes()
        if renamed:
            path.rename(aside)
        else:
            path.unlink()
        await asyncio.sleep(seconds)
        if not path.exists():
            path.write_bytes(before)
        aside.unlink(missing_ok=True)

    how = "renamed" if renamed else "deleted"
    return f"{name} {how} by another program, and back after {seconds:.1f} s", run


@kind("files", "servers")
def file_read_only(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name, seconds = rng.choice(DOCUMENTS), rng.uniform(1, 7)

    async def run(world: World) -> None:
        set_read_only(world.shared / name, True)
        try:
            await asyncio.sleep(seconds)
        finally:
            set_read_only(world.shared / name, False)

    return f"{name} read-only for {seconds:.1f} s", run


def set_read_only(path: Path, read_only: bool) -> None:
    """Let nobody write `path`, or everybody. The superuser heeds no mode, only the attribute."""
    if os.geteuid() == 0:
        flag = "+i" if read_only else "-i"
        subprocess.run(["chattr", flag, path], check=True, capture_output=True)
    else:
        path.chmod(0o444 if read_only else 0o644)


@kind("files")
def file_touched(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name = rng.choice(DOCUMENTS)

    async def run(world: World) -> None:
        world.replace_file(name, lambda text: text)

    return f"{name} replaced by the same by another program", run


# -- clients -----------------------------------------------------------------------------------


@kind("clients")
def tab_does_not_read(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick, seconds = rng.random(), rng.uniform(2, 6)

    async def run(world: World) -> None:
        tab = world.readers[int(pick * len(world.readers))]
        await tab.stop_reading(seconds)

    return f"a tab reads nothing for {seconds:.1f} s", run


@kind("clients")
def tab_sends_garbage(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick = rng.random()
    messages = [rng.randbytes(rng.randint(1, 200)) for _ in range(20)]
    # Truncated sync messages, lengths that are not there, kinds that nobody knows.
    messages += [b"\x00", b"\x00\x02", b"\x00\x02\xff\xff\xff\xff\x0f", b"\x00\x07x", b"\x01\x05a"]

    async def run(world: World) -> None:
        tab = world.readers[int(pick * len(world.readers))]
        for message in messages:
            await tab.send_raw(message)

    return f"a tab sends {len(messages)} messages of garbage", run


@kind("clients")
def hostile_client(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick, at, seconds = rng.random(), rng.randrange(replicas), rng.uniform(2, 5)
    reads, (deadly_what, update) = rng.random() < 0.5, deadly(rng)
    what, block = rng.choice(
        (
            ("asks without a pause", frame(QUESTION) * 5000),
            ("moves its cursor without a pause", _moves()),
            ("shows a thousand cursors", frame(awareness(range(1000, 2000), 1))),
            (f"sends {deadly_what}", frame(sync(2, update))),
            ("sends half a frame", frame(rng.randbytes(100))[:50]),
            ("sends text", frame(b"hello", opcode=1) * 5000),
        )
    )

    async def run(world: World) -> None:
        tab = world.readers[int(pick * len(world.readers))]
        assert tab.session is not None
        client = Hostile.of(world.servers[at], tab.session, reads=reads)
        try:
            await asyncio.to_thread(client.connect)
            await asyncio.to_thread(lambda: client.flood(block, seconds).wait(seconds + 5))
        except OSError as error:
            world.timeline.note("fault", f"the hostile client was not let in: {error}")
        finally:
            await asyncio.to_thread(client.close)

    return f"a hostile client of server {at} {what} for {seconds:.1f} s", run


def _moves() -> bytes:
    return b"".join(frame(awareness([7], clock)) for clock in range(1, 5000))


@kind("clients")
def big_output(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick = rng.random()
    text = "".join(rng.choices("0123456789abcdef", k=1000)) * (BIG_OUTPUT_BYTES // 1000)

    async def run(world: World) -> None:
        tabs = [tab for tab in world.typists if tab.file in NOTEBOOKS]
        tab = tabs[int(pick * len(tabs))]
        began = time.monotonic()
        ids = [cell["id"] for cell in tab.notebook.ycells if cell["cell_type"] == "code"]

        def put(output: str) -> None:
            # Others add cells, before this one too.
            cells = tab.notebook.ycells
            tab.set_output(next(i for i, cell in enumerate(cells) if cell["id"] == ids[0]), output)

        put(text)
        await at_least(2, began)
        put("short again")

    return f"an output of {BIG_OUTPUT_BYTES // 10**6} MB, and cleared 2 s later", run


def heal_all(world: World) -> Awaitable[None]:
    """Undo whatever a fault that failed has left behind."""

    async def heal() -> None:
        for proxy in world.proxies:
            proxy.latency = 0.0
            await proxy.heal()
        try:
            with world.redis.cli(socket_connect_timeout=1) as client:
                client.replicaof("NO", "ONE")
        except redis.RedisError:
            world.redis.restart()

    return heal()
