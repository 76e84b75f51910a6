"""Who may read and write a document, asked when it is opened and again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support.cluster import acknowledged, assert_no_errors
from support.jupyter_process import JupyterProcess
from support.notebooks import file_sources, write_notebook
from support.rtc_client import Closure, RtcClient
from support.ruled_access import Rules
from support.waiting import holds, until

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

NOTICED_S = 5.0
"""Within this time a change of rights has its effect."""


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return Rules(tmp_path / "rules.json")


@pytest.fixture
async def ruled(
    make_server: MakeServer, redis_server: RedisServer, rules: Rules
) -> tuple[JupyterProcess, JupyterProcess]:
    """Two servers that go by the rules; the harness itself comes as `owner`."""
    options: dict[str, Any] = {"config": rules.config, "token": "owner-token"}
    first = await make_server(redis_server=redis_server, **options)
    second = await make_server(redis_server=redis_server, **options)
    return first, second


@pytest.fixture
def notebook(shared_folder: Path) -> Path:
    path = shared_folder / "ruled.ipynb"
    write_notebook(path, ["start "])
    return path


async def put_session(server: JupyterProcess, path: str, token: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.put(
            f"{server.url}/api/collaboration/session/{path}",
            json={"format": "json", "type": "notebook"},
            headers={"Authorization": f"token {token}"} if token else {},
        )


async def test_who_may_only_read_is_a_viewer(
    ruled: tuple[JupyterProcess, JupyterProcess],
    rules: Rules,
    notebook: Path,
    redis_server: RedisServer,
) -> None:
    here, there = ruled
    rules.allow("ann", "read", "write")
    rules.allow("vic", "read")
    assert (await put_session(there, notebook.name, "vic-token")).is_success
    session = await here.session(notebook.name)
    async with (
        RtcClient(here, session, name="ann", token="ann-token") as ann,
        RtcClient(there, session, name="vic", token="vic-token") as vic,
    ):
        assert vic.sources == ["start "]
        ann.write("seen")
        await until(lambda: vic.sources == ["start seen"], timeout=5, what="ann's edit at vic")
        vic.set_cursor({"cell": 0})
        await until(
            lambda: (ann.remote_state("vic") or {}).get("cursors"), what="vic's cursor at ann"
        )
        vic.write(" NOT ALLOWED")
        vic.insert_cell("NOT ALLOWED")
        await vic.settle()
        reply = await vic.save()
        assert reply["status"] == "failed"
        await vic.disconnect()
        await vic.wait_synced()
        await vic.settle()
        ann.write("!")
        await until(lambda: "!" in vic.sources[0], timeout=5, what="ann's edit at vic")
        await acknowledged(here, session.room_id)
        await until(lambda: file_sources(notebook) == ["start seen!"], what="the saved file")
        await holds(lambda: ann.sources == ["start seen!"], seconds=1, what="ann's document")
        logged = log_entries(redis_server)
        assert b"seen" in logged
        assert b"ALLOWED" not in logged
        vic.assert_undisturbed()
    assert_no_errors(here, there)


def log_entries(redis_server: RedisServer) -> bytes:
    """All that stands in the logs."""
    with redis_server.cli() as client:
        return b"".join(
            fields[b"u"]
            for key in client.scan_iter("*:log", _type="stream")
            for _, fields in client.xrange(key)
        )


async def test_a_right_that_is_taken_away_is_gone_within_5_s_and_comes_back(
    ruled: tuple[JupyterProcess, JupyterProcess], rules: Rules, notebook: Path
) -> None:
    here, there = ruled
    rules.allow("ann", "read", "write")
    rules.allow("bob", "read", "write")
    session = await here.session(notebook.name)
    async with (
        RtcClient(here, session, name="ann", token="ann-token") as ann,
        RtcClient(there, session, name="bob", token="bob-token") as bob,
    ):
        bob.write("bob ")
        await until(lambda: ann.sources == ["start bob "], what="bob's edit")

        rules.allow("bob", "read")
        await asyncio.sleep(NOTICED_S)
        bob.write("while a viewer ")
        await bob.settle()
        await holds(lambda: ann.sources == ["start bob "], seconds=1, what="ann's document")
        assert not bob.closures

        # What he has typed meanwhile is in his tab, and comes along.
        rules.allow("bob", "read", "write")
        await asyncio.sleep(NOTICED_S)
        bob.write("again ")
        await until(
            lambda: ann.sources == ["start bob while a viewer again "], what="all of bob's edits"
        )

        rules.allow("bob")
        await until(lambda: bob.closures, timeout=NOTICED_S, what="the end of bob's connection")
        assert bob.closures[0].code == 1008, bob.closures
        await until(lambda: Closure(there.name, None, "HTTP 403") in bob.closures, what="a refusal")
        bob.write("NOT ALLOWED")
        ann.write("!")
        await holds(lambda: "NOT ALLOWED" not in ann.text, seconds=1, what="ann's document")
        assert not bob.asked_to_reload
        assert not ann.closures
        assert (await put_session(there, notebook.name, "bob-token")).status_code == 403
    assert_no_errors(here, there)


@pytest.mark.parametrize("by_cookie", [False, True], ids=["token", "cookie"])
async def test_who_is_not_known_any_more_is_closed_within_5_s(
    ruled: tuple[JupyterProcess, JupyterProcess], rules: Rules, notebook: Path, by_cookie: bool
) -> None:
    here, _ = ruled
    rules.allow("ann", "read", "write")
    rules.allow("bob", "read", "write")
    session = await here.session(notebook.name)
    way = {"cookie": "ruled=bob-token"} if by_cookie else {"token": "bob-token"}
    async with (
        RtcClient(here, session, name="ann", token="ann-token") as ann,
        RtcClient(here, session, name="bob", **way) as bob,
        RtcClient(here, room_id="JupyterLab:globalAwareness", name="bob", **way) as lab,
    ):
        # Whoever knows the users may be away for a while: nobody is thrown out for that.
        rules.be_away(True)
        bob.write("known ")
        await until(lambda: ann.sources == ["start known "], what="bob's edit")
        await holds(lambda: not bob.closures, seconds=NOTICED_S, what="bob's connection")
        rules.be_away(False)
        assert "admissions" in str((await here.status())["complaints"])

        rules.forget("bob")
        for client in (bob, lab):
            await until(lambda c=client: c.closures, timeout=NOTICED_S, what="the end")
            assert client.closures[0].code == 1008
            await until(
                lambda c=client: Closure(here.name, None, "HTTP 403") in c.closures,
                what="a refusal",
            )
            assert not client.asked_to_reload
        bob.write("NOT ALLOWED")
        ann.write("!")
        await holds(lambda: "NOT ALLOWED" not in ann.text, seconds=1, what="ann's document")
        assert not ann.closures


# -- other origins ---------------------------------------------------------------------------


async def log_in(server: JupyterProcess) -> str:
    """The cookie of a browser that has come with the token."""
    async with httpx.AsyncClient() as client:
        await client.get(server.url + "/api/me", params={"token": server.token})
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_page_of_another_origin_opens_no_room_with_the_cookie(
    make_server: MakeServer, redis_server: RedisServer, notebook: Path, allowed: bool
) -> None:
    elsewhere = "https://elsewhere.example"
    config = {"ServerApp": {"allow_origin": elsewhere}} if allowed else {}
    server = await make_server(redis_server=redis_server, config=config)
    session = await server.session(notebook.name)
    cookie = await log_in(server)
    stranger = RtcClient(server, session, name="stranger", cookie=cookie, origin=elsewhere)
    stranger.start()
    try:
        if allowed:
            await stranger.wait_synced()
        else:
            await until(lambda: stranger.closures, what="an answer")
            assert stranger.closures[0] == Closure(server.name, None, "HTTP 403")
            assert not (await server.status())["rooms"]
    finally:
        await stranger.close()
    # The server's own pages, programs, and who comes with the token.
    for way in (
        {"cookie": cookie, "origin": server.url},
        {"cookie": cookie},
        {"origin": elsewhere},
    ):
        async with RtcClient(server, session, **way) as client:
            assert client.sources == ["start "]


# -- who is not known ------------------------------------------------------------------------

REQUESTS = 500


async def test_a_request_of_nobody_costs_nothing(
    make_server: MakeServer, redis_server: RedisServer, notebook: Path
) -> None:
    server = await make_server(redis_server=redis_server, probe=True)
    session = await server.session(notebook.name)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        for headers in ({}, upgrade):
            reply = await client.get(
                f"/api/collaboration/room/json:notebook:unknown-{number}", headers=headers
            )
            assert reply.status_code == 403
        reply = await client.put(
            f"/api/collaboration/session/unknown-{number}.ipynb",
            json={"format": "json", "type": "notebook"},
        )
        assert reply.status_code == 403
        reply = await client.get(f"/api/collaboration/room/{session.room_id}", headers=upgrade)
        assert reply.status_code == 403

    async with httpx.AsyncClient(base_url=server.url) as client:
        for number in range(50):
            await ask(client, number)
        before = await leftovers(server)
        asked = commands(redis_server)
        for number in range(50, 50 + REQUESTS):
            await ask(client, number)
        asked_for_them = commands(redis_server) - asked
        after = await leftovers(server)
    cost = (after["rss"] - before["rss"]) / REQUESTS
    print(f"{cost:.0f} bytes and {asked_for_them / REQUESTS:.2f} commands for each")
    assert not (await server.status())["rooms"]
    assert after["loaders"] == before["loaders"] == 0
    assert after["rooms"] == before["rooms"] == 0
    assert cost < 2_000
    # Heartbeats go on meanwhile.
    assert asked_for_them < REQUESTS / 2


async def leftovers(server: JupyterProcess) -> dict[str, Any]:
    found: dict[str, Any] = await server.call("GET", "/api/probe/leftovers")
    return found


def commands(redis_server: RedisServer) -> int:
    with redis_server.cli() as client:
        return int(client.info("stats")["total_commands_processed"])
