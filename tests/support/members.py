"""A member of a share that means harm, with its account in Redis, in a process of its own.

`python -m support.members` does again and again what the JSON in its first argument says, and says
how often, once its standard input is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import select
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from pycrdt import Doc, Text

from jupyter_teleportal.core.envelopes import (
    AwarenessEnvelope,
    AwarenessQuery,
    EntryEnvelope,
    Notice,
    SaveRequest,
)
from jupyter_teleportal.transports.base import MAP_ENTRIES_MAX
from support.conflicts import insertions
from support.hostile import deadly, fields, updates, varint
from support.yjs_bytes import HOSTILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.redis_server import RedisServer

PREFIX = "teleportal:sync:"
SEED = 20_261_127
MANY = 100_000
TOO_MANY = 3 * MAP_ENTRIES_MAX
LARGE = 50_000_000
AT_ONCE = 500


class Member:
    """What the account reaches: keys of the share and of one room in it."""

    def __init__(self, client: redis.Redis, share: str, room: str) -> None:
        self.client = client
        self.all_rooms = f"{PREFIX}{share}:all"
        self.of_share = f"{PREFIX}{share}:"
        self.room = f"{PREFIX}{share}:{{{room}}}"
        self.log = f"{self.room}:log"
        self.chance = random.Random(SEED)

    def entries(self, payloads: list[bytes]) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for payload in payloads:
                pipe.xadd(self.log, {"u": payload, "r": "nobody"})
            pipe.execute()
        # What is not announced is found when the next entry comes.
        self.published([self.announcement()])

    def announcement(self) -> bytes:
        log = (self.client.hget(f"{self.room}:checkpoint", "log") or b"").decode()
        last = self.client.xrevrange(self.log, count=1)[0][0].decode()
        return EntryEnvelope("nobody", log, "1-1", last, None).encode()

    def published(self, messages: list[bytes], channel: str | None = None) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.publish(channel or self.room, message)
            pipe.execute()


def huge_entries(member: Member) -> Iterator[None]:
    """Valid edits of 25 million characters."""
    for number in itertools.count(1):
        doc: Doc = Doc(client_id=number)
        doc["source"] = text = Text()
        text += "x" * (LARGE // 2)
        member.entries([b"\0" + doc.get_update()])
        yield


def huge_junk(member: Member) -> Iterator[None]:
    """Entries that are no edits."""
    while True:
        member.entries([b"\0" + b"\xff" * LARGE])
        yield


def many_small_entries(member: Member) -> Iterator[None]:
    for client in itertools.count(1_000_000):
        edits = updates(AT_ONCE, client)
        member.entries([b"\0" + edit for edit in edits])
        yield


def many_fields(member: Member) -> Iterator[None]:
    """A hundred thousand fields of a map in each entry."""
    for client in itertools.count(2_000_000):
        member.entries([b"\0" + fields(MANY, client)])
        yield


def many_entries(member: Member) -> Iterator[None]:
    """Ten thousand edits that are read together."""
    for client in itertools.count(3_000_000):
        member.entries([b"\0" + edit for edit in updates(10_000, client)])
        yield


def deadly_entries(member: Member) -> Iterator[None]:
    """Nested without end, at the end of all clocks, and whatever else has killed servers."""
    bad = list(HOSTILE.values())
    while True:
        member.entries([b"\0" + bad.pop() if bad else b"\0" + deadly(member.chance)[1]])
        yield


def crowds(member: Member) -> Iterator[None]:
    """Ten thousand items at one place in each entry, of as many people."""
    for first in itertools.count(5_000_000, MANY):
        clients = range(first, first + MANY // 10)
        member.entries([b"\0" + insertions(clients, left=lambda _: None)])
        yield


def bombs(member: Member) -> Iterator[None]:
    """Entries of a megabyte that inflate to a gigabyte, and to as much as is let through."""
    most = zlib.compress(bytes(64_000_000), 9)
    over = zlib.compress(bytes(1_000_000_000), 9)
    while True:
        member.entries([b"\1" + most, b"\1" + over])
        yield


def announcements(member: Member) -> Iterator[None]:
    """Entries that are not there."""
    log = (member.client.hget(f"{member.room}:checkpoint", "log") or b"").decode()
    for number in itertools.count(2**41):
        member.published(
            [
                EntryEnvelope("x", log, f"{number}-{n}", f"{number}-{n + 2}", b"\0\0\0").encode()
                for n in range(AT_ONCE)
            ]
        )
        yield


def notices(member: Member) -> Iterator[None]:
    """Of renames and deletions that have not been."""
    for number in itertools.count():
        ids = [f"{number}-{n}" for n in range(AT_ONCE)]
        moves = {"files": {f"{i}.txt": i for i in ids}, "paths": {i: f"{i}.txt" for i in ids}}
        notice = Notice(f"replica-{number}", "files", moves).encode()
        asking = Notice(f"replica-{number}", "folder", {"folder": "/x", "asks": True}).encode()
        member.published([notice, asking] * 20, member.all_rooms)
        yield


def junk_published(member: Member) -> Iterator[None]:
    while True:
        junk = [member.chance.randbytes(member.chance.randrange(200)) for _ in range(AT_ONCE)]
        member.published(junk)
        member.published(junk, member.all_rooms)
        yield


def huge_messages(member: Member) -> Iterator[None]:
    while True:
        details = {"files": {"x" * 5_000_000: "y"}}
        member.published([Notice("x", "files", details).encode()], member.all_rooms)
        member.published([AwarenessEnvelope("x", b"\xff" * 5_000_000).encode()])
        yield


def questions(member: Member) -> Iterator[None]:
    """Who is there, and save now."""
    for number in itertools.count():
        asked = [SaveRequest("x", f"{number}-{n}").encode() for n in range(AT_ONCE // 2)]
        member.published([*asked, *[AwarenessQuery("x").encode()] * (AT_ONCE // 2)])
        yield


def cursors(member: Member) -> Iterator[None]:
    """A thousand in each message, of another server each time."""
    state = b'{"user":{"name":"eve"}}'
    for number in itertools.count(1):
        clients = b"".join(
            varint(number * 1000 + n) + b"\1" + varint(len(state)) + state for n in range(1000)
        )
        update = varint(1000) + clients
        member.published([AwarenessEnvelope(f"replica-{number}", update).encode()])
        yield


def maps(member: Member) -> Iterator[None]:
    """More forged documents than are read at once, and new epochs with which they are read."""
    for name in ("files", "paths"):
        with member.client.pipeline(transaction=False) as pipe:
            for start in range(0, TOO_MANY, 1000):
                ids = [f"{name}-{n}" for n in range(start, start + 1000)]
                fields = {(f"{i}.txt" if name == "files" else i): f"{i}.txt" for i in ids}
                pipe.hset(member.of_share + name, mapping=fields)
            pipe.execute()
    for number in itertools.count():
        member.client.hset(member.of_share + "about", "epoch", f"{number}")
        yield


def epochs(member: Member) -> Iterator[None]:
    """Another lineage of the room, another session of the cluster, another epoch of the share."""
    for number in itertools.count():
        member.client.hset(f"{member.room}:checkpoint", "log", f"forged-{number}/1")
        member.client.set(f"{PREFIX}session", f"forged-{number}")
        member.client.hset(member.of_share + "about", "epoch", f"{number}")
        yield


def huge_values(member: Member) -> Iterator[None]:
    """Fifty megabytes wherever a server reads something short."""
    huge = b"x" * LARGE
    while True:
        member.client.set(f"{PREFIX}session", huge)
        member.client.set(f"{member.room}:saver", huge, px=5000)
        member.client.hset(f"{member.room}:checkpoint", "update", huge)
        member.client.hset(f"{member.room}:saved", "offset", huge)
        for field in ("folder", "epoch"):
            member.client.hset(member.of_share + "about", field, huge)
        yield


def servers(member: Member) -> Iterator[None]:
    """Servers that are not there, a hundred thousand, with long names among them."""
    now = member.client.time()[0] * 1000
    for number in itertools.count():
        beats = {f"forged-{number}-{n}": now for n in range(10_000)}
        member.client.zadd(f"{PREFIX}replicas", beats)
        if not number % 10:
            member.client.zadd(f"{PREFIX}replicas", {b"\xff" * 1_000_000: now})
        yield


def leases(member: Member) -> Iterator[None]:
    """Held by nobody, and by somebody new each time."""
    for number in itertools.count():
        member.client.set(f"{member.room}:saver", f"forged-{number} {number}", px=8000)
        yield


ATTACKS: dict[str, Callable[[Member], Iterator[None]]] = {
    attack.__name__: attack
    for attack in (
        huge_entries,
        huge_junk,
        many_small_entries,
        many_fields,
        many_entries,
        deadly_entries,
        crowds,
        bombs,
        announcements,
        notices,
        junk_published,
        huge_messages,
        questions,
        cursors,
        maps,
        epochs,
        huge_values,
        servers,
        leases,
    )
}
RESTS_S = {
    "huge_entries": 1.0,
    "huge_junk": 1.0,
    "many_fields": 1.0,
    "bombs": 0.5,
    "crowds": 0.5,
    "huge_values": 1.0,
    "maps": 0.5,
}
"""How long each waits before it does the same again; Redis' memory is not what is attacked here."""
REST_S = 0.01


@contextlib.asynccontextmanager
async def member(redis_server: RedisServer, attack: str, room: str) -> AsyncIterator[list[int]]:
    """The attack goes on inside; the list that is handed out holds in the end how often."""
    orders = {
        "port": redis_server.port,
        "username": redis_server.ACCOUNT,
        "password": redis_server.PASSWORD,
        "share": "default",
        "room": room,
        "attack": attack,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.members", json.dumps(orders)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    rounds: list[int] = []
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        yield rounds
    finally:
        said, _ = await process.communicate(b"")
    assert process.returncode == 0
    rounds.append(int(said))


def main(orders: dict[str, Any]) -> None:
    account = {name: orders[name] for name in ("port", "username", "password")}
    attack, rounds = orders["attack"], 0
    with redis.Redis(socket_timeout=60, **account) as client:
        going = ATTACKS[attack](Member(client, orders["share"], orders["room"]))
        print("begun", flush=True)
        while not select.select([sys.stdin], [], [], RESTS_S.get(attack, REST_S))[0]:
            next(going)
            rounds += 1
    print(rounds)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
