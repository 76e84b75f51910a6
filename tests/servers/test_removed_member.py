"""The hub takes a share from a member whose server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient
from support.waiting import holds, until

from jupyter_teleportal.transports.redis.accounts import (
    account_rules,
    format_granted,
    granted_key,
    hash_password,
)
from jupyter_teleportal.transports.redis.options import DEFAULT_KEY_PREFIX

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

NOTICED_S = 5.0


def grant(redis_server: RedisServer, name: str, *shares: str) -> str:
    """Do as the hub does, but for disconnecting; return the account's URL."""
    account = DEFAULT_KEY_PREFIX + name
    rules = account_rules(DEFAULT_KEY_PREFIX, shares, hash_password("secret"), account=account)
    redis_server.load_scripts()
    with redis_server.cli() as client:
        client.set(granted_key(DEFAULT_KEY_PREFIX, account), format_granted(shares))
        client.execute_command("ACL", "SETUSER", account, *rules)
    return f"redis://{quote(account)}:secret@127.0.0.1:{redis_server.port}/0"


def disconnect(redis_server: RedisServer, name: str) -> None:
    with redis_server.cli() as client:
        client.execute_command("CLIENT", "KILL", "USER", DEFAULT_KEY_PREFIX + name)


async def test_a_removed_member_is_told_and_keeps_what_was_not_saved(
    make_server: MakeServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    folder = tmp_path / "team1"
    folder.mkdir()
    write_notebook(folder / "plan.ipynb", ["start "])
    homes = {}
    servers = {}
    for name in ("ann", "bob"):
        homes[name] = tmp_path / f"home-{name}"
        homes[name].mkdir()
        (homes[name] / "team1").symlink_to(folder)
        servers[name] = await make_server(
            root_dir=homes[name],
            redis_url=grant(redis_server, name, "team1"),
            shares={"team1": "team1"},
            # Long enough that nothing typed at the end is in the file.
            config={"YDocExtension": {"document_save_delay": 3.0}},
        )
    session = await servers["ann"].session("team1/plan.ipynb")
    async with (
        RtcClient(servers["ann"], session, name="ann") as ann,
        RtcClient(servers["bob"], session, name="bob") as bob,
    ):
        ann.write("shared ")
        await until(lambda: bob.sources == ["start shared "], what="ann's edit")
        await until(
            lambda: file_sources(folder / "plan.ipynb") == ["start shared "], what="the saved file"
        )
        grant(redis_server, "ann")
        ann.write("unsaved")
        await ann.settle()
        disconnect(redis_server, "ann")

        await until(lambda: ann.closures, timeout=NOTICED_S, what="the end of ann's connection")
        assert ann.closures[0].code == 1003
        assert "no longer a member of team1" in ann.closures[0].reason
        (copy,) = await until(
            lambda: list(homes["ann"].glob("plan (kept *).ipynb")), what="ann's copy"
        )
        assert file_sources(copy) == ["start shared unsaved"]
        # Whoever is left goes on, and nothing of hers comes into the folder any more.
        bob.write("bob")
        await until(
            lambda: file_sources(folder / "plan.ipynb") == ["start shared bob"],
            timeout=20,
            what="the file that bob's server saves",
        )
        await holds(
            lambda: file_sources(folder / "plan.ipynb") == ["start shared bob"],
            seconds=4,
            what="the file",
        )
        assert not bob.closures
        assert {path.name for path in folder.iterdir()} <= {"plan.ipynb", ".ipynb_checkpoints"}
        reply = await servers["ann"].request(
            "PUT",
            "/api/collaboration/session/team1/plan.ipynb",
            body={"format": "json", "type": "notebook"},
        )
        assert reply.status_code == 403
        assert "lost_shares" in str((await servers["ann"].status())["complaints"])


async def test_a_refusal_alone_is_no_removal(
    make_server: MakeServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    folder = tmp_path / "root" / "team1"
    folder.mkdir(parents=True)
    write_notebook(folder / "plan.ipynb", ["start "])
    account = grant(redis_server, "ann", "team1")
    server = await make_server(root_dir=folder.parent, redis_url=account, shares={"team1": "team1"})
    async with RtcClient(server, await server.session("team1/plan.ipynb"), name="ann") as ann:
        with redis_server.cli() as client:
            client.execute_command("ACL", "SETUSER", f"{DEFAULT_KEY_PREFIX}ann", "-xadd")
        ann.write("typed")
        await until(
            lambda: file_sources(folder / "plan.ipynb") == ["start typed"],
            timeout=20,
            what="the saved file",
        )
        await asyncio.sleep(NOTICED_S)
        assert not ann.closures
        assert not list(folder.parent.glob("*kept*"))
