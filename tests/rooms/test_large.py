"""Large documents: what takes long is done in threads, and nothing else is different."""

from __future__ import annotations

import base64
import random
import threading
import zlib
from collections import defaultdict
from typing import Any

import pytest
from pycrdt import Doc, handle_sync_message
from support.waiting import until
from support.yjs_bytes import blocks, string
from transports.backends import Backend

from jupyter_teleportal.core import log_decoding
from jupyter_teleportal.core.content import make_document
from jupyter_teleportal.core.crdt import NOTHING
from jupyter_teleportal.core.update_walk import STEP2, SYNC, UPDATE
from jupyter_teleportal.files import file_contents, notes, snapshots
from jupyter_teleportal.sync import effects
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.sync.room_link import RoomLink
from jupyter_teleportal.sync.threads import LARGE_BYTES
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport
from rooms import test_links
from rooms.sites import ROOM, TIMING, Disk, Start, same
from rooms.test_links import MakeSite, make_site

__all__ = ["make_site"]

LARGE = base64.b64encode(random.Random(1).randbytes(2 * LARGE_BYTES)).decode()
"""What does not compress, so that it is large in the log too."""


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[threading.Thread]]:
    """In which threads each kind of work was done on large content."""
    found: defaultdict[str, set[threading.Thread]] = defaultdict(set)

    def note(module: Any, name: str) -> None:
        work = getattr(module, name)

        def noted(*args: Any, **keywords: Any) -> Any:
            if any(
                len(argument) >= LARGE_BYTES
                for argument in args
                if isinstance(argument, str | bytes)
            ):
                found[name].add(threading.current_thread())
            return work(*args, **keywords)

        monkeypatch.setattr(module, name, noted)

    note(effects, "encode_payload")
    note(log_decoding, "read_update")
    note(file_contents, "seed")
    note(snapshots, "digest")
    note(notes, "encode_note")
    return found


def off_loop(threads: dict[str, set[threading.Thread]], *names: str) -> bool:
    return all(threads[name] and threading.main_thread() not in threads[name] for name in names)


async def test_a_large_document_is_opened_edited_and_saved(
    start: Start, disk: Disk, threads: dict[str, set[threading.Thread]]
) -> None:
    disk.content = LARGE
    a, b = await start("a"), await start("b")
    assert a.text == b.text == LARGE
    assert off_loop(threads, "seed", "encode_payload", "read_update")
    a.write(" of a")
    b.write(" of b")
    await until(same(a, b), what="both edits on both")
    await until(lambda: disk.content == a.text, what="the file")
    assert set(disk.written) == {"a"}
    assert off_loop(threads, "seed", "digest")


async def test_a_large_piece_is_pasted_into_a_small_document(
    start: Start, disk: Disk, threads: dict[str, set[threading.Thread]]
) -> None:
    a, b = await start("a"), await start("b")
    threads.clear()
    a.write(LARGE)
    a.write(" typed right behind it")
    await until(same(a, b), timeout=10, what="a's paste")
    await until(lambda: disk.content == a.text, timeout=10, what="the file")
    assert a.text == f"text{LARGE} typed right behind it"
    assert off_loop(threads, "encode_payload")


async def test_whoever_types_meanwhile_does_not_keep_a_large_document_from_being_saved(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.content = LARGE
    a = await start("a")
    read = type(a.document).aget
    written: list[str] = []

    async def interrupted(document: Any, *args: Any) -> Any:
        found = await read(document, *args)
        if not written:
            written.append("!")
            a.write("!")
        return found

    monkeypatch.setattr(type(a.document), "aget", interrupted)
    content_at_once = await a.link.reconciler.snapshots.take()
    assert written
    assert content_at_once == a.text == f"{LARGE}!"
    assert not await a.link.reconciler.holds_document()


async def test_edits_of_an_outage_are_noted_beside_a_large_file(
    start: Start, disk: Disk, threads: dict[str, set[threading.Thread]]
) -> None:
    disk.content = LARGE
    a, b = await start("a"), await start("b")
    a.transport.disconnect()
    a.write(" alone")
    await until(lambda: disk.note is not None, timeout=10, what="the note")
    await until(lambda: disk.content == f"{LARGE} alone", timeout=10, what="the save")
    assert off_loop(threads, "encode_note")
    a.transport.reconnect()
    await until(same(a, b), timeout=10, what="the edit on both")


def text_after(messages: list[bytes]) -> str:
    """What a client's document holds that gets these messages."""
    doc: Doc[Any] = Doc()
    for message in messages:
        handle_sync_message(message[1:], doc)
    return str(make_document("file", doc).get())


async def test_the_first_client_gets_the_update_that_the_document_began_with(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.content = LARGE
    a, b = await start("a"), await start("b")
    a.write(" of a")
    await until(same(a, b), what="the edit on both")
    for server in (a, b):
        made: list[bytes] = []
        whole = server.document.ydoc.get_update

        def noted(*state: bytes, made: list[bytes] = made, whole: Any = whole) -> bytes:
            made.append(whole(*state))
            return made[-1]

        monkeypatch.setattr(server.document.ydoc, "get_update", noted)
        first = server.link.live.answer(NOTHING)
        assert [message[1] for message in first[:-1]] == [UPDATE] * (len(first) - 1)
        assert first[-1][1] == STEP2
        assert max(map(len, made)) < LARGE_BYTES, "made anew"
        # It is kept for the first one only; and who has something already gets what is missing.
        second = server.link.live.answer(NOTHING)
        assert [message[1] for message in second] == [STEP2]
        assert text_after(first) == text_after(second) == f"{LARGE} of a"


async def test_a_client_that_has_something_already_gets_what_it_lacks(
    start: Start, disk: Disk
) -> None:
    disk.content = LARGE
    a = await start("a")
    state = a.document.ydoc.get_state()
    a.write("!")
    (message,) = a.link.live.answer(state)
    assert len(message) < LARGE_BYTES
    assert message[:2] == bytes((SYNC, STEP2))


async def test_what_was_passed_over_is_not_sent_to_a_client(hub: MemoryHub) -> None:
    whole = make_document("file")
    whole.set(LARGE)
    link = RoomLink(Replica(MemorySyncTransport(hub), timing=TIMING), ROOM, Doc())
    link.live.apply((b"\xff" * LARGE_BYTES, whole.ydoc.get_update()))
    messages = link.live.answer(NOTHING)
    assert [message[1] for message in messages] == [UPDATE, STEP2]
    assert text_after(messages) == LARGE


@pytest.mark.parametrize("announced", [True, False])
async def test_what_inflates_to_much_does_so_in_a_thread(
    backend: Backend,
    make_site: MakeSite,
    threads: dict[str, set[threading.Thread]],
    announced: bool,
) -> None:
    """However small it is in the log, or on the channel."""
    text = "a" * 50_000_000
    entry = b"\x01" + zlib.compress(blocks(5, 0, string(text)), 9)
    assert len(entry) < 60_000
    first = await make_site()
    assert first.link.replicator.log is not None
    if not announced:
        await first.link.aclose()
    await first.transport.append_log(test_links.ROOM, first.link.replicator.log, "another", entry)
    site = first if announced else await make_site()
    await until(lambda: len(site.text) == len(text), timeout=10, what="the text")
    assert off_loop(threads, "read_update")
