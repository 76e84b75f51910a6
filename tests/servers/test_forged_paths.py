"""What a member of a share cannot make another member's server read or write."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.fixtures import start_pair
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

from jupyter_teleportal.core.envelopes import Notice

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess, Session
    from support.redis_server import RedisServer

SECRET = "SECRET-WORDS"
PREFIX = "teleportal:sync:"


def in_redis(redis_server: RedisServer) -> bool:
    return any(SECRET.encode() in data for _, data in redis_server.everything())


def put_secret(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SECRET)
    return path


async def subjects(server: JupyterProcess) -> set[str]:
    return {complaint["subject"] for complaint in (await server.status())["complaints"]}


async def seen(server: JupyterProcess, known: Session, file_id: str) -> str:
    """What a browser that comes with this id gets to see in two seconds."""
    client = RtcClient(server, replace(known, file_id=file_id), name="mallory")
    client.start()
    try:
        await holds(lambda: SECRET not in client.text, seconds=2, what="no secret")
        return client.text
    finally:
        await client.close()


@pytest.mark.parametrize(
    "path",
    [
        "inner/secret.txt",
        "../private/secret.txt",
        "./inner/secret.txt",
        "inner//secret.txt",
        "inner/./secret.txt",
        "\\..\\private\\secret.txt",
        "x" * 5000,
    ],
)
async def test_a_forged_path_opens_nothing(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, path: str
):
    secrets = [
        put_secret(shared_folder / "outer" / "inner" / "secret.txt"),
        put_secret(shared_folder / "private" / "secret.txt"),
    ]
    a = await make_server(
        redis_server=redis_server, shares={"outer": "outer", "outer/inner": "inner"}
    )
    (shared_folder / "outer" / "known.txt").write_text("known")
    file_id = str(uuid.uuid4())
    with redis_server.cli() as redis:
        redis.hset(f"{PREFIX}outer:paths", file_id, path)
    assert not await seen(a, await a.session("outer/known.txt", "text", "file"), file_id)
    assert not in_redis(redis_server)
    assert all(secret.read_text() == SECRET for secret in secrets)
    assert "forged_paths outer" in await subjects(a)


@pytest.mark.parametrize("how", ["file", "folder"])
async def test_a_link_put_in_the_place_of_an_open_document_leads_nowhere(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, how: str
):
    secret = put_secret(shared_folder / "private" / "secret.txt")
    folder = shared_folder / "team" / "folder"
    folder.mkdir(parents=True)
    file = folder / "secret.txt"
    file.write_text("shown")
    a, b = await start_pair(make_server, redis_server, shares={"team": "team1"})
    path = "team/folder/secret.txt"
    async with (
        RtcClient(a, await a.session(path, "text", "file"), name="ann") as ann,
        RtcClient(b, await b.session(path, "text", "file"), name="bob") as bob,
    ):
        bob.write("1")
        await equal([ann, bob])
        await until(lambda: file.read_text() == bob.text, what="the save")
        if how == "file":
            (shared_folder / "link").symlink_to(secret)
            os.replace(shared_folder / "link", file)
        else:
            folder.rename(shared_folder / "team" / "before")
            folder.symlink_to(secret.parent)
        bob.write("2")
        ann.write("3")
        await holds(
            lambda: SECRET not in ann.text + bob.text and secret.read_text() == SECRET,
            seconds=5,
            what="a secret that nobody reads or writes",
        )
        await equal([ann, bob])
        assert not in_redis(redis_server)
        assert [entry.name for entry in secret.parent.iterdir()] == ["secret.txt"]
        # Where the way is clear again, the document is saved again.
        (file if how == "file" else folder).unlink()
        folder.mkdir(exist_ok=True)
        file.write_text("shown")
        await until(lambda: "2" in file.read_text() and "3" in file.read_text(), 20, what="a save")
    assert secret.read_text() == SECRET


async def test_a_file_that_a_link_leads_to_is_opened_on_this_server_alone(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    secret = put_secret(shared_folder / "private" / "secret.txt")
    (shared_folder / "team").mkdir()
    (shared_folder / "team" / "link.txt").symlink_to(secret)
    a, b = await start_pair(make_server, redis_server, shares={"team": "team1"})
    session = await a.session("team/link.txt", "text", "file")
    async with RtcClient(a, session, name="ann") as ann:
        assert ann.text == SECRET
        assert (await b.session("team/link.txt", "text", "file")).file_id != session.file_id
        assert await a.room_status(session.room_id) is None
        assert not in_redis(redis_server)
    assert "outside_share team/link.txt" in await subjects(a)


async def test_links_within_a_share_and_a_linked_share_work(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, tmp_path: Path
):
    """As a hub links the teams' folders into homes."""
    team = tmp_path / "teams" / "team1"
    (team / "data").mkdir(parents=True)
    (team / "data" / "real.txt").write_text("text")
    (team / "folder").symlink_to("data")
    (team / "link.txt").symlink_to("folder/real.txt")
    (shared_folder / "team").symlink_to(team)
    a, b = await start_pair(make_server, redis_server, shares={"team": "team1"})
    path = "team/link.txt"
    async with (
        RtcClient(a, await a.session(path, "text", "file"), name="ann") as ann,
        RtcClient(b, await b.session(path, "text", "file"), name="bob") as bob,
    ):
        ann.write("1")
        await equal([ann, bob])
        await until(lambda: (team / "data" / "real.txt").read_text() == ann.text, what="the save")
    assert (team / "link.txt").is_symlink()
    assert not await subjects(a)


