"""A log may hold what nobody should have put there: that entry alone is passed over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pycrdt import Array, Doc, Text
from support.waiting import until
from support.yjs_bytes import HOSTILE, blocks, string
from transports.backends import Backend

from jupyter_teleportal.core import crdt
from jupyter_teleportal.core.envelopes import AwarenessEnvelope, encode_payload
from jupyter_teleportal.core.errors import DocumentBroken, ForeignBytes
from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.jupyter.status import describe
from jupyter_teleportal.sync.room_link import RoomLink
from rooms.test_links import ROOM, MakeSite, make_site, together

__all__ = ["make_site"]

CRASHES = ["a list of no blocks", "a clock that overflows", "20,000 nested arrays"]


@pytest.mark.parametrize("name", CRASHES)
async def test_a_forged_entry_is_quarantined_alone(
    backend: Backend, make_site: MakeSite, name: str
) -> None:
    sites = [await make_site() for _ in range(2)]
    sites[0].text += "before "
    await together(*sites)
    offset = await sites[0].forge(encode_payload(HOSTILE[name]))
    sites[0].text += "after "
    await sites[0].flush()
    assert await together(*sites) == "before after "
    late = await make_site()
    assert await together(*sites, late) == "before after "
    for site in (*sites, late):
        assert list(site.link.replicator.quarantined) == [offset]
        (room,) = describe(site.replica, Shares({}))["rooms"]
        assert room["quarantined"] == [offset]
        assert site.replica.counters["quarantined"] >= 1
        assert not site.link.replicator.outdated
        assert not site.link.broken
    await late.link.checkpoints.write()
    latest = await make_site()
    assert await together(latest, *sites) == "before after "
    assert not latest.link.replicator.quarantined


async def test_the_rest_of_a_batch_is_applied(backend: Backend, make_site: MakeSite) -> None:
    site = await make_site()
    site.text += "a"
    await site.flush()
    for client, word in enumerate(("b", "c", "d"), 40):
        await site.forge(encode_payload(HOSTILE["a list of no blocks"]))
        await site.forge(encode_payload(blocks(client, 0, string(word))))
    other = await make_site()
    await until(lambda: set(str(other)) == set("abcd"), what="all that can be read")
    assert len(other.link.replicator.quarantined) == 3


async def test_the_library_may_refuse_one_of_a_batch(
    backend: Backend, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site()
    site.text += "a"
    await site.flush()
    refused = blocks(40, 0, string("b"))
    apply = crdt.Door.apply

    def picky(door: crdt.Door, doc: Doc[Any], update: bytes) -> None:
        if update == refused:
            raise ForeignBytes("no such thing")
        apply(door, doc, update)

    monkeypatch.setattr(crdt.Door, "apply", picky)
    offset = await site.forge(encode_payload(refused))
    await site.forge(encode_payload(blocks(41, 0, string("c"))))
    other = await make_site()
    await until(lambda: set(str(other)) == set(str(site)) == set("ac"), what="the rest")
    assert list(other.link.replicator.quarantined) == [offset]


async def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_the_document(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.text += "words"
    await site.flush()
    replicator = site.link.replicator
    assert replicator.log is not None
    await site.transport.compact_log(
        ROOM, replicator.log, replicator.offset, encode_payload(HOSTILE["gaps upon gaps"])
    )
    late = await make_site()
    # Who holds the document puts it back.
    assert await together(site, late) == "words"


async def test_what_builds_on_a_quarantined_entry_waits_and_nothing_else_does(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.text += "words"
    await site.flush()
    lost = string("lost")
    await site.forge(encode_payload(blocks(40, 0, lost, b"\x0d")))
    await site.forge(encode_payload(blocks(40, 4, string("x", beside=(40, 3)))))
    await site.forge(encode_payload(blocks(41, 0, string("here"))))
    await until(lambda: "here" in str(site), what="what does not build on it")
    late = await make_site()
    await until(lambda: str(late) == str(site), what="the same on both")
    assert "x" not in str(late)
    site.text += " go on"
    await until(lambda: " go on" in str(late), what="that it goes on")


@pytest.fixture
def unwary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk lets one kind of bytes through that make the library panic."""
    read = crdt.read_update

    def unwary(update: bytes) -> Any:
        return [] if update == PANICS else read(update)

    monkeypatch.setattr(crdt, "_refused", type(crdt._refused)())
    monkeypatch.setattr("jupyter_teleportal.core.log_decoding.read_update", unwary)
    monkeypatch.setattr(crdt, "read_update", unwary)


PANICS = HOSTILE["a list of no blocks"]


