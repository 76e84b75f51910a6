"""What goes wrong but for files: each fault begins, lasts, and heals. All that is random is drawn
beforehand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import redis
from support.conflicts import insertions
from support.hostile import QUESTION, Hostile, awareness, deadly, frame, sync
from support.waiting import until

from .checks import CROWD, CROWDS
from .kinds import kind
from .world import DOCUMENTS, NOTEBOOKS, at_least

if TYPE_CHECKING:
    from support.jupyter_process import JupyterProcess

    from .world import World

LONGER_THAN_A_LEASE = (8.0, 10.0)
PREFIX = b"teleportal:sync:"
BIG_OUTPUT_BYTES = 20_000_000
# More than the servers send to Redis in one piece, also compressed.
PIECES_BYTES = 14_000_000
# A lease, a heartbeat and the ceiling of saving, and as much again for what goes wrong besides.
SEEN_SECONDS = 40.0
# Redis does not say which command it is that a script may not run.
IN_A_SCRIPT = "the user executing the script can't run this command"
WELL_SECONDS = 60.0


# -- servers -----------------------------------------------------------------------------------


@kind("servers")
def server_killed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    at, seconds = rng.randrange(replicas), rng.uniform(1, 5)

    async def run(world: World) -> None:
        server = world.servers[at]
        world.stopped_at = time.time()
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
        world.stopped_at = time.time()
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
    where = rng.choice(["session", "replicas", "saver", "paths", "entry", "checkpoint", "crowd"])
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
            elif where == "crowd":
                client.xadd(log, {"u": b"\0" + crowd(0), "r": junk})
                entry = client.xadd(log, {"u": b"\0" + crowd(1), "r": junk})
                await until(
                    lambda: _quarantined(world, entry.decode()),
                    SEEN_SECONDS,
                    what=f"the crowd in {log!r} quarantined",
                    poll=0.2,
                )
            else:
                client.xadd(log, {"u": b"\0" + update, "r": junk})

    forged = {"entry": f"{what} in a log", "crowd": f"{CROWD} insertions at one place in a log"}
    return f"somebody writes {forged.get(where, f'{junk!r} in {where}')}", run


def crowd(number: int) -> bytes:
    """An update of thousands of people, each of whom inserts something at one place, where nobody
    sees it. The library merges number 0 quickly, and goes through all of it for each insertion of
    the others."""
    people = range(CROWDS[number], CROWDS[number] + CROWD)
    return insertions(people, left=lambda _: None, parent=b"\x01\x05crowd")


async def _quarantined(world: World, entry: str) -> bool:
    """Whether a server names this entry of a log as one that was passed over."""
    for server in world.servers:
        with contextlib.suppress(Exception):
            rooms = (await server.status())["rooms"]
            if any(entry in room["quarantined"] for room in rooms):
                return True
    return False


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
    half = frame(rng.randbytes(100))[:50]
    what, block = rng.choice(
        (
            ("asks without a pause", lambda: frame(QUESTION) * 5000),
            ("moves its cursor without a pause", _moves),
            ("shows a thousand cursors", lambda: frame(awareness(range(1000, 2000), 1))),
            (f"sends {deadly_what}", lambda: frame(sync(2, update))),
            ("sends half a frame", lambda: half),
            ("sends text", lambda: frame(b"hello", opcode=1) * 5000),
            (f"sends {CROWD} insertions at one place", _crowds),
        )
    )

    async def run(world: World) -> None:
        tab = world.readers[int(pick * len(world.readers))]
        assert tab.session is not None
        client = Hostile.of(world.servers[at], tab.session, reads=reads)
        try:
            await asyncio.to_thread(client.connect)
            await asyncio.to_thread(lambda: client.flood(block(), seconds).wait(seconds + 5))
        except OSError as error:
            world.timeline.note("fault", f"the hostile client was not let in: {error}")
        finally:
            await asyncio.to_thread(client.close)

    return f"a hostile client of server {at} {what} for {seconds:.1f} s", run


def _crowds() -> bytes:
    return b"".join(frame(sync(2, crowd(number))) for number in range(len(CROWDS)))


def _moves() -> bytes:
    return b"".join(frame(awareness([7], clock)) for clock in range(1, 5000))


@kind("clients")
def big_output(rng: random.Random, replicas: int) -> tuple[str, Any]:
    pick = rng.random()
    text = "".join(rng.choices("0123456789abcdef", k=1000)) * (BIG_OUTPUT_BYTES // 1000)

    async def run(world: World) -> None:
        put = _cell_of(world, pick)
        began = time.monotonic()
        put(text)
        await at_least(2, began)
        put("short again")

    return f"an output of {BIG_OUTPUT_BYTES // 10**6} MB, and cleared 2 s later", run


def _cell_of(world: World, pick: float) -> Callable[[str], None]:
    """The first cell in a typist's notebook: what is called with an output puts it there."""
    tabs = [tab for tab in world.typists if tab.file in NOTEBOOKS]
    tab = tabs[int(pick * len(tabs))]
    ids = [cell["id"] for cell in tab.notebook.ycells if cell["cell_type"] == "code"]

    def put(output: str) -> None:
        # Others add cells, before this one too.
        cells = tab.notebook.ycells
        tab.set_output(next(i for i, cell in enumerate(cells) if cell["id"] == ids[0]), output)

    return put


