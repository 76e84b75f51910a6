"""Names and cursors of people on other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess

    Pair = tuple[JupyterProcess, JupyterProcess]

DEAD_SERVER_SECONDS = 10
GLOBAL_AWARENESS = "JupyterLab:globalAwareness"


async def test_names_and_cursors_cross(servers: Pair, shared_folder: Path):
    write_notebook(shared_folder / "people.ipynb", ["x"])
    a, b = servers
    session = await a.session("people.ipynb")
    async with RtcClient(a, session, name="ann") as ann:
        ann.set_cursor({"anchor": 1, "head": 1})
        async with RtcClient(b, session, name="bob") as bob:
            await until(lambda: ann.remote_users() == ["bob"], timeout=2, what="bob's name")
            # The newcomer need not wait for ann to move.
            await until(lambda: bob.remote_users() == ["ann"], timeout=2, what="ann's name")
            state = bob.remote_state("ann")
            assert state is not None
            assert state["cursors"] == [{"anchor": 1, "head": 1}]
            for position in range(5):
                bob.set_cursor({"anchor": position, "head": position})
            await until(
                lambda: (
                    (ann.remote_state("bob") or {}).get("cursors") == [{"anchor": 4, "head": 4}]
                ),
                timeout=1,
                what="bob's last cursor",
            )
            # Nobody flickers or comes twice.
            await holds(
                lambda: ann.remote_users() == ["bob"] and bob.remote_users() == ["ann"],
                seconds=5,
                what="the list of users",
            )
        await until(lambda: not ann.remote_users(), timeout=2, what="bob's leaving")


async def test_cursor_of_a_closed_socket_vanishes_at_once(servers: Pair, shared_folder: Path):
    write_notebook(shared_folder / "leaving.ipynb", ["x"])
    a, b = servers
    session = await a.session("leaving.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(a, session, name="amy") as amy,
        RtcClient(b, session, name="bob") as bob,
    ):
        bob.set_cursor({"anchor": 1, "head": 1})
        await until(lambda: "bob" in ann.remote_users(), what="bob's name")
        await until(lambda: ann.remote_users() == ["amy", "bob"], what="both names")
        await bob.crash()
        for client, others in ((ann, ["amy"]), (amy, ["ann"])):
            await until(
                lambda client=client, others=others: client.remote_users() == others,
                timeout=2,
                what=f"bob gone for {client.name}",
            )
        await holds(lambda: "bob" not in ann.remote_users(), seconds=3, what="bob's absence")


async def test_name_is_back_after_a_reconnect(servers: Pair, shared_folder: Path):
    write_notebook(shared_folder / "back.ipynb", ["x"])
    a, b = servers
    session = await a.session("back.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        await until(lambda: ann.remote_users() == ["bob"], what="bob's name")
        await bob.disconnect()
        await until(lambda: ann.remote_users() == [], timeout=2, what="bob's leaving")
        await bob.wait_synced()
        # A browser that reconnects sends its state with the clock that it had before.
        await until(lambda: ann.remote_users() == ["bob"], timeout=3, what="bob's return")
        # What bob's browser itself has forgotten comes back with ann's next renewal, after up to
        # 15 s: y-protocols ignores a state with a clock that it has seen.


async def test_cursors_of_a_killed_server_vanish(servers: Pair, shared_folder: Path):
    write_notebook(shared_folder / "killed.ipynb", ["x"])
    a, b = servers
    session = await a.session("killed.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
        RtcClient(a, room_id=GLOBAL_AWARENESS, name="ann") as global_ann,
        RtcClient(b, room_id=GLOBAL_AWARENESS, name="bob"),
    ):
        bob.set_cursor({"anchor": 1, "head": 1})
        await until(lambda: ann.remote_users() == ["bob"], what="bob's name")
        await until(lambda: global_ann.remote_users() == ["bob"], what="bob in the panel")
        b.kill()
        await until(
            lambda: not ann.remote_users() and not global_ann.remote_users(),
            timeout=DEAD_SERVER_SECONDS,
            what="bob's cursor gone",
        )


async def test_global_awareness_shows_users_of_the_other_server(servers: Pair):
    a, b = servers
    async with RtcClient(a, room_id=GLOBAL_AWARENESS, name="ann") as ann:
        async with RtcClient(b, room_id=GLOBAL_AWARENESS, name="bob") as bob:
            await until(lambda: ann.remote_users() == ["bob"], timeout=3, what="bob in the panel")
            await until(lambda: bob.remote_users() == ["ann"], timeout=3, what="ann in the panel")
            bob.awareness.set_local_state_field("documents", ["a.ipynb"])
            await until(
                lambda: (ann.remote_state("bob") or {}).get("documents") == ["a.ipynb"],
                timeout=2,
                what="bob's open documents",
            )
        await until(lambda: not ann.remote_users(), timeout=2, what="bob's leaving")