@pytest.mark.usefixtures("unwary")
async def test_a_document_in_which_the_library_has_panicked_is_left_and_opened_anew(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    broken: list[RoomLink] = []
    site.link.room.on_broken = lambda: broken.append(site.link)
    site.doc.apply_update(Doc({"source": Text("known ")}, client_id=5).get_update())
    await site.flush()
    offset = await site.forge(encode_payload(PANICS))
    await until(lambda: broken == [site.link], what="that the document is given up")
    touched: list[Any] = []
    site.doc.observe(touched.append)
    await asyncio.sleep(0.5)  # several heartbeats
    assert site.link.broken
    assert not site.link.lease_keeper.wanted
    await site.link.aclose()
    assert touched == []
    again = await make_site(replica=site.replica)
    await until(lambda: str(again) == "known ", what="the document as it is in the log")
    assert list(again.link.replicator.quarantined) == [offset]
    again.text += "goes on"
    await again.flush()
    await again.link.aclose()


@pytest.mark.usefixtures("unwary")
async def test_nothing_is_written_of_a_document_in_which_the_library_has_panicked(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.doc.apply_update(Doc({"source": Text("known ")}, client_id=5).get_update())
    await site.flush()
    appends = site.appends
    with pytest.raises(DocumentBroken):
        site.link.live.take_in(PANICS)
    site.text += "into nothing"
    await asyncio.sleep(0.2)
    assert site.appends == appends
    await site.link.checkpoints.write()
    assert site.appends == appends


@pytest.mark.parametrize("state", [b"[1]", b"NaN", b'{"a":NaN}'])
async def test_awareness_that_is_no_object_does_not_come_in(
    backend: Backend, make_site: MakeSite, state: bytes
) -> None:
    site = await make_site()
    update = b"\x01\x07\x01" + bytes((len(state),)) + state
    await site.transport.publish(ROOM, AwarenessEnvelope("evil", update).encode())
    await until(lambda: site.replica.counters["envelopes"] == 1, what="the complaint")
    assert 7 not in site.awareness.states


async def test_what_a_server_nests_itself_is_told_of(backend: Backend, make_site: MakeSite) -> None:
    site = await make_site()
    inner = cells = site.doc.get("cells", type=Array)
    for _ in range(250):
        inner.append(Array())
        inner = inner[0]
    complaints = site.replica.complaints
    await until(
        lambda: any("others do not take" in c.message for c in complaints.values()),
        what="the complaint",
    )
    assert len(cells) == 1


LATER = bytes((9,)) + b"what a later version has written"


async def test_a_later_format_that_no_server_writes_is_quarantined(
    backend: Backend, make_site: MakeSite
) -> None:
    sites = [await make_site() for _ in range(2)]
    offset = await sites[0].forge(LATER)
    for site in sites:
        await until(
            lambda site=site: list(site.link.replicator.quarantined) == [offset], what="its place"
        )
        assert not site.link.replicator.outdated
        assert f"quarantined {ROOM.room}" in site.replica.complaints
    await until(lambda: any(site.link.lease_keeper.wanted for site in sites), what="who saves it")
    # And whoever repeats it stops nothing any more.
    await sites[0].forge(LATER)
    await until(lambda: len(sites[1].link.replicator.quarantined) == 2, what="its place")
    assert not any(site.link.replicator.outdated for site in sites)
    late = await make_site()
    await until(lambda: len(late.link.replicator.quarantined) == 2, what="the same for a third")
    await until(
        lambda: all(f"rooms {ROOM.room}" not in site.replica.complaints for site in sites),
        what="that it is well",
    )


async def test_what_a_server_that_lives_says_it_writes_stops_the_saving(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.replica.formats[ROOM.share] = 9
    offset = await site.forge(LATER)
    await until(lambda: site.link.replicator.outdated, what="the entry")
    # Also when that one has left: what it has written is there.
    site.replica.formats[ROOM.share] = 1
    await asyncio.sleep(0.6)
    assert site.link.replicator.outdated
    assert not site.link.lease_keeper.wanted
    assert offset not in site.link.replicator.quarantined


async def test_a_server_that_says_late_what_it_writes_is_believed(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    await site.forge(LATER)
    await until(lambda: site.link.replicator.quarantined, what="the quarantine")
    site.replica.formats[ROOM.share] = 9
    await until(lambda: site.link.replicator.outdated, what="that it is believed")
    assert not site.link.lease_keeper.wanted


async def test_a_checkpoint_that_no_server_can_have_written_is_not_the_document(
    backend: Backend, make_site: MakeSite
) -> None:
    site = await make_site()
    site.text += "words"
    await site.flush()
    replicator = site.link.replicator
    assert replicator.log is not None
    await site.transport.compact_log(ROOM, replicator.log, replicator.offset, LATER)
    late = await make_site()
    assert await together(site, late) == "words"
    assert not late.link.replicator.outdated
