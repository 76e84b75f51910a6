"""Two real servers on a real Redis, two honest people who type, and one who means harm.

All that is done to them is drawn from a seed: valid and broken messages of clients, connections
that come and go in the middle of a message, floods, and bytes that somebody with the account of a
server could write into Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.hostile import (
    BINARY,
    PING,
    QUESTION,
    TEXT,
    Hostile,
    awareness,
    deadly,
    frame,
    state_vector,
    sync,
    updates,
    varint,
)
from support.jupyter_process import JupyterProcess, Session
from support.latency import Latency
from support.notebooks import write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient, equal
from support.server_logs import errors_in
from support.waiting import until

# What upstream says where a save is refused: a forged entry of a later version forbids to save.
KNOWN = ("Couldn't save content from room",)
PREFIX = "teleportal:sync:"
MOST_WAIT_S = 0.5
CONVERGED_S = 5.0
PAUSE_S = 0.15
PER_ACTION_S = 20.0
WRITTEN_BY_NOBODY = 4_000_000_100

Act = Callable[["HostileWorld", random.Random], "str"]
ACTS: list[Act] = []


def act(make: Act) -> Act:
    ACTS.append(make)
    return make


@dataclass
class Outcome:
    """How a run went.

    Attributes:
        story: what was done, in order.
        problems: what must not be; empty if all was well.
        worst_s: the longest that a keystroke in another document has waited.
        typed: how many keystrokes the honest people made.
        most_wait_s: the longest that a keystroke may wait.
    """

    seed: int
    story: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    worst_s: float = 0.0
    typed: int = 0
    most_wait_s: float = MOST_WAIT_S

    def summary(self) -> str:
        state = "; ".join(self.problems) or "all well"
        return (
            f"seed {self.seed}: {len(self.story)} attacks, {self.typed} keystrokes, the longest "
            f"waited {self.worst_s:.2f} s: {state}"
        )


class HostileWorld:
    """Everything that a run needs; `connections` are the hostile ones that are open."""

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer(folder / "redis")
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        self.servers = [
            JupyterProcess(self.shared, work_dir=folder / name, name=name, redis_url=self.redis.url)
            for name in ("a", "b")
        ]
        self.connections: list[Hostile] = []
        self.victim: Session
        self.edits = updates(200, client=WRITTEN_BY_NOBODY)
        self.clients: list[int] = []

    async def start(self) -> None:
        self.redis.start()
        write_notebook(self.shared / "bystander.ipynb", [""])
        write_notebook(self.shared / "other.ipynb", [""])
        (self.shared / "victim.txt").write_text("victim\n")
        for server in self.servers:
            await server.launch()
        for server in self.servers:
            await server.wait_until_up()
        self.victim = await self.servers[0].session("victim.txt", "text", "file")

    async def stop(self) -> None:
        for connection in self.connections:
            await asyncio.to_thread(connection.close)
        for server in self.servers:
            server.ask_to_stop()
        for server in self.servers:
            await asyncio.to_thread(server.terminate, 5)
        self.redis.kill()

    # -- what the attacks need -------------------------------------------------------------

    def connection(self, rng: random.Random) -> Hostile:
        """A hostile connection to the victim: one that is open, or another one."""
        self.connections = [one for one in self.connections if not one.ended]
        if self.connections and rng.random() < 0.7:
            return rng.choice(self.connections)
        made = Hostile.of(rng.choice(self.servers), self.victim, reads=rng.random() < 0.8)
        made.connect()
        self.connections.append(made)
        if len(self.connections) > 8:
            self.connections.pop(0).close()
        return made

    @property
    def room_key(self) -> str:
        return f"{PREFIX}default:{{{self.victim.room_id}}}"

    def log_id(self) -> bytes | None:
        with self.redis.cli() as client:
            found: Any = client.hget(self.room_key + ":checkpoint", "log")
            return found


# -- by way of a WebSocket ---------------------------------------------------------------------


def mutated(message: bytes, rng: random.Random) -> bytes:
    """The message with some bytes changed, cut off, doubled or put in."""
    data = bytearray(message)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                data[at:at] = b"\xff" * rng.choice((1, 9, 10, 11, 1000))
            case _:
                data += data[: rng.randrange(1, 200)]
    return bytes(data)


def some_message(world: HostileWorld, rng: random.Random) -> bytes:
    return rng.choice(
        (
            QUESTION,
            sync(0, state_vector(rng.randrange(1, 50))),
            sync(1, rng.choice(world.edits)),
            sync(2, rng.choice(world.edits)),
            awareness([rng.randrange(1, 2**32)], rng.randrange(1, 2**20)),
            b"\x02" + varint(4) + b"save" + varint(rng.randrange(1000)),
            b"\x03",
        )
    )


@act
def valid_edits(world: HostileWorld, rng: random.Random) -> str:
    count = rng.randrange(1, 100)
    to = world.connection(rng)
    to.send_raw(b"".join(frame(sync(2, rng.choice(world.edits))) for _ in range(count)))
    return f"{count} valid edits, some of them again, to {to.server.name}"


@act
def broken_messages(world: HostileWorld, rng: random.Random) -> str:
    to, count = world.connection(rng), rng.randrange(1, 200)
    to.send_raw(b"".join(frame(mutated(some_message(world, rng), rng)) for _ in range(count)))
    return f"{count} broken messages to {to.server.name}"


@act
def random_bytes_as_messages(world: HostileWorld, rng: random.Random) -> str:
    to, count = world.connection(rng), rng.randrange(1, 200)
    kinds = [
        frame(rng.randbytes(rng.randrange(100)), rng.choice((TEXT, BINARY))) for _ in range(count)
    ]
    to.send_raw(b"".join(kinds))
    return f"{count} messages of random bytes to {to.server.name}"


@act
def broken_frames(world: HostileWorld, rng: random.Random) -> str:
    to = world.connection(rng)
    to.send_raw(rng.randbytes(rng.randrange(1, 300)))
    return f"random bytes in the place of frames to {to.server.name}"


@act
def half_a_message(world: HostileWorld, rng: random.Random) -> str:
    to = world.connection(rng)
    whole = frame(some_message(world, rng) + rng.randbytes(50))
    to.send_raw(whole[: rng.randrange(1, len(whole))])
    if rng.random() < 0.7:
        to.close()
        return f"half a message to {to.server.name}, and gone"
    return f"half a message to {to.server.name}, and waits"


@act
def fragments(world: HostileWorld, rng: random.Random) -> str:
    to, message = world.connection(rng), some_message(world, rng)
    at = rng.randrange(len(message) + 1)
    ping = frame(rng.randbytes(rng.randrange(126)), PING)
    to.send_raw(frame(message[:at], BINARY, final=False) + ping + frame(message[at:], 0))
    return f"a message in two frames with a ping between to {to.server.name}"


@act
def comes_and_goes(world: HostileWorld, rng: random.Random) -> str:
    server, count = rng.choice(world.servers), rng.randrange(1, 20)
    for _ in range(count):
        one = Hostile.of(server, world.victim, reads=False).connect()
        if rng.random() < 0.5:
            one.send(QUESTION)
        one.close()
    return f"{count} connections to {server.name} that are dropped at once"


@act
def asks_without_a_pause(world: HostileWorld, rng: random.Random) -> str:
    to, count = world.connection(rng), rng.randrange(100, 20_000)
    to.send_raw(frame(QUESTION) * count)
    return f"{count} questions to {to.server.name}, which it {'reads' if to.reads else 'ignores'}"


@act
def hostile_cursors(world: HostileWorld, rng: random.Random) -> str:
    to = world.connection(rng)
    state = rng.choice(
        (
            "[1]",
            "null",
            '"text"',
            "{",
            "[" * 5000 + "]" * 5000,
            '{"user": 1, "cursors": "x"}',
            '{"autosave": [1]}',
            json.dumps({"user": {"name": "x" * 100_000}}),
        )
    )
    clients = [rng.randrange(2**32) for _ in range(rng.choice((1, 5, 1000)))]
    if world.clients and rng.random() < 0.5:
        clients = rng.sample(world.clients, 1)
    to.send(awareness(clients, rng.choice((1, 2**31, 2**32 - 1)), state))
    return f"{len(clients)} cursors that are {state[:30]} to {to.server.name}"


@act
def deadly_updates(world: HostileWorld, rng: random.Random) -> str:
    to, (what, update) = world.connection(rng), deadly(rng)
    to.send(sync(rng.choice((1, 2)), update))
    return f"{what} to {to.server.name}"


# -- by way of Redis ---------------------------------------------------------------------------


@act
def entries_in_the_log(world: HostileWorld, rng: random.Random) -> str:
    what, update = deadly(rng)
    if rng.random() < 0.5:
        what, update = "a broken edit", mutated(rng.choice(world.edits), rng)
    flag = rng.choice((b"\x00", b"\x00", b"\x01", b"\x02", b""))
    entry: dict[str, bytes] = {"u": flag + update, "r": rng.choice((b"nobody", b"\xff\xfe"))}
    if rng.random() < 0.1:
        entry = {"what": b"is this"}
    with world.redis.cli() as client:
        client.xadd(world.room_key + ":log", entry)  # type: ignore[arg-type]
    return f"{what} in the log"


@act
def messages_on_the_channel(world: HostileWorld, rng: random.Random) -> str:
    channel = rng.choice((world.room_key, f"{PREFIX}default:all"))
    kind = rng.choice(b"EAQSRN")
    body = bytes((1, kind)) + rng.randbytes(rng.randrange(60))
    if rng.random() < 0.3:
        body = rng.randbytes(rng.randrange(200))
    with world.redis.cli() as client:
        client.publish(channel, body)
    return f"{body[:12]!r} on {channel}"


@act
def bytes_in_keys_of_the_room(world: HostileWorld, rng: random.Random) -> str:
    name = rng.choice(("saver", "saved", "checkpoint"))
    key = f"{world.room_key}:{name}"
    value = rng.choice((b"\xff\xfe", b"", b"x y z", rng.randbytes(20), b"nobody 99999999999999999"))
    with world.redis.cli() as client:
        if name == "saver":
            client.set(key, value, ex=5)
            return f"{value!r} as the saver"
        fields = {
            "saved": ("offset", "hash", "mtime", "digest", "state", "pending", "fence"),
            "checkpoint": ("offset", "update", "base"),
        }[name]
        written = rng.choice(fields)
        client.hset(key, written, value)
    return f"{value!r} in {name} {written}"


async def run(
    seed: int,
    seconds: float,
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
    *,
    most_wait_s: float = MOST_WAIT_S,
) -> Outcome:
    """Let the hostile one do what it wants for so long, and see what has come of it: among other
    things, whether anybody's keystroke waited longer than `most_wait_s`."""
    outcome = Outcome(seed, most_wait_s=most_wait_s)
    rng = random.Random(seed)
    world = HostileWorld(folder)
    await world.start()
    try:
        await _run(world, rng, seconds, outcome, say)
    except AssertionError as error:
        outcome.problems.append(str(error))
    finally:
        await world.stop()
    return outcome


