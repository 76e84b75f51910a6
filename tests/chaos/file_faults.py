"""What goes wrong with files: other programs, other writers, full disks, renames and deletions.

What `docs/guarantees.md` does not promise is not tried:

- Nobody saves a document during an outage that somebody deletes or renames meanwhile: that may
  become two documents.
- Nothing is put at the old path of a document that is renamed during an outage.
- What only some servers hold is not written by another program: it may be there twice.
- Servers stay up where a document is deleted: who loses the connection finds it only where it is
  open.
- Whoever reads files by another program may see part of one that is copied into its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from support.disks import protect
from support.waiting import holds, until

from .faults import SEEN_SECONDS
from .kinds import kind
from .tabs import END, Tab
from .world import AWAY, DOCUMENTS, FOREIGN, TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from .world import World

OUTAGES = (None, "redis", "network")
EQUAL_SECONDS = 5.0
STAYS_AWAY_SECONDS = 3.0


# -- other programs ----------------------------------------------------------------------------


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
        path, aside = world.shared / name, world.shared / f".{name}.aside"
        path.rename(aside)
        await _stays_away(path, seconds)
        if renamed:
            aside.rename(path)
        else:
            world.write_file(path, aside.read_bytes(), like=aside)
            aside.unlink()

    how = "renamed" if renamed else "deleted"
    return f"{name} {how} by another program, and back after {seconds:.1f} s", run


@kind("files")
def file_rewritten(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name, times, pause = rng.choice(DOCUMENTS), rng.randint(1, 4), rng.uniform(0.2, 1.5)
    how, back = rng.choice(["touch", "in place", "replaced"]), rng.choice([0, 1, 100_000])

    async def run(world: World) -> None:
        path = world.shared / name
        for _ in range(times):
            if how == "replaced":
                world.replace_file(name, lambda text: text, back=back)
            else:
                # What a server has put in the file's place meanwhile is another file.
                with path.open("r+b") as file:
                    if how == "in place":
                        content = file.read()
                        file.seek(0)
                        file.write(content)
                        file.flush()
                    at = os.fstat(file.fileno()).st_mtime - back
                    os.utime(file.fileno(), (at, at) if back else None)
            await asyncio.sleep(pause)

    older = f", its time set back by {back} s" if back else ""
    return f"another program writes what {name} holds, {times} times ({how}){older}", run


@kind("files", "redis", "network", "servers", "clients")
def unsaved_written(rng: random.Random, replicas: int) -> tuple[str, Any]:
    """What all servers hold and nobody has saved comes into the file otherwise, as by JupyterLab's
    "Overwrite"."""
    name, pick, back = rng.choice(DOCUMENTS), rng.random(), rng.choice([0, 1, 100_000])
    at = rng.choice([None, *range(replicas)])

    async def run(world: World) -> None:
        tabs = world.tabs_on(name)
        reader = world.reader_of(name, pick)
        reader.type_token()
        world.pause()
        try:
            await until(lambda: same(tabs), EQUAL_SECONDS, what=f"equal documents of {name}")
            content = reader.content()
            if at is None:
                text = content if isinstance(content, str) else json.dumps(content, indent=1)
                world.replace_file(name, lambda _: text, back=back)
            else:
                kind = "file" if name == TEXT else "notebook"
                await world.servers[at].save_file(name, content, type=kind)
        finally:
            world.go_on()

    who = "another program" if at is None else f"a request to server {at}"
    older = f", its time set back by {back} s" if back and at is None else ""
    return f"{who} writes to {name} what it holds there, and nobody has saved{older}", run


def same(tabs: list[Tab]) -> bool:
    return all(tab.synced.is_set() for tab in tabs) and len({t.whole_text for t in tabs}) == 1


# -- a folder and a disk that cannot be written -------------------------------------------------


@kind("files", "servers", only="protected")
def file_read_only(rng: random.Random, replicas: int) -> tuple[str, Any]:
    name, seconds = rng.choice(DOCUMENTS), rng.uniform(1, 7)

    async def run(world: World) -> None:
        path = world.shared / name
        protect(path, True)
        try:
            await asyncio.sleep(seconds)
        finally:
            protect(path, False)

    return f"{name} read-only for {seconds:.1f} s", run


@kind("files", "servers", only="protected")
def folder_closed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    """Nothing can be made, replaced or deleted in the folder; its files can be written."""
    seconds = rng.uniform(2, 8)

    async def run(world: World) -> None:
        with world.copied_into_place():
            protect(world.shared, True)
            try:
                await asyncio.sleep(seconds)
            finally:
                protect(world.shared, False)

    return f"nobody can make a file in the folder for {seconds:.1f} s", run


@kind("files", "servers", only="accounts")
def folder_mode(rng: random.Random, replicas: int) -> tuple[str, Any]:
    """As a member of the group may set it: nobody replaces another's file, or makes any."""
    mode, seconds = rng.choice([0o3775, 0o2755]), rng.uniform(2, 8)

    async def run(world: World) -> None:
        before = world.shared.stat().st_mode & 0o7777
        with world.copied_into_place():
            world.shared.chmod(mode)
            try:
                await asyncio.sleep(seconds)
            finally:
                world.shared.chmod(before)

    return f"the folder's mode is {mode:o} for {seconds:.1f} s", run


