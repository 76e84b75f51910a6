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
from transports.backends import Backend, RedisBackend

from jupyter_teleportal import WebsocketServer
from jupyter_teleportal.core import resync
from jupyter_teleportal.core.completeness import Waiting
from jupyter_teleportal.core.envelopes import encode_payload
from jupyter_teleportal.core.messages import sync_message
from jupyter_teleportal.core.resync import ANSWER_S, QUESTIONS_MAX, Resync
from jupyter_teleportal.core.update_walk import STEP1, STEP2, SYNC, UPDATE, read_message
from rooms.test_links import ROOM, MakeSite, Site, log_text, make_site, together
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


async def test_no_checkpoint_forgets_what_waits(backend: Backend, make_site: MakeSite) -> None:
    sites = [await make_site(dead_after_s=60.0) for _ in range(2)]
    sites[0].text += "words "
    await together(*sites)
    await sites[0].forge(encode_payload(NEXT))
    sites[0].text += "go on "
    assert await together(*sites) == "words go on "
    await until(lambda: all(site.link.replicator.held for site in sites), what="that it waits")
    for site in sites:
        await site.link.checkpoints.write()
    late = await make_site(dead_after_s=60.0)
    assert await together(*sites, late) == "words go on "
    assert late.link.replicator.held
    await sites[0].forge(encode_payload(FIRST))
    await until(lambda: "abcd" in str(late), what="what it has waited for")
    assert "abcd" in await together(*sites, late)
    assert not any(site.link.replicator.held for site in (*sites, late))
    await sites[1].link.checkpoints.write()
    latest = await make_site()
    assert "abcd" in await together(*sites, late, latest)


async def test_what_waits_in_vain_is_told_of_and_hinders_nobody(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.text += "words"
    await site.flush()
    await site.forge(encode_payload(NEXT))
    replicator = site.link.replicator
    await until(lambda: replicator.given_up and not replicator.held, 10, "that it is given up")
    assert site.replica.counters["quarantined"] == 1
    await site.link.checkpoints.write()
    late = await make_site()
    assert await together(site, late) == "words"
    assert not late.link.replicator.held
    # Should it come after all, whoever has it puts it back.
    await site.forge(encode_payload(FIRST))
    await until(lambda: "abcd" in str(late), what="what was given up")
    assert "abcd" in await together(site, late)


# -- what honest people do -----------------------------------------------------------------


async def test_a_browser_that_comes_back_and_is_typed_into_at_once_loses_nothing(
    backend: Backend,
) -> None:
    """What it types before it is asked builds on what it has written while it was offline."""
    mine: Doc[Any] = Doc()
    text = mine.get("source", type=Text)
    sent: list[bytes] = []
    text += "written offline "
    text += "and more "
    mine.observe(lambda event: sent.append(event.update))
    async with a_room(backend) as (doc, client):
        for word in ("typed ", "at ", "once "):
            text += word
        del text[:8]
        for update in sent:
            client.send(UPDATE, update)
        sent.clear()
        client.send(STEP2, mine.get_update(b"\0"))
        text += "and after"
        client.send(UPDATE, sent[0])
        here = doc.get("source", type=Text)
        await until(lambda: str(here) == str(text), 1, "all of it")
        assert str(here) == "offline and more typed at once and after"
        assert doc.get_state() == mine.get_state()
        assert client.questions == 1


async def forget(backend: Backend, site: Site, offset: str) -> None:
    """The log loses its last entry, as in a failover of Redis."""
    if isinstance(backend, RedisBackend):
        key = f"{site.transport.channel(ROOM)}:log"
        with backend.server.cli() as client:
            assert client.xdel(key, offset) == 1
            before = client.xrevrange(key, count=1)[0][0]
            client.hset(f"{site.transport.channel(ROOM)}:checkpoint", "tail", before)
    else:
        room = backend.hub.rooms[ROOM]
        room.entries[:] = [entry for entry in room.entries if entry.offset != offset]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what has had to wait."""
    names: list[str] = []
    add = Waiting.add

    def noted(self: Waiting[Any], name: str, *args: Any) -> Any:
        names.append(name)
        return add(self, name, *args)

    monkeypatch.setattr(Waiting, "add", noted)
    return names


async def test_what_a_failover_forgot_is_put_back_and_what_builds_on_it_comes_too(
    backend: Backend, make_site: MakeSite, held: list[str]
) -> None:
    sites = [await make_site(dead_after_s=60.0) for _ in range(2)]
    sites[0].text += "one "
    await together(*sites)
    sites[0].text += "forgotten "
    await together(*sites)
    replicator = sites[0].link.replicator
    forgotten, log = replicator.offset, replicator.log
    assert log is not None
    # The other one writes on before anybody notices.
    mine: list[bytes] = []
    sites[1].doc.observe(lambda event: mine.append(event.update))
    await forget(backend, sites[0], forgotten)
    sites[1].text += "two"
    await together(*sites)
    late = await make_site(dead_after_s=60.0)
    assert await together(*sites, late, timeout=2) == "one forgotten two"
    assert not any(site.link.replicator.held for site in (*sites, late))
    assert await log_text(late) == "one forgotten two"


async def test_what_nobody_has_any_more_delays_nobody(
    backend: Backend, make_site: MakeSite, held: list[str]
) -> None:
    first = await make_site()
    second = await make_site()
    first.text += "one "
    await together(first, second)
    first.text += "forgotten "
    await together(first, second)
    forgotten = first.link.replicator.offset
    await forget(backend, first, forgotten)
    second.text += "two"
    await second.flush()
    tail = (await second.transport.read_history(ROOM)).entries[-1].offset
    kept = second.doc.get_update()
    for site in (first, second):
        await site.die()
    late = await make_site()
    late.text += "three"
    await late.flush()
    replicator = late.link.replicator
    await until(lambda: not replicator.held, 10, "that it is given up")
    assert str(late.text).startswith("one ")
    assert replicator.settled
    # One of them comes back, as a note or as a browser that has been asleep.
    if tail in held:
        assert "forgotten" not in str(late.text)
    late.link.live.take_in(kept)
    newest = await make_site()
    assert {"forgotten", "two"} <= set((await together(late, newest)).replace("three", " ").split())


async def test_a_large_edit_and_a_small_one_right_after_it_wait_for_nothing(
    backend: Backend, make_site: MakeSite, held: list[str]
) -> None:
    """The large one is announced without its content, so that it is read later."""
    sites = [await make_site() for _ in range(3)]
    for number in range(5):
        sites[number % 2].text += "x" * 300_000
        await asyncio.sleep(0)
        sites[number % 2].text += "small "
        await sites[number % 2].flush()
    await together(*sites)
    assert len(str(sites[2])) == 5 * 300_006
    assert not held
    assert all(site.replica.counters["quarantined"] == 0 for site in sites)


async def test_who_was_away_while_the_others_wrote_on_waits_for_nothing(
    backend: Backend, make_site: MakeSite, held: list[str]
) -> None:
    sites = [await make_site() for _ in range(3)]
    sites[0].text += "before "
    await together(*sites)
    for number in range(3):
        await backend.disconnect()
        for site in sites:
            site.text += f"away{number} "
        await backend.reconnect()
        sites[number].text.insert(0, f"back{number} ")
    words = set((await together(*sites, timeout=10)).split())
    assert words == {"before", *(f"{word}{n}" for n in range(3) for word in ("away", "back"))}
    assert not held