async def _run(
    world: HostileWorld,
    rng: random.Random,
    seconds: float,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    a, b = world.servers
    pids = [server.pid for server in world.servers]
    there = [await a.session(name) for name in ("bystander.ipynb", "other.ipynb")]
    async with (
        RtcClient(a, there[0], name="ann") as ann,
        RtcClient(b, there[0], name="bob") as bob,
        RtcClient(b, there[1], name="cem") as cem,
        RtcClient(a, there[1], name="dan") as dan,
        RtcClient(a, world.victim, name="eve") as eve,
        RtcClient(b, world.victim, name="fay") as fay,
    ):
        world.clients = [eve.doc.client_id, fay.doc.client_id]
        people = [Latency(ann, bob), Latency(cem, dan)]
        await until(lambda: all(one.typed > 10 for one in people), 20, "the first keystrokes")
        for one in people:
            one.worst = 0.0
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            attack = rng.choice(ACTS)
            try:
                what = await asyncio.wait_for(asyncio.to_thread(attack, world, rng), PER_ACTION_S)
            except OSError as error:
                what = f"{attack.__name__}: {error}"
            outcome.story.append(what)
            worst = max(one.worst for one in people)
            say(f"{worst:5.2f} s  {what}")
            await asyncio.sleep(rng.random() * 2 * PAUSE_S)
            if [server.pid for server in world.servers if server.running] != pids:
                raise AssertionError("a server has died")
        for connection in world.connections:
            await asyncio.to_thread(connection.close)
        await asyncio.sleep(PAUSE_S)
        for one in people:
            await one.stop()
            outcome.worst_s = max(outcome.worst_s, one.worst)
            outcome.typed += one.typed
        await _judge(world, outcome, [(people[0], ann, bob), (people[1], cem, dan)])
        for client in (ann, bob, cem, dan):
            if client.closures or client.asked_to_reload or client.notices:
                outcome.problems.append(
                    f"{client.name} was disturbed: {client.closures} {client.notices}"
                )
        eve.write("<eve>")
        fay.write("<fay>")
        with contextlib.suppress(AssertionError):
            await until(lambda: eve.text == fay.text and "<eve>" in fay.text, 2 * CONVERGED_S)
        if eve.text != fay.text or "<eve>" not in fay.text:
            outcome.problems.append("the attacked document differs on the two servers")


async def _judge(
    world: HostileWorld, outcome: Outcome, people: list[tuple[Latency, RtcClient, RtcClient]]
) -> None:
    if outcome.worst_s > outcome.most_wait_s:
        outcome.problems.append(f"a keystroke waited for {outcome.worst_s:.2f} s")
    for latency, typist, reader in people:
        try:
            await equal([typist, reader], CONVERGED_S)
        except AssertionError as error:
            outcome.problems.append(f"{typist.name} and {reader.name} differ: {error}"[:500])
        expected = "".join(f"{number % 10}" for number in range(latency.typed))
        if typist.text != expected:
            outcome.problems.append(f"{typist.name} has typed {expected}, there is {typist.text}")
    for server in world.servers:

        async def ok(server: JupyterProcess = server) -> bool:
            reply = await server.request("GET", "/api/teleportal/health")
            return bool(reply.json() == {"status": "ok"})

        try:
            await until(ok, CONVERGED_S, f"health of {server.name}", poll=0.2)
        except AssertionError as error:
            outcome.problems.append(str(error))
        errors = errors_in(server.log_text(), KNOWN)
        if errors:
            outcome.problems.append(f"{server.name} logs {len(errors)} errors: {errors[:3]}")
