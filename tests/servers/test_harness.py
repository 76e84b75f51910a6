"""The harness itself, against plain upstream: one server without this extension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.tcp_proxy import TcpProxy
from support.waiting import until

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.redis_server import RedisServer


async def test_two_clients_on_one_plain_server(make_server: MakeServer, shared_folder):
    path = shared_folder / "plain.ipynb"
    write_notebook(path, ["x = 1", "y = 2"])
    server = await make_server(extension=False)
    session = await server.session("plain.ipynb")
    async with (
        RtcClient(server, session, name="ann") as ann,
        RtcClient(server, session, name="bob") as bob,
    ):
        assert ann.sources == ["x = 1", "y = 2"]
        await ann.type_text("abc", hz=50)
        bob.insert_cell("z = 3")
        bob.set_output(0, "one\n")
        ann.move_cell(1, 0)
        await equal([ann, bob])
        assert ann.sources == ["y = 2", "x = 1abc", "z = 3"]
        assert bob.cells[1]["outputs"][0]["text"] == "one\n"
        assert await until(lambda: "bob" in ann.remote_users(), what="bob's name")
        assert bob.path == "plain.ipynb"
        reply = await bob.save()
        assert reply["status"] == "success"
        assert file_sources(path) == ann.sources
        # Upstream sends every update to its author too, once.
        assert ann.echoes <= ann.own_updates
        ann.assert_undisturbed()
        bob.assert_undisturbed()


async def test_client_reconnects_with_its_document(make_server: MakeServer, shared_folder):
    (shared_folder / "a.txt").write_text("one ")
    server = await make_server(extension=False)
    session = await server.session("a.txt", "text", "file")
    async with RtcClient(server, session, name="ann") as ann:
        await ann.disconnect()
        ann.write("two")
        await ann.wait_synced()
        assert ann.text == "one two"
        await until(
            lambda: (shared_folder / "a.txt").read_text() == "one two", what="the saved file"
        )
        assert [closure.code for closure in ann.closures] == [1006]


async def test_unknown_session_is_asked_to_reload(make_server: MakeServer, shared_folder):
    (shared_folder / "a.txt").write_text("one")
    server = await make_server(extension=False)
    session = await server.session("a.txt", "text", "file")
    stranger = type(session)(session.format, session.type, session.file_id, "no-such-session")
    client = RtcClient(server, stranger)
    client.start()
    await until(lambda: client.asked_to_reload, what="the reload dialog")
    with pytest.raises(AssertionError, match="asked to reload"):
        client.assert_undisturbed()
    await client.close()


async def test_kill_freeze_and_restart(make_server: MakeServer):
    server = await make_server(extension=False, probe=True)
    assert (await server.call("GET", "/api/probe/modules?package=tornado"))["loaded"]
    server.kill()
    assert not server.running
    await server.start()
    assert server.terminate()


async def test_redis_server_and_proxy(redis_server: RedisServer):
    with redis_server.cli() as client:
        client.set("kept", b"value")
        client.xadd("log", {"u": b"\x00\xff"})
    redis_server.restart()
    assert (b"kept", b"value") in list(redis_server.everything())
    assert (b"log", b"\x00\xff") in list(redis_server.everything())

    async with TcpProxy(redis_server.port) as proxy:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        through = redis.asyncio.Redis.from_url(
            proxy.url, retry=Retry(NoBackoff(), 0), socket_timeout=0.3
        )
        assert await through.get("kept") == b"value"
        await proxy.cut()
        with pytest.raises(redis.ConnectionError):
            await through.get("kept")
        await proxy.heal()
        assert await through.get("kept") == b"value"
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            await through.get("kept")
        await proxy.heal()
        assert await through.get("kept") == b"value"
        await through.aclose()

    redis_server.restart(keep_data=False)
    assert list(redis_server.everything()) == []
