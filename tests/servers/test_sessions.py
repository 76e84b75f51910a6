"""Servers behind a balancer without affinity: what one server says, the other accepts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
from support.cluster import assert_no_errors
from support.fixtures import start_pair
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

FILES = 100
AT_ONCE = 10


async def login_cookie(server: JupyterProcess) -> str:
    """The cookie that a browser gets when it opens the address with the token."""
    async with httpx.AsyncClient(verify=False, base_url=server.url) as browser:
        await browser.get("/tree", params={"token": server.token})
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


async def test_session_of_one_server_opens_the_room_on_the_other(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, tmp_path: Path
):
    for name in ("one.ipynb", "two.ipynb"):
        write_notebook(shared_folder / name, [name])
    a, b = await start_pair(
        make_server,
        redis_server,
        cookie_secret_file=tmp_path / "cookie_secret",
        config={"IdentityProvider": {"cookie_name": "balanced"}},
    )
    cookie = await login_cookie(a)
    assert "balanced=" in cookie
    from_a = await a.session("one.ipynb")
    async with RtcClient(b, from_a, cookie=cookie, name="ann") as ann:
        assert ann.sources == ["one.ipynb"]
        from_b = await b.session("one.ipynb")
        assert from_b == from_a
        async with RtcClient(a, from_b, name="bob") as bob:
            ann.write(" edited")
            await equal([ann, bob])
            assert not ann.closures
            assert not bob.closures
    # The other direction, with a file that the server asked has never seen.
    async with RtcClient(a, await b.session("two.ipynb"), cookie=await login_cookie(b)) as client:
        assert client.sources == ["two.ipynb"]
        assert not client.closures
    assert_no_errors(a, b)


async def test_opening_elsewhere_leaves_the_path_alone(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    """JupyterLab takes a path that is written anew for a renaming, even to the same name."""
    a, b = servers
    paths: list[dict[str, object]] = []

    def on_state(event: Any) -> None:
        if "path" in event.keys:
            paths.append(dict(event.keys["path"]))

    for number in range(8):
        name = f"{number}.ipynb"
        write_notebook(shared_folder / name, [""])
        async with RtcClient(a, await a.session(name), name="ann") as ann:
            await until(lambda ann=ann: ann.path is not None, what="the path")
            ann.notebook.ystate.observe(on_state)
            async with RtcClient(b, await b.session(name), name="bob") as bob:
                bob.write("x")
                await equal([ann, bob])
                assert (ann.path, bob.path, paths) == (name, name, [])


async def test_same_session_after_a_restart(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    write_notebook(shared_folder / "kept.ipynb", ["kept"])
    server = await make_server(redis_server=redis_server)
    session = await server.session("kept.ipynb")
    async with RtcClient(server, session) as client:
        client.write(" text")
        await server.restart()
        await client.wait_synced(timeout=10)
        assert client.sources == ["kept text"]
        client.assert_undisturbed()
    assert await server.session("kept.ipynb") == session


async def test_never_seen_notebooks_opened_on_two_servers_at_once(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    expected = {}
    for number in range(FILES):
        name = f"new-{number}.ipynb"
        expected[name] = [f"cell {cell} of {name}" for cell in range(3)]
        write_notebook(shared_folder / name, expected[name], with_ids=number % 2 == 0)

    async def open_everywhere(name: str) -> None:
        sessions = await asyncio.gather(*(server.session(name) for server in servers))
        assert sessions[0] == sessions[1], name
        clients = [
            RtcClient(server, session, name=server.name)
            for server, session in zip(servers, sessions, strict=True)
        ]
        for client in clients:
            client.start()
        try:
            for client in clients:
                await client.wait_synced()
            await equal(clients)
            first, second = clients
            assert first.sources == expected[name], f"{name}: {first.sources}"
            # With the ids, which are random where the file has none.
            assert first.cells == second.cells, name
            # An edit of each shows what equal state vectors can hide.
            first.write("+a", cell=0)
            second.write("+b", cell=1)
            await equal(clients)
            assert first.sources[:2] == [f"{expected[name][0]}+a", f"{expected[name][1]}+b"]
            for client in clients:
                client.assert_undisturbed()
                assert not client.closures
        finally:
            await asyncio.gather(*(client.close() for client in clients))

    names = list(expected)
    for start in range(0, FILES, AT_ONCE):
        await asyncio.gather(*map(open_everywhere, names[start : start + AT_ONCE]))
    assert_no_errors(*servers)
