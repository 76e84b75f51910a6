"""What builds on what has not come: the library never sees it, and nothing honest is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pycrdt import Doc, Text
from support.waiting import until
from support.yjs_bytes import blocks, string
from transports.backends import Backend

from jupyter_teleportal import WebsocketServer, resync
from jupyter_teleportal.client_messages import sync_message
from jupyter_teleportal.codec import encode_payload
from jupyter_teleportal.resync import ANSWER_S, QUESTIONS_MAX, Resync
from jupyter_teleportal.update_walk import STEP1, STEP2, SYNC, UPDATE, read_message
from rooms.test_links import ROOM, MakeSite, Site, make_site, together
from rooms.test_websocket_server import Pipe

__all__ = ["make_site"]


# -- from browsers -------------------------------------------------------------------------


class Raw:
    """A client that sends what it is told to."""

    def __init__(self) -> None:
        ends = [Pipe("room", asyncio.Queue()) for _ in range(2)]
        ends[0].other, ends[1].other = ends[1], ends[0]
        self.server_end, self.end = ends
        self.questions = 0
        self.serving: asyncio.Future[None]

    def send(self, step: int, update: bytes) -> None:
        self.server_end.inbox.put_nowait(sync_message(step, update))

    async def read(self) -> None:
        while (message := await self.end.inbox.get()) is not None:
            read = read_message(message)
            self.questions += (read.kind, read.step) == (SYNC, STEP1)


@contextlib.asynccontextmanager
async def a_room(backend: Backend) -> AsyncIterator[tuple[Doc[Any], Raw]]:
    raw = Raw()
    async with WebsocketServer(sync_transport=await backend.make()) as server:
        raw.serving = asyncio.ensure_future(server.serve(raw.server_end))
        reading = asyncio.ensure_future(raw.read())
        await until(lambda: raw.questions == 1, what="the greeting")
        yield server.rooms["room"].ydoc, raw
        raw.server_end.inbox.put_nowait(None)
        await asyncio.wait({raw.serving})
        reading.cancel()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "FIRST_PAUSE_S", 0.001)


FIRST = blocks(5, 0, string("abc"))
NEXT = blocks(5, 3, string("d", beside=(5, 2)))
WHOLE = blocks(5, 0, string("abc"), string("d", beside=(5, 2)), string("e", beside=(5, 3)))


@pytest.mark.usefixtures("hurry")
async def test_a_client_whose_edit_lacks_something_is_asked_for_all_of_it(backend: Backend) -> None:
    async with a_room(backend) as (doc, client):
        text = doc.get("source", type=Text)
        # Typed before it has answered the greeting: the answer will hold it.
        client.send(UPDATE, NEXT)
        client.send(UPDATE, blocks(6, 0, string("x")))
        await until(lambda: str(text) == "x", what="what lacks nothing")
        assert client.questions == 1
        client.send(STEP2, b"\0\0")
        client.send(UPDATE, NEXT)
        client.send(UPDATE, NEXT)
        await until(lambda: client.questions == 2, what="the question")
        assert str(text) == "x"
        client.send(STEP2, WHOLE)
        await until(lambda: "abcde" in str(text), what="the client's document")
        assert client.questions == 2


@pytest.mark.usefixtures("hurry")
async def test_a_client_that_has_no_better_answer_is_not_asked_for_ever(backend: Backend) -> None:
    async with a_room(backend) as (doc, client):
        client.send(STEP2, b"\0\0")
        for _ in range(QUESTIONS_MAX):
            before = client.questions
            client.send(UPDATE, NEXT)
            await until(lambda before=before: client.questions > before, what="the question")
            client.send(STEP2, NEXT)
        client.send(UPDATE, blocks(6, 0, string("x")))
        await until(lambda: str(doc.get("source", type=Text)) == "x", what="that it goes on")
        client.send(UPDATE, NEXT)
        await until(client.serving.done, what="that it is not listened to any more")
        assert client.questions == 1 + QUESTIONS_MAX


def test_the_pauses_between_questions_grow() -> None:
    asked = Resync(0.0)
    assert asked.lacking(0.1) is None  # the greeting is not answered yet
    asked.answered(lacking=False)
    assert asked.lacking(0.2) == pytest.approx(0.8)
    assert asked.lacking(0.3) is None
    asked.answered(lacking=True)
    assert asked.lacking(1.5) == pytest.approx(3.5)
    asked.answered(lacking=False)
    assert asked.lacking(100.0) == 0


def test_who_does_not_answer_is_asked_again_a_few_times() -> None:
    asked, now, questions = Resync(0.0), 0.0, 0
    while not asked.in_vain:
        now += ANSWER_S * 2
        questions += asked.lacking(now) is not None
    assert questions == QUESTIONS_MAX - 1


# -- from the log --------------------------------------------------------------------------


async def forge(site: Site, update: bytes) -> str:
    log = site.link.replicator.log
    assert log is not None
    return (await site.transport.append_log(ROOM, log, "evil", encode_payload(update))).offset


async def test_no_checkpoint_forgets_what_waits(backend: Backend, make_site: MakeSite) -> None:
    sites = [await make_site(dead_after_s=60.0) for _ in range(2)]
    sites[0].text += "words "
    await together(*sites)
    await forge(sites[0], NEXT)
    sites[0].text += "go on "
    assert await together(*sites) == "words go on "
    await until(lambda: all(site.link.replicator.held for site in sites), what="that it waits")
    for site in sites:
        await site.link.checkpoint()
    late = await make_site(dead_after_s=60.0)
    assert await together(*sites, late) == "words go on "
    assert late.link.replicator.held
    await forge(sites[0], FIRST)
    await until(lambda: "abcd" in str(late), what="what it has waited for")
    assert "abcd" in await together(*sites, late)
    assert not any(site.link.replicator.held for site in (*sites, late))
    await sites[1].link.checkpoint()
    latest = await make_site()
    assert "abcd" in await together(*sites, late, latest)


async def test_what_waits_in_vain_is_told_of_and_hinders_nobody(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.text += "words"
    await site.flush()
    await forge(site, NEXT)
    replicator = site.link.replicator
    await until(lambda: replicator.given_up and not replicator.held, 10, "that it is given up")
    assert site.replica.counters["quarantined"] == 1
    await site.link.checkpoint()
    late = await make_site()
    assert await together(site, late) == "words"
    assert not late.link.replicator.held
    # Should it come after all, whoever has it puts it back.
    await forge(site, FIRST)
    await until(lambda: "abcd" in str(late), what="what was given up")
    assert "abcd" in await together(site, late)