async def test_a_planted_checkpoint_is_not_written_through(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    keys = shared_folder / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    checkpoints = shared_folder / "team" / ".ipynb_checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "notes-checkpoint.txt").symlink_to(keys)
    (shared_folder / "team" / "notes.txt").write_text("a key")
    a = await make_server(redis_server=redis_server, shares={"team": "team1"})
    response = await a.request("POST", "/api/contents/team/notes.txt/checkpoints")
    assert response.status_code == 403
    assert not keys.exists()


async def test_a_forged_rename_or_deletion_moves_and_ends_nothing(
    servers: tuple[JupyterProcess, JupyterProcess], redis_server: RedisServer, shared_folder: Path
):
    a, b = servers
    one, two = shared_folder / "one.txt", shared_folder / "two.txt"
    one.write_text("one")
    two.write_text("two")
    session = await a.session("one.txt", "text", "file")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, await b.session("one.txt", "text", "file"), name="bob") as bob,
    ):
        file_id = session.file_id
        with redis_server.cli() as redis:
            for files, paths in (
                ({"two.txt": file_id, "one.txt": "x"}, {file_id: "two.txt"}),
                ({"one.txt": "x"}, {file_id: None}),
                ({"one.txt": "x"}, {}),
            ):
                details = {"files": files, "paths": paths}
                redis.publish(f"{PREFIX}default:all", Notice("x", "files", details).encode())
                for name, changes in details.items():
                    for field, value in changes.items():
                        key = f"{PREFIX}default:{name}"
                        redis.hdel(key, field) if value is None else redis.hset(key, field, value)
            # Servers look at the maps again when the share seems to be another one.
            redis.hset(f"{PREFIX}default:about", "epoch", "forged")
        for client, text in ((ann, "1"), (bob, "2")):
            client.write(text)
        await equal([ann, bob])
        await until(lambda: one.read_text() == ann.text, what="the save")
        await holds(lambda: two.read_text() == "two", seconds=6, what="the other file")
        ann.write("3")
        await equal([ann, bob])
        await until(lambda: one.read_text() == ann.text, what="a later save")
        for client in (ann, bob):
            client.assert_undisturbed()
        for server in servers:
            assert "forged_moves default" in await subjects(server)
            assert (await server.session("one.txt", "text", "file")).file_id == file_id