# -- the servers' account, and the scripts -----------------------------------------------------


@kind("redis", only="confined")
def right_taken_away(rng: random.Random, replicas: int) -> tuple[str, Any]:
    right = rng.choice(["evalsha", "xadd", "append", "publish", "hset", "zadd"])
    pick, seconds = rng.random(), rng.uniform(2, 8)
    text = base64.b64encode(rng.randbytes(PIECES_BYTES)).decode() if right == "append" else ""

    async def run(world: World) -> None:
        began = time.monotonic()
        world.redis.take_right(right)
        try:
            if right == "append":
                # What is large goes in pieces, and nothing else does: one document is refused.
                put = _cell_of(world, pick)
                put(text)
                await _seen(world, right, by=any)
                put("short again")
            else:
                await _seen(world, right, IN_A_SCRIPT)
            await at_least(seconds, began)
        finally:
            world.redis.give_rights()
        await _well(world)

    return f"the account may not {right.upper()} for {seconds:.1f} s at least", run


@kind("redis")
def scripts_flushed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    times, at_once, seconds = rng.randint(1, 3), rng.random() < 0.3, rng.uniform(1, 8)

    async def run(world: World) -> None:
        for _ in range(times):
            began = time.monotonic()
            with world.redis.cli() as client:
                client.script_flush()
            if not world.redis.shares:
                # Whoever may load them does.
                await asyncio.sleep(seconds / times)
                continue
            if not at_once:
                await _seen(world, "scripts are not loaded")
                await at_least(seconds / times, began)
            # As the hub does as soon as it sees it.
            world.redis.load_scripts()
            await _well(world)

    return f"SCRIPT FLUSH, {times} times within {seconds:.1f} s at least", run


async def _seen(world: World, *words: str, by: Callable[[list[bool]], bool] = all) -> None:
    """Wait until servers say why nothing is shared, with one of these `words`, and what is typed
    then on the server that saves is in the files."""

    async def said() -> bool:
        return by([await _says(server, words) for server in world.servers])

    await until(said, SEEN_SECONDS, what=f"servers that say {words}", poll=0.2)
    # Which server saves what, nobody has to know: somebody types on each of them.
    began = time.time()
    for tab in world.readers:
        tab.type_token()
    # One that stops while Redis refuses has no successor before it is back.
    leases_end = began - LONGER_THAN_A_LEASE[0]
    await until(
        lambda: world.stopped_at > leases_end or not unsaved_since(world, began),
        SEEN_SECONDS,
        what=f"files with what was typed on the server that saves {words}",
        poll=0.2,
    )


async def _says(server: JupyterProcess, words: Sequence[str]) -> bool:
    """Whether health and status agree that not all is shared, and on the reason."""
    with contextlib.suppress(Exception):
        health = await server.call("GET", "/api/teleportal/health")
        reason = (await server.status())["reason"].lower()
        return health["status"] == "degraded" and any(word in reason for word in words)
    return False


def unsaved_since(world: World, began: float) -> list[str]:
    """The documents whose file holds nothing that was typed since then."""
    found = []
    for name in DOCUMENTS:
        new = [one.token for tab in world.tabs_on(name) for one in tab.typed if one.at >= began]
        try:
            text = (world.shared / name).read_text()
        except FileNotFoundError:
            text = ""
        if not any(token in text for token in new):
            found.append(name)
    return found


async def _well(world: World) -> None:
    """Wait until every server says that all is shared again."""

    async def well(server: JupyterProcess) -> bool:
        with contextlib.suppress(Exception):
            health = await server.call("GET", "/api/teleportal/health")
            return health["status"] == "ok" and not (await server.status())["reason"]
        return False

    for server in world.servers:
        await until(
            lambda server=server: well(server), WELL_SECONDS, what=f"{server.name} well", poll=0.2
        )


def heal_all(world: World) -> Awaitable[None]:
    """Undo whatever a fault that failed has left behind."""

    async def heal() -> None:
        for proxy in world.proxies:
            proxy.latency = 0.0
            await proxy.heal()
        try:
            with world.redis.cli(socket_connect_timeout=1) as client:
                client.replicaof("NO", "ONE")
                client.config_set("maxmemory", "0")
            if world.redis.shares:
                world.redis.give_rights()
                world.redis.load_scripts()
        except redis.RedisError:
            world.redis.restart()

    return heal()
