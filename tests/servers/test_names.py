"""A name in awareness is the one that the server has authenticated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pycrdt import create_awareness_message
from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.ruled_access import Rules
from support.waiting import holds, until

from jupyter_teleportal.core.awareness_updates import AwarenessEntry, awareness_update

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

    Pair = tuple[JupyterProcess, JupyterProcess]

GLOBAL_AWARENESS = "JupyterLab:globalAwareness"


@pytest.fixture
async def ruled(make_server: MakeServer, redis_server: RedisServer, tmp_path: Path) -> Pair:
    """Two servers that know ann, bob and mallory by their tokens."""
    rules = Rules(tmp_path / "rules.json")
    for name in ("ann", "bob", "mallory"):
        rules.allow(name, "read", "write")
    options: dict[str, Any] = {"config": rules.config, "token": "owner-token"}
    first = await make_server(redis_server=redis_server, **options)
    return first, await make_server(redis_server=redis_server, **options)


@pytest.fixture(params=["document", "global"])
async def opened(
    ruled: Pair, shared_folder: Path, request: pytest.FixtureRequest
) -> Callable[[JupyterProcess, str], RtcClient]:
    """Opens a room as a user, who begins with that user's name."""
    write_notebook(shared_folder / "names.ipynb", ["x"])
    session = await ruled[0].session("names.ipynb") if request.param == "document" else None
    room_id = None if session else GLOBAL_AWARENESS
    return lambda server, name: RtcClient(
        server, session, room_id=room_id, name=name, token=f"{name}-token"
    )


def users(client: RtcClient, of: RtcClient) -> Any:
    """What `client` sees as the user of another client."""
    return (client.awareness.states.get(of.doc.client_id) or {}).get("user")


def send(client: RtcClient, *entries: AwarenessEntry) -> None:
    client._put(create_awareness_message(awareness_update(entries)), "AWARENESS")


async def subjects(server: JupyterProcess) -> list[str]:
    return [complaint["subject"] for complaint in (await server.status())["complaints"]]


async def test_who_claims_anothers_name_is_seen_under_the_own(
    ruled: Pair, opened: Callable[[JupyterProcess, str], RtcClient]
) -> None:
    here, there = ruled
    async with (
        opened(here, "ann") as ann,
        opened(there, "bob") as bob,
        opened(here, "mallory") as mallory,
    ):
        for client in (ann, bob):
            await until(lambda client=client: users(client, mallory), what="mallory")
        ann_s = dict(ann.awareness.get_local_state() or {})["user"]
        assert users(mallory, ann) == ann_s
        shown = {**ann_s, "color": "red"}
        mallory.awareness.set_local_state(
            {"user": shown, "documents": [], "cursors": [{"cell": 1}]}
        )
        own = {"username": "mallory", "name": "mallory", "display_name": "mallory"}
        for client in (ann, bob):
            await until(
                lambda client=client: (users(client, mallory) or {}).get("color") == "red",
                what=f"mallory's state at {client.name}",
            )
            seen = users(client, mallory)
            assert {**seen, **own} == seen
            assert "teleportal" in client.awareness.states[mallory.doc.client_id] or client is ann
        assert any(subject.startswith("forged_names ") for subject in await subjects(here))
        # Half a lie is one too.
        mallory.awareness.set_local_state({"user": {**own, "display_name": "ann", "color": "blue"}})
        for client in (ann, bob):
            await until(
                lambda client=client: (users(client, mallory) or {}).get("color") == "blue",
                what=f"mallory's next state at {client.name}",
            )
            assert users(client, mallory)["display_name"] == "mallory"


async def test_honest_states_pass_as_they_are(
    ruled: Pair, opened: Callable[[JupyterProcess, str], RtcClient]
) -> None:
    here, there = ruled
    async with (
        opened(here, "ann") as ann,
        opened(here, "bob") as bob,
        opened(there, "mallory") as mallory,
    ):
        user = {**(ann.awareness.get_local_state() or {})["user"], "color": "var(--x)", "more": [1]}
        ann.awareness.set_local_state({"user": user, "current": None})
        for client in (bob, mallory):
            await until(lambda client=client: users(client, ann) == user, what="ann's user")
        assert bob.awareness.states[ann.doc.client_id] == ann.awareness.get_local_state()
        # Browsers repeat each other's states to the server.
        ann.awareness.set_local_state_field("cursors", [1])
        await holds(lambda: users(bob, ann) == user == users(mallory, ann), 1, what="ann's user")
        for server in ruled:
            assert not [one for one in await subjects(server) if one.startswith("forged_names")]


async def test_a_client_speaks_for_itself_alone(
    ruled: Pair, opened: Callable[[JupyterProcess, str], RtcClient]
) -> None:
    here, there = ruled
    async with (
        opened(here, "ann") as ann,
        opened(there, "bob") as bob,
        opened(here, "mallory") as mallory,
        opened(here, "owner") as owner,
    ):
        for client in (ann, bob, owner):
            await until(lambda client=client: users(client, mallory), what="mallory")
        for victim, clients in ((ann, (bob, owner)), (bob, (ann, owner))):
            await until(lambda victim=victim: users(owner, victim), what=victim.name)
            client_id = victim.doc.client_id
            clock = mallory.awareness.meta[client_id]["clock"]
            user = {"username": "mallory", "name": "mallory"}
            send(mallory, AwarenessEntry(client_id, clock, None))
            send(mallory, AwarenessEntry(client_id, clock + 5, {"user": user}))
            send(mallory, AwarenessEntry(client_id, clock + 6, None))
            for client in clients:
                await holds(
                    lambda client=client, victim=victim: (
                        (users(client, victim) or {}).get("name") == victim.name
                    ),
                    1,
                    what=f"{victim.name} at {client.name}",
                )


async def test_who_reconnects_keeps_the_client_and_the_name(
    ruled: Pair, opened: Callable[[JupyterProcess, str], RtcClient]
) -> None:
    here, there = ruled
    async with opened(there, "bob") as bob, opened(here, "ann") as ann:
        await until(lambda: users(bob, ann), what="ann")
        # The next connection is there while the last one is still open.
        async with opened(here, "ann") as again:
            client_id = ann.doc.client_id
            user = (ann.awareness.get_local_state() or {})["user"]
            clock = ann.awareness.meta[client_id]["clock"] + 3
            send(again, AwarenessEntry(client_id, clock, {"user": {**user, "color": "7"}}))
            await until(
                lambda: users(bob, ann) == {**user, "color": "7"},
                what="ann's cursor over the new connection",
            )
            await ann.crash()
            await holds(
                lambda: users(bob, ann) == {**user, "color": "7"}, 1, what="ann, who is still there"
            )
            # She moves to another server, which knows her too.
            async with opened(there, "ann") as moved:
                state = {"user": {**user, "color": "8"}}
                send(moved, AwarenessEntry(client_id, clock + 1, state))
                await until(
                    lambda: users(bob, ann) == {**user, "color": "8"},
                    what="ann's cursor on the other server",
                )