@kind("files", only="disk")
def disk_full(rng: random.Random, replicas: int) -> tuple[str, Any]:
    left, seconds = rng.choice([0, 4096, 100_000]), rng.uniform(2, 9)

    async def run(world: World) -> None:
        assert world.disk is not None
        await asyncio.to_thread(world.disk.fill, left)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(world.disk.free)

    return f"the disk is full but for {left} bytes for {seconds:.1f} s", run


@kind("files", "servers", only="disk")
def disk_read_only(rng: random.Random, replicas: int) -> tuple[str, Any]:
    seconds = rng.uniform(2, 9)

    async def run(world: World) -> None:
        assert world.disk is not None
        await asyncio.to_thread(world.disk.set_read_only, True)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(world.disk.set_read_only, False)

    return f"the disk is read-only for {seconds:.1f} s", run


# -- renames and deletions ----------------------------------------------------------------------


@kind("files", "redis", "network", "servers")
def document_renamed(rng: random.Random, replicas: int) -> tuple[str, Any]:
    """By Jupyter, and back by another server."""
    name, at, back_at = rng.choice(DOCUMENTS), rng.randrange(replicas), rng.randrange(replicas)
    how, seconds = rng.choice(OUTAGES), rng.uniform(1, 5)
    pick = rng.random()

    async def run(world: World) -> None:
        async with _outage(world, how):
            await world.servers[at].rename(name, AWAY + name)
            await asyncio.sleep(seconds)
        for old, new in ((name, AWAY + name), (AWAY + name, name)):
            if new == name:
                await world.servers[back_at].rename(old, new)
            await world.ready(*world.servers)
            await until(
                lambda new=new: all(tab.path == new for tab in world.tabs_on(name)),
                SEEN_SECONDS,
                what=f"all tabs of {name} at {new}",
            )
            await _saved_at(world, name, new, pick)
            assert not (world.shared / old).exists(), f"{old} is there again"

    return f"{name} renamed by server {at} and back by {back_at}{_during(how, seconds)}", run


@kind("files", "redis", "network", "servers")
def document_deleted(rng: random.Random, replicas: int) -> tuple[str, Any]:
    """It is not there again by itself, and all go on together; then somebody saves it."""
    name, at, pick = rng.choice(DOCUMENTS), rng.randrange(replicas), rng.random()
    by = rng.choice(["jupyter", "rm", "mv"])
    how, seconds = rng.choice(OUTAGES), rng.uniform(1, 5)

    async def run(world: World) -> None:
        path, aside = world.shared / name, world.shared / f"{AWAY}{name}"
        moved = b""
        async with _outage(world, how):
            if by == "jupyter":
                await world.servers[at].delete(name)
            elif by == "rm":
                path.unlink()
            else:
                path.rename(aside)
                moved = aside.read_bytes()
            await _stays_away(path, seconds)
        await world.ready(*world.servers)
        await _stays_away(path, STAYS_AWAY_SECONDS)
        tab = world.reader_of(name, pick)

        async def saved() -> bool:
            return tab.synced.is_set() and (await tab.save())["status"] == "success"

        await until(saved, SEEN_SECONDS, what=f"{name} saved again", poll=0.5)
        await _saved_at(world, name, name, pick)
        if moved:
            assert aside.read_bytes() == moved, f"what was moved to {aside.name} was written"
            aside.unlink()

    who = f"server {at}" if by == "jupyter" else by
    return f"{name} deleted by {who}{_during(how, seconds)}, and saved again", run


def _during(how: str | None, seconds: float) -> str:
    outages = {"redis": "Redis is away", "network": "all are cut off"}
    return f" while {outages[how]} for {seconds:.1f} s" if how else ""


async def _stays_away(path: Path, seconds: float) -> None:
    await holds(lambda: not path.exists(), seconds, what=f"the absence of {path.name}")


@contextlib.asynccontextmanager
async def _outage(world: World, how: str | None) -> AsyncIterator[None]:
    """No server reaches Redis inside, and all have noticed."""

    async def all_away() -> bool:
        return all([(await s.status())["transport"]["state"] != "connected" for s in world.servers])

    if how == "redis":
        world.redis.kill()
    elif how == "network":
        for proxy in world.proxies:
            await proxy.cut()
    try:
        if how is not None:
            await until(all_away, SEEN_SECONDS, what="servers that miss Redis", poll=0.1)
        yield
    finally:
        if how == "redis":
            await asyncio.to_thread(world.redis.start)
        elif how == "network":
            for proxy in world.proxies:
                await proxy.heal()


async def _saved_at(world: World, name: str, path: str, pick: float) -> None:
    """Wait until what is typed now is in the file at `path`, which is the document's everywhere."""
    tab = world.reader_of(name, pick)
    token = tab.type_token()

    def saved() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return token in (world.shared / path).read_text()
        return False

    await until(saved, SEEN_SECONDS, what=f"{token} in {path}")
    assert tab.session is not None
    for server in world.servers:
        found = await server.session(path, tab.session.format, tab.session.type)
        assert found.file_id == tab.session.file_id, f"{path} is another document on {server.name}"
