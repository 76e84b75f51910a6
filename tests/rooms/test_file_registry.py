"""File ids of several servers, kept in step."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.waiting import holds, until

from jupyter_teleportal.core.envelopes import FORMAT, Notice
from jupyter_teleportal.core.errors import SharePathMismatch, TransportRefused
from jupyter_teleportal.core.shares import SharedPath, Shares
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.files.path_claims import Look
from jupyter_teleportal.files.remembered_ids import Memory
from jupyter_teleportal.jupyter import untold
from jupyter_teleportal.jupyter.file_ids import FileRegistry
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.base import MISSED
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport


def at(path: str) -> SharedPath:
    return SharedPath("default", path)


@dataclass
class Site:
    transport: MemorySyncTransport
    ids: FileRegistry
    replica: Replica
    ended: list[str] = field(default_factory=list)


async def join(
    hub: MemoryHub, there: dict[str, Look] | None = None, shares: dict[str, str] | None = None
) -> Site:
    """A server; `there`: what its folder shows, which it looks at before it believes others."""
    transport = MemorySyncTransport(hub)
    replica = Replica(transport)
    site = Site(transport, FileRegistry(replica, Shares(shares or {"": "default"})), replica)
    site.ids.on_deletion(site.ended.append)
    if there is not None:

        async def look(share: str, file_id: str, path: str) -> Look:
            return there.get(path, Look.GONE)

        site.ids.look_with(look)
    await transport.start()
    await site.ids.start()
    return site


async def test_a_folder_is_renamed_where_its_document_was_never_opened(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("folder/x"))
    await a.ids.register(at("folder/x"))
    b.ids.move(at("folder"), at("renamed"))
    await until(lambda: a.ids.api_path(file_id) == "renamed/x", what="the rename")
    await b.ids.flush()
    assert b.ids.index(at("renamed/x")) == file_id


async def test_a_folder_is_deleted_where_its_document_was_never_opened(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("folder/x"))
    await a.ids.register(at("folder/x"))
    b.ids.delete(at("folder"))
    await until(lambda: file_id in a.ended, what="the end")


async def test_ids_survive_an_emptied_transport(hub: MemoryHub) -> None:
    a = await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    a.transport.disconnect()
    hub.clear()
    a.transport.reconnect()
    await a.ids.flush()
    late = await join(hub)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "new"
    assert late.ids.index(at("new")) == file_id


async def test_a_deletion_during_an_absence_is_learned(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("doc"))
    await a.ids.register(at("doc"))
    b.ids.index(at("doc"))
    a.transport.disconnect()
    b.ids.delete(at("doc"))
    await b.ids.flush()
    again = b.ids.index(at("doc"))
    await b.ids.register(at("doc"))
    a.transport.reconnect()
    await a.ids.flush()
    assert again != file_id
    assert a.ended == [file_id]
    assert a.ids.api_path(file_id) is None


@pytest.mark.parametrize("looks", [False, True], ids=["believed", "looked at"])
@pytest.mark.parametrize("new", ["new", None], ids=["renamed", "deleted"])
async def test_what_is_renamed_or_deleted_during_an_outage_is_told_after_it(
    hub: MemoryHub, new: str | None, looks: bool
) -> None:
    there = {"old": Look.THERE}
    a, b = await join(hub, there if looks else None), await join(hub, there if looks else None)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    b.transport.disconnect()
    there.clear()
    if new is None:
        b.ids.delete(at("old"))
    else:
        there[new] = Look.THERE
        b.ids.move(at("old"), at(new))
    b.transport.reconnect()
    await until(lambda: a.ids.api_path(file_id) == new, what="the news")
    assert b.ids.api_path(file_id) == new
    late = await join(hub)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == new


@pytest.mark.parametrize("looks", [False, True], ids=["believed", "looked at"])
@pytest.mark.parametrize("new", ["new", None], ids=["renamed", "deleted"])
@pytest.mark.parametrize("where", ["", "folder/"], ids=["a file", "in a folder"])
async def test_what_is_new_at_an_old_path_stays_there(
    hub: MemoryHub, new: str | None, looks: bool, where: str
) -> None:
    """What was renamed or deleted during an outage was another document."""
    there = {f"{where}old": Look.THERE}
    a, b = await join(hub, there if looks else None), await join(hub, there if looks else None)
    first = a.ids.index(at(f"{where}old"))
    await a.ids.register(at(f"{where}old"))
    assert b.ids.index(at(f"{where}old")) == first
    b.transport.disconnect()
    if new is None:
        b.ids.delete(at(where.rstrip("/") or "old"))
    else:
        there[f"{new}/old" if where else new] = Look.THERE
        b.ids.move(at(where.rstrip("/") or "old"), at(new))
    second = b.ids.index(at(f"{where}old"))
    await b.ids.register(at(f"{where}old"))
    assert second != first
    b.transport.reconnect()
    gone_to = None if new is None else f"{new}/old" if where else new
    await until(lambda: not b.ids._untold.all, what="what was done")
    assert not b.replica.counters["forged_paths"]
    late = await join(hub)
    for site in (b, late) if looks else (a, b, late):
        await until(lambda site=site: not site.ids._untold.all, what="what was done")
        await site.ids.resolve(first)
        await until(lambda site=site: site.ids.api_path(first) == gone_to, what="the first")
        assert site.ids.index(at(f"{where}old")) == second


async def test_what_only_others_have_opened_goes_along_unless_it_is_new(hub: MemoryHub) -> None:
    there = {"folder/x": Look.THERE}
    a, b = await join(hub, there), await join(hub, there)
    known = a.ids.index(at("folder/x"))
    await a.ids.register(at("folder/x"))
    b.transport.disconnect()
    there["renamed/x"] = there.pop("folder/x")
    b.ids.move(at("folder"), at("renamed"))
    there["folder/y"] = Look.THERE
    new = a.ids.index(at("folder/y"))
    await a.ids.register(at("folder/y"))
    b.transport.reconnect()
    await until(lambda: a.ids.api_path(known) == "renamed/x", what="the rename")
    late = await join(hub)
    await late.ids.resolve(new)
    assert late.ids.api_path(new) == a.ids.api_path(new) == "folder/y"


@pytest.mark.parametrize("gone", [True, False], ids=["the folder is gone", "it is there again"])
async def test_whoever_forges_paths_makes_nobody_wait(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """What was renamed is looked at once, for all that is said to be in it, and not for ever."""
    monkeypatch.setattr(untold, "LOOKED_AT_MAX", 1000)
    there = {"folder/x": Look.THERE, "folder": Look.THERE}
    site, other = await join(hub), await join(hub)
    looks: list[int] = []

    async def look(share: str, file_id: str, path: str) -> Look:
        raise AssertionError("one at a time")

    async def missing(share: str, folder: str, paths: Collection[str]) -> set[str]:
        looks.append(len(paths))
        return {path for path in paths if path not in there}

    site.ids.look_with(look, missing)
    known = site.ids.index(at("folder/x"))
    await site.ids.register(at("folder/x"))
    other.ids.index(at("folder/x"))
    for number in range(3000):
        hub.maps[Scope("default"), "paths"][f"forged-{number}"] = f"folder/{number}"
    if not gone:
        there |= {f"folder/{number}": Look.CLOSED for number in range(3000)}
    site.ids.move(at("folder"), at("renamed"))
    await until(lambda: other.ids.api_path(known) == "renamed/x", what="the rename")
    assert looks == [1000]
    assert other.ids.api_path("forged-7") == ("renamed/7" if gone else None)
    assert site.replica.counters["forged_paths"] == 1


async def test_a_share_in_which_a_look_takes_long_delays_no_other(hub: MemoryHub) -> None:
    shares = {"a": "a", "b": "b"}
    site, other = await join(hub, shares=shares), await join(hub, shares=shares)
    looking = asyncio.Event()

    async def look(share: str, file_id: str, path: str) -> Look:
        return Look.GONE

    async def missing(share: str, folder: str, paths: Collection[str]) -> set[str]:
        looking.set()
        await asyncio.Event().wait()
        raise AssertionError("it ends")

    site.ids.look_with(look, missing)
    for share in shares:
        site.ids.index(SharedPath(share, "old"))
        other.ids.index(SharedPath(share, "old"))
    hub.maps[Scope("a"), "paths"]["forged"] = "old/forged"
    site.ids.move(SharedPath("a", "old"), SharedPath("a", "new"))
    await asyncio.wait_for(looking.wait(), 5)
    renamed = site.ids.move(SharedPath("b", "old"), SharedPath("b", "new"))
    await until(lambda: other.ids.api_path(renamed) == "b/new", what="the rename")


async def test_a_rename_that_could_not_be_told_is_told_later(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    hub.full = True
    b.ids.move(at("old"), at("new"))
    await until(lambda: b.replica.counters["files"], what="the complaint")
    hub.full = False
    await b.ids.tick()
    await until(lambda: a.ids.api_path(file_id) == "new", what="the rename")


async def test_registering_does_not_undo_a_rename(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("old"))
    await a.transport.unsubscribe(Scope("default"))
    b.ids.index(at("old"))
    b.ids.move(at("old"), at("new"))
    await b.ids.flush()
    await a.ids.register(at("old"))
    assert a.ids.api_path(file_id) == "new"
    late = await join(hub)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "new"


async def test_ids_are_put_back_when_the_hub_forgets_them_without_a_disconnect(
    hub: MemoryHub,
) -> None:
    """As FLUSHALL does, and a server that starts after it comes first."""
    a = await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    hub.clear()
    b = await join(hub)
    assert b.ids.find(file_id) is None
    await a.ids.tick()
    await b.ids.resolve(file_id)
    assert b.ids.api_path(file_id) == "new"
    c = await join(hub)
    assert c.ids.index(at("new")) == file_id


async def tell(hub: MemoryHub, files: Any, paths: Any, share: str = "default") -> None:
    """What a member of the share can write and say."""
    forger = MemorySyncTransport(hub)
    await forger.start()
    details = {"files": files, "paths": paths}
    await forger.publish(Scope(share), Notice("forger", "files", details).encode())
    await forger.aclose()


async def test_a_rename_is_believed_once_the_folder_shows_it(hub: MemoryHub) -> None:
    there = {"a": Look.THERE}
    site = await join(hub, there)
    file_id = site.ids.index(at("a"))
    await tell(hub, {"b": file_id, "a": "x"}, {file_id: "b"})
    await holds(lambda: site.ids.api_path(file_id) == "a", seconds=0.5, what="the old path")
    there["b"] = there.pop("a")
    await until(lambda: site.ids.api_path(file_id) == "b", what="the rename")
    assert site.ids.index(at("a")) == "x"


async def test_what_was_renamed_a_moment_ago_is_opened_as_the_same_document(hub: MemoryHub) -> None:
    there = {"a": Look.THERE}
    one, two = await join(hub, there), await join(hub, there)

    async def look(share: str, file_id: str, path: str) -> Look:
        await asyncio.sleep(0.05)  # as in a thread
        return there.get(path, Look.GONE)

    two.ids.look_with(look)
    file_id = one.ids.index(at("a"))
    assert two.ids.index(at("a")) == file_id
    there["b"] = there.pop("a")
    one.ids.move(at("a"), at("b"))
    await one.ids.flush()
    # The other server has heard of it, and has not looked yet.
    await two.ids.register(at("b"))
    assert two.ids.index(at("b")) == file_id


async def test_what_this_server_has_not_heard_of_is_opened_as_the_same_document(
    hub: MemoryHub,
) -> None:
    """The map in the transport comes before the message that it has changed."""
    there = {"a": Look.THERE}
    one, two = await join(hub, there), await join(hub, there)
    file_id = one.ids.index(at("a"))
    await one.ids.register(at("a"))
    assert two.ids.index(at("a")) == file_id
    await two.ids.register(at("a"))
    await two.transport.unsubscribe(Scope("default"))
    there["b"] = there.pop("a")
    one.ids.move(at("a"), at("b"))
    await one.ids.flush()
    await two.ids.register(at("b"))
    assert two.ids.index(at("b")) == file_id


async def test_a_deletion_is_believed_once_the_folder_shows_it(hub: MemoryHub) -> None:
    there = {"a": Look.THERE}
    site = await join(hub, there)
    file_id = site.ids.index(at("a"))
    await tell(hub, {"a": "x"}, {file_id: None})
    await holds(lambda: not site.ended, seconds=0.5, what="the document")
    assert site.ids.index(at("a")) == file_id
    del there["a"]
    await until(lambda: site.ended == [file_id], what="the end")


async def test_what_the_folder_never_shows_is_said_and_counted(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_teleportal.files.path_claims.DOUBTED_AFTER_S", 0.2)
    site = await join(hub, {"a": Look.THERE, "b": Look.THERE})
    file_id = site.ids.index(at("a"))
    await tell(hub, {"b": file_id}, {file_id: "b"})
    await until(lambda: "forged_moves default" in site.replica.complaints, what="a complaint")
    assert site.ids.api_path(file_id) == "a"


async def test_a_file_made_anew_during_an_absence_is_another_document(hub: MemoryHub) -> None:
    there = {"doc": Look.THERE}
    a, b = await join(hub, there), await join(hub)
    file_id = a.ids.index(at("doc"))
    await a.ids.register(at("doc"))
    b.ids.index(at("doc"))
    a.transport.disconnect()
    b.ids.delete(at("doc"))
    await b.ids.flush()
    again = b.ids.index(at("doc"))
    await b.ids.register(at("doc"))
    there["doc"] = Look.OTHER
    a.transport.reconnect()
    await until(lambda: a.ended == [file_id], what="the end")
    assert a.ids.index(at("doc")) == again


async def test_a_document_renamed_to_where_one_was_deleted(hub: MemoryHub) -> None:
    """And the folder shows both at once, as a network file system may."""
    there = {"a": Look.THERE, "b": Look.THERE}
    site = await join(hub, there)
    a, b = site.ids.index(at("a")), site.ids.index(at("b"))
    await tell(hub, {"b": "x"}, {b: None})
    await tell(hub, {"b": a, "a": "y"}, {a: "b"})
    await holds(lambda: not site.ended, seconds=0.3, what="both documents")
    del there["a"]
    await until(lambda: site.ids.api_path(a) == "b", what="the rename")
    assert site.ended == [b]
    assert site.ids.index(at("b")) == a


@pytest.mark.parametrize(
    "path",
    [
        "inner/x",
        "../x",
        "/x",
        "x/",
        "a//b",
        "./x",
        "x/.",
        "a\\b",
        "x\0",
        "\ud800",
        "x" * 5000,
        7,
        ["x"],
    ],
)
async def test_a_path_that_no_server_would_write_is_passed_over(hub: MemoryHub, path: Any) -> None:
    site = await join(hub, shares={"": "default", "inner": "inner"})
    known = site.ids.index(at("known"))
    files = {path: "id"} if isinstance(path, str) else {}
    await tell(hub, {**files, "good": "good"}, {"id": path, "good": "good"})
    await until(lambda: site.ids.api_path("good") == "good", what="the rest")
    assert site.ids.find("id") is None
    assert site.ids.api_path(known) == "known"
    assert site.replica.counters["forged_paths"]


@pytest.mark.parametrize("wrong", [None, 7, [], "x", {"a": {}}, {"": ""}])
async def test_a_notice_of_another_shape_stops_nothing(hub: MemoryHub, wrong: Any) -> None:
    site = await join(hub)
    await tell(hub, wrong, wrong)
    await tell(hub, {"good": "good"}, {"good": "good"})
    await until(lambda: site.ids.api_path("good") == "good", what="the next notice")


@pytest.mark.parametrize("first", [True, False])
async def test_a_share_says_nothing_of_another_shares_documents(
    hub: MemoryHub, first: bool
) -> None:
    site = await join(hub, shares={"evil": "evil", "team": "team"})
    document = SharedPath("team", "doc")
    file_id = document.default_file_id()
    if first:
        site.ids.index(document)
    await tell(hub, {"trap": file_id}, {file_id: "trap"}, share="evil")
    assert site.ids.index(document) == file_id
    assert site.ids.api_path(file_id) == "team/doc"
    assert site.replica.counters["forged_paths"]


async def test_an_id_in_the_map_takes_no_documents_path(hub: MemoryHub) -> None:
    site = await join(hub)
    file_id = site.ids.index(at("doc"))
    await site.transport.write_map(Scope("default"), "paths", {"forged": "doc"})
    await site.ids.resolve("forged")
    assert site.ids.find("forged") is None
    assert site.ids.index(at("doc")) == file_id


async def test_where_a_share_is_counts_only_if_a_server_says_so(hub: MemoryHub) -> None:
    forger = MemorySyncTransport(hub)
    await forger.start()
    for about in ({"folder": "elsewhere"}, {"folder": "elsewhere", "epoch": "x"}):
        await forger.write_map(Scope("team"), "about", about)
        site = await join(hub, shares={"team": "team"})
        site.ids.agreement.check("team")
        about = await forger.read_map(Scope("team"), "about")
        assert about["folder"] == "team"


async def test_a_share_that_a_server_has_elsewhere_is_refused(hub: MemoryHub) -> None:
    first = await join(hub, shares={"team": "team"})
    await first.replica.beat()
    second = MemorySyncTransport(hub)
    replica = Replica(second)
    await second.start()
    await replica.beat()
    ids = FileRegistry(replica, Shares({"moved": "team"}))
    await ids.start()
    with pytest.raises(SharePathMismatch, match="moved"):
        ids.agreement.check("team")
    first.ids.agreement.check("team")


TWO = {"refused": "refused", "team": "team"}


def refuse(site: Site, share: str = "refused") -> None:
    """The transport's account has no right to the share any more."""
    for operation in ("read_map", "write_map", "publish", "subscribe"):
        site.transport.forbidden.add((operation, share))


def allow(site: Site) -> None:
    site.transport.forbidden.clear()


async def test_a_refused_share_keeps_no_other_from_being_loaded(hub: MemoryHub) -> None:
    a, b = await join(hub, shares=TWO), await join(hub, shares=TWO)
    file_id = a.ids.index(SharedPath("team", "old"))
    await a.ids.register(SharedPath("team", "old"))
    b.ids.index(SharedPath("team", "old"))
    b.transport.disconnect()
    a.ids.move(SharedPath("team", "old"), SharedPath("team", "new"))
    await a.ids.flush()
    refuse(b)
    b.transport.reconnect()
    await until(lambda: b.ids.api_path(file_id) == "team/new", what="the rename")
    assert list(b.replica.complaints) == ["files refused"]


async def test_a_refused_share_keeps_no_other_from_being_checked(hub: MemoryHub) -> None:
    a = await join(hub, shares=TWO)
    file_id = a.ids.index(SharedPath("team", "old"))
    await a.ids.register(SharedPath("team", "old"))
    a.ids.move(SharedPath("team", "old"), SharedPath("team", "new"))
    await a.ids.flush()
    refuse(a)
    hub.clear()
    await a.ids.tick()
    late = await join(hub, shares=TWO)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "team/new"


async def test_a_refused_share_keeps_no_other_from_being_asked(hub: MemoryHub) -> None:
    a, b = await join(hub, shares=TWO), await join(hub, shares=TWO)
    file_id = a.ids.index(SharedPath("team", "doc"))
    await a.ids.register(SharedPath("team", "doc"))
    refuse(b)
    await b.ids.resolve(file_id)
    assert b.ids.api_path(file_id) == "team/doc"


async def test_a_refused_share_keeps_no_other_from_being_told(hub: MemoryHub) -> None:
    a, b = await join(hub, shares=TWO), await join(hub, shares=TWO)
    ids = {}
    for share in TWO:
        ids[share] = a.ids.index(SharedPath(share, "old"))
        b.ids.index(SharedPath(share, "old"))
    a.transport.disconnect()
    for share in TWO:
        a.ids.move(SharedPath(share, "old"), SharedPath(share, "new"))
    refuse(a)
    a.transport.reconnect()
    await until(lambda: b.ids.api_path(ids["team"]) == "team/new", what="the rename")
    assert b.ids.api_path(ids["refused"]) == "refused/old"
    # And that one is told when it can be, also what others say of it is heard again.
    allow(a)
    await a.ids.tick()
    await until(lambda: b.ids.api_path(ids["refused"]) == "refused/new", what="the other rename")
    assert not a.replica.complaints


async def test_a_share_that_was_refused_at_the_start_is_followed_later(hub: MemoryHub) -> None:
    b = await join(hub, shares=TWO)
    transport = MemorySyncTransport(hub)
    replica = Replica(transport)
    a = Site(transport, FileRegistry(replica, Shares(TWO)), replica)
    refuse(a)
    await transport.start()
    await a.ids.start()
    allow(a)
    await a.ids.tick()
    old = SharedPath("refused", "old")
    file_id = b.ids.index(old)
    a.ids.index(old)
    b.ids.move(old, SharedPath("refused", "new"))
    await until(lambda: a.ids.api_path(file_id) == "refused/new", what="the rename")
    assert not replica.complaints


async def test_a_map_that_is_too_large_loses_no_document(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_teleportal.transports.base.MAP_ENTRIES_MAX", 20)
    a = await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    maps = {name: hub.maps[Scope("default"), name] for name in ("files", "paths")}
    maps["files"].update({f"{n}.txt": f"forged-{n}" for n in range(30)})
    maps["paths"].update({f"forged-{n}": f"{n}.txt" for n in range(30)})
    await about(a, epoch="forged")

    # Who comes now finds what was renamed, and nobody takes anything for ended.
    b = await join(hub)
    await a.ids.tick()
    await b.ids.register(at("new"))
    assert b.ids.index(at("new")) == file_id
    assert (a.ids.api_path(file_id), a.ended, b.ended) == ("new", [], [])
    for site in (a, b):
        assert "32 entries, more than 20" in str(site.replica.complaints["forged_paths default"])
        assert site.transport.counters["unreadable"]
    # Renames and deletions go on.
    a.ids.move(at("new"), at("newest"))
    await until(lambda: b.ids.api_path(file_id) == "newest", what="the rename")
    b.ids.delete(at("newest"))
    await until(lambda: a.ended == [file_id], what="the end")
    kept = a.ids.index(at("kept"))
    await a.ids.register(at("kept"))
    a.ids.move(at("kept"), at("kept as"))
    await a.ids.flush()

    # Somebody deletes the three maps, while all go on.
    for name in ("files", "paths", "about"):
        del hub.maps[Scope("default"), name]
    for site in (a, b):
        await site.ids.tick()
    c = await join(hub)
    assert c.ids.index(at("kept as")) == kept
    assert len(hub.maps[Scope("default"), "files"]) < 20


async def about(site: Site, **fields: str) -> dict[str, str]:
    """What is said of the share, after a member has said this."""
    if fields:
        await site.transport.write_map(Scope("default"), "about", dict(fields))
    return await site.transport.read_map(Scope("default"), "about")


async def test_which_format_is_written_counts_for_as_long_as_its_server_lives(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await join(hub)
    await old.replica.beat()
    assert old.replica.formats == {"default": FORMAT}
    monkeypatch.setattr("jupyter_teleportal.files.share_agreement.FORMAT", 9)
    new = await join(hub)
    await new.replica.beat()
    monkeypatch.undo()
    assert (await about(old))["format"] == f"9 {new.replica.id}"
    await old.replica.beat()
    await old.ids.tick()
    assert old.replica.formats == {"default": 9}
    await new.transport.farewell(new.replica.id)
    await old.replica.beat()
    await old.ids.tick()
    assert old.replica.formats == {"default": FORMAT}


@pytest.mark.parametrize("said", ["9 nobody", "99 nobody", "9", "", "x y", "٩ nobody", "9 " * 99])
async def test_a_format_that_no_server_says_it_writes_counts_for_nothing(
    hub: MemoryHub, said: str
) -> None:
    site = await join(hub)
    await site.replica.beat()
    await about(site, format=said)
    await site.ids.tick()
    assert site.replica.formats == {"default": FORMAT}


async def test_what_is_said_of_a_server_that_does_not_say_so_is_set_right(hub: MemoryHub) -> None:
    one, two = await join(hub), await join(hub)
    for site in (one, two):
        await site.replica.beat()
    await one.replica.beat()
    await about(one, format=f"9 {two.replica.id}")
    await two.ids.tick()
    assert (await about(one))["format"] == f"{FORMAT} {two.replica.id}"
    await one.ids.tick()
    assert one.replica.formats == {"default": FORMAT}


async def test_what_is_opened_before_its_rename_is_told_is_the_renamed_document(
    hub: MemoryHub,
) -> None:
    there = {"new": Look.CLOSED}
    a, b = await join(hub, there), await join(hub, there)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    # Nothing of it has gone to the transport yet.
    a.ids.move(at("old"), at("new"))
    made_up = b.ids.index(at("new"))
    assert made_up != file_id
    await b.ids.register(at("new"))
    await until(lambda: b.ids.index(at("new")) == file_id, what="the renamed document")
    assert b.ids.api_path(file_id) == "new"
    assert a.ids.index(at("new")) == file_id


async def test_what_is_remembered_cannot_be_read(hub: MemoryHub, tmp_path: Path) -> None:
    site = await join(hub)
    memory = Memory(tmp_path, lambda share: share)
    memory.save("default", {"../outside": "id", "new": "id"}, {"id": "new"}, [])
    site.ids.remember_in(memory)
    assert site.ids.index(at("new")) == "id"
    assert site.replica.counters["forged_paths"] == 1
    path = memory._path("default")
    path.write_text("nothing")
    other = await join(hub)
    other.ids.remember_in(memory)
    assert path.name in other.replica.complaints["memory default"].message
    other.ids.move(at("a"), at("b"))
    await other.ids.flush()
    assert {"a", "b"} <= set(memory.load("default")[0])


async def test_what_was_renamed_before_a_start_is_told_after_it(
    hub: MemoryHub, tmp_path: Path
) -> None:
    memory = Memory(tmp_path, lambda share: share)
    a, b = await join(hub), await join(hub)
    b.ids.remember_in(memory)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    b.transport.disconnect()
    b.ids.move(at("old"), at("new"))
    await b.ids.flush()
    again = await join(hub)
    again.ids.remember_in(memory)
    await again.ids.tick()
    await until(lambda: a.ids.api_path(file_id) == "new", what="the rename")
    await again.ids.flush()
    assert memory.load("default")[2] == []


async def test_what_is_new_at_an_old_path_stays_there_over_a_start(
    hub: MemoryHub, tmp_path: Path
) -> None:
    there = {"old": Look.THERE}
    memory = Memory(tmp_path, lambda share: share)
    a, b = await join(hub), await join(hub, there)
    b.ids.remember_in(memory)
    first = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    b.transport.disconnect()
    b.ids.move(at("old"), at("new"))
    there["new"] = Look.THERE
    second = b.ids.index(at("old"))
    await b.ids.register(at("old"))
    await b.ids.flush()
    again = await join(hub, there)
    again.transport.disconnect()
    again.ids.remember_in(memory)
    assert again.ids.index(at("old")) == second
    again.transport.reconnect()
    await until(lambda: not again.ids._untold.all, what="what was done")
    for site in (again, a):
        await until(lambda site=site: site.ids.api_path(first) == "new", what="the first")
        assert site.ids.index(at("old")) == second


@pytest.mark.parametrize("where", ["", "folder/"], ids=["a file", "in a folder"])
@pytest.mark.parametrize("undone", [True, False], ids=["undone", "it stands"])
async def test_a_rename_that_was_undone_before_a_start_is_not_told(
    hub: MemoryHub, tmp_path: Path, where: str, undone: bool
) -> None:
    """While the server that had renamed it was stopped, another one has renamed it back."""
    old, new = (where or "old").rstrip("/"), "new"
    old_file, new_file = (f"{old}/doc", f"{new}/doc") if where else (old, new)
    there = {old: Look.CLOSED, old_file: Look.CLOSED}
    memory = Memory(tmp_path, lambda share: share)
    a, b = await join(hub, there), await join(hub, there)
    b.ids.remember_in(memory)
    file_id = a.ids.index(at(old_file))
    await a.ids.register(at(old_file))
    b.ids.index(at(old_file))
    b.transport.disconnect()
    b.ids.move(at(old), at(new))
    await b.ids.flush()
    if not undone:
        there.clear()
        there |= {new: Look.CLOSED, new_file: Look.CLOSED}
    again = await join(hub, there)
    again.transport.disconnect()
    again.ids.remember_in(memory)
    again.transport.reconnect()
    await again.ids.flush()
    await until(lambda: not again.ids._untold.all, what="what was done")
    await again.ids.flush()
    wanted = old_file if undone else new_file
    assert hub.maps[Scope("default"), "paths"][file_id] == wanted
    assert again.ids.index(at(wanted)) == file_id
    await until(lambda: a.ids.api_path(file_id) == wanted, what="where it is")
    assert not memory.load("default")[2]
    assert not a.replica.counters["forged_moves"]


async def test_two_renames_in_one_moment_are_told_as_one(hub: MemoryHub) -> None:
    there = {"old": Look.THERE}
    a, b = await join(hub, there), await join(hub, there)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    there.clear()
    there["last"] = Look.OTHER
    b.ids.move(at("old"), at("next"))
    b.ids.move(at("next"), at("last"))
    await until(lambda: a.ids.api_path(file_id) == "last", what="the rename")
    await b.ids.flush()
    assert not a.ended


async def test_what_another_has_renamed_since_the_transport_was_emptied_is_learned(
    hub: MemoryHub,
) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    for site in (a, b):
        site.transport.disconnect()
    hub.clear()
    a.transport.reconnect()
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    b.transport.reconnect()
    await until(lambda: b.ids.api_path(file_id) == "new", what="the rename")
    assert not b.replica.counters["forged_paths"]


async def test_a_deleted_document_does_not_return_to_another_path(hub: MemoryHub) -> None:
    """Its edits would go to another file."""
    site = await join(hub, {"mine.txt": Look.THERE, "other.txt": Look.CLOSED})
    ids, returned = site.ids, list[str]()
    file_id, other = ids.index(at("mine.txt")), ids.get_id(at("other.txt"))
    assert other is None
    ids.ask_whether_open(lambda i: i == file_id)
    ids.on_return(returned.append)
    await ids.register(at("mine.txt"))
    ids.delete(at("mine.txt"))
    await ids.flush()
    forger = MemorySyncTransport(hub)
    await forger.start()

    async def say(path: str, paths: dict[str, str]) -> None:
        details = {"files": {path: file_id}, "paths": paths}
        await forger.publish(Scope("default"), Notice("forger", "files", details).encode())

    await say("other.txt", {})
    await say("other.txt", {file_id: "other.txt"})
    await say("mine.txt", {file_id: "mine.txt"})
    await until(lambda: returned, what="the true one, which comes last")
    assert returned == [file_id]
    assert ids.api_path(file_id) == "mine.txt"
    assert ids.index(at("other.txt")) != file_id


async def test_a_deleted_documents_id_is_no_other_shares(hub: MemoryHub) -> None:
    site = await join(hub, {"p": Look.THERE}, {"a": "a", "b": "b"})
    ids, secret = site.ids, SharedPath("b", "secret.ipynb")
    file_id = ids.index(secret)
    ids.ask_whether_open(lambda i: i == file_id)
    await ids.register(secret)
    ids.delete(secret)
    await ids.flush()
    forger = MemorySyncTransport(hub)
    await forger.start()
    details = {"files": {"q.ipynb": file_id}, "paths": {file_id: "q.ipynb"}}
    await forger.publish(Scope("a"), Notice("forger", "files", details).encode())
    await until(lambda: "forged_paths a" in site.replica.complaints, what="the complaint")
    await ids.take_path(file_id)
    assert ids.find(file_id) == secret


async def test_a_document_that_takes_its_path_again_ends_no_other_one(hub: MemoryHub) -> None:
    site = await join(hub, {"other.txt": Look.THERE})
    ids = site.ids
    file_id, other = ids.index(at("mine.txt")), ids.index(at("other.txt"))
    ids.ask_whether_open(lambda i: i == file_id)
    for path in ("mine.txt", "other.txt"):
        await ids.register(at(path))
    ids.delete(at("mine.txt"))
    await ids.flush()
    forger = MemorySyncTransport(hub)
    await forger.start()
    await forger.write_map(Scope("default"), "files", {"mine.txt": other})
    await forger.write_map(Scope("default"), "paths", {other: None})
    await ids.take_path(file_id)
    await ids.flush()
    assert ids.find(other) == at("other.txt")
    assert ids.find(file_id) == at("mine.txt")


async def test_a_document_takes_its_path_again_where_the_transport_refuses(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await join(hub)
    ids = site.ids
    file_id = ids.index(at("doc"))
    ids.ask_whether_open(lambda i: i == file_id)
    await ids.register(at("doc"))
    ids.delete(at("doc"))
    await ids.flush()

    async def refuse(*_: Any, **__: Any) -> Any:
        raise TransportRefused("OOM command not allowed")

    monkeypatch.setattr(site.transport, "read_map", refuse)
    await ids.take_path(file_id)
    assert ids.find(file_id) == at("doc")


@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
async def test_what_was_opened_during_an_outage_may_be_a_renamed_document(
    hub: MemoryHub, emptied: bool
) -> None:
    a, b = await join(hub), await join(hub)
    displaced: list[tuple[str, str]] = []
    b.ids.on_displacement(lambda file_id, other: displaced.append((file_id, other)))
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    another = b.ids.index(at("another"))
    b.ids.move(at("another"), at("moved"))
    await b.ids.flush()
    for site in (a, b):
        site.transport.disconnect()
    a.ids.move(at("old"), at("new"))
    made_up = b.ids.index(at("new"))
    assert b.ids.index(at("moved")) == another
    if emptied:
        hub.clear()
    a.transport.reconnect()
    await a.ids.flush()
    b.transport.reconnect()
    await until(lambda: displaced == [(made_up, file_id)], what="the renamed document")
    assert b.ids.index(at("new")) == file_id
    assert b.ids.index(at("moved")) == another


async def test_what_a_server_knows_of_ids_is_no_guess_during_an_outage(hub: MemoryHub) -> None:
    site = await join(hub)
    file_id = site.ids.index(at("old"))
    site.ids.move(at("old"), at("new"))
    await site.ids.flush()
    site.transport.disconnect()
    assert site.ids.index(at("new")) == file_id
    hub.clear()
    site.transport.reconnect()
    await site.ids.flush()
    assert site.ids.index(at("new")) == file_id


async def test_who_was_away_during_a_rename_learns_it_although_all_of_it_is_forgotten(
    hub: MemoryHub,
) -> None:
    there = {"old": Look.THERE}
    a, b = await join(hub, there), await join(hub, there)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    b.ids.index(at("old"))
    a.transport.disconnect()
    there["new"] = there.pop("old")
    b.ids.move(at("old"), at("new"))
    await b.ids.flush()
    hub.clear()
    a.transport.reconnect()
    await a.ids.flush()
    await b.ids.tick()
    await until(lambda: a.ids.api_path(file_id) == "new", what="the rename")
    late = await join(hub, there)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "new"


@pytest.mark.parametrize("emptied", [True, False], ids=["forgotten", "a folder"])
async def test_more_renames_than_one_message_holds_are_learned(
    hub: MemoryHub, emptied: bool
) -> None:
    there = {"folder/old": Look.THERE} if emptied else None
    a, b = await join(hub, there), await join(hub, there)
    long = "x" * 150
    file_id = a.ids.index(at("folder/old"))
    await a.ids.register(at("folder/old"))
    # Documents that b alone has opened.
    paths = {f"{number}": f"folder/{long} {number}" for number in range(20_000)}
    b.ids._ids["default"].update({path: i for i, path in paths.items()}, {**paths})
    b.ids.index(at("folder/old"))
    if there is not None:
        a.transport.disconnect()
        there["renamed/old"] = there.pop("folder/old")
    b.ids.move(at("folder"), at("renamed"))
    await b.ids.flush()
    if emptied:
        hub.clear()
        a.transport.reconnect()
        await a.ids.flush()
        await b.ids.tick()
    await b.ids.flush()
    await a.ids.tick()
    await until(lambda: a.ids.api_path(file_id) == "renamed/old", what="the rename")
    assert not a.replica.counters["forged_paths"]
    if not emptied:
        assert a.ids.api_path("7") is None
        await a.ids.resolve("7")
        assert a.ids.api_path("7") == f"renamed/{long} 7"


@pytest.mark.parametrize("heard", [True, False], ids=["too-much-to-say", "not-heard"])
async def test_what_is_to_be_read_anew_while_the_maps_are_read_is_read_again(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    monkeypatch.setattr(untold, "MESSAGE_MAX_BYTES", 0)
    read, moved = a.transport.read_map, False

    async def read_before(scope: Scope, name: str, *more: Any) -> dict[str, str]:
        nonlocal moved
        found = await read(scope, name, *more)
        if name == "paths" and not moved:
            moved = True
            b.ids.move(at("old"), at("new"))
            await b.ids.flush()
            if not heard:
                a.ids._listener("default")(MISSED)
        return found

    monkeypatch.setattr(a.transport, "read_map", read_before)
    if not heard:
        await a.transport.unsubscribe(Scope("default"))
    await a.ids._load()
    for _ in range(2):
        await a.ids.tick()
    assert a.ids.api_path(file_id) == "new"


@pytest.mark.parametrize("forged", ["another share's", "no\nid"])
async def test_a_guess_gives_way_to_no_id_that_cannot_be_this_shares(
    hub: MemoryHub, forged: str
) -> None:
    shares = {"a": "a", "b": "b"}
    site = await join(hub, shares=shares)
    secret = site.ids.index(SharedPath("b", "secret"))
    site.transport.disconnect()
    guess = site.ids.index(SharedPath("a", "new"))
    hub.maps[Scope("a"), "files"]["new"] = secret if forged.startswith("another") else forged
    site.transport.reconnect()
    await site.ids.flush()
    assert site.ids.index(SharedPath("a", "new")) == guess
    assert site.ids.api_path(secret) == "b/secret"
    assert site.replica.counters["forged_paths"]


async def test_many_changes_are_remembered_with_few_writes(
    hub: MemoryHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    lock = threading.Lock()
    save = Memory.save

    def counted(self: Memory, share: str, files: Any, *more: Any) -> None:
        writes.append(len(files))
        assert lock.acquire(blocking=False), "two at once"
        time.sleep(0.01)
        save(self, share, files, *more)
        lock.release()

    monkeypatch.setattr(Memory, "save", counted)
    site = await join(hub)
    memory = Memory(tmp_path, lambda share: share)
    site.ids.remember_in(memory)
    for number in range(500):
        site.ids.move(at(f"{number}"), at(f"new {number}"))
        await asyncio.sleep(0)
    await until(lambda: writes and writes[-1] == 1000, what="that all of it is remembered")
    assert len(writes) < 10


async def test_what_others_say_of_paths_has_a_bound(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_teleportal.transports.base.MAP_ENTRIES_MAX", 10)
    a, b = await join(hub), await join(hub)
    for number in range(4):
        ids = [f"{number}-{n}" for n in range(8)]
        moves = {"files": {f"{i}.txt": i for i in ids}, "paths": {i: f"{i}.txt" for i in ids}}
        await a.transport.publish(Scope("default"), Notice("other", "files", moves).encode())
    await until(lambda: b.replica.counters["forged_paths"], what="that it is told")
    assert b.ids.api_path("0-0") == "0-0.txt"
    assert b.ids.api_path("3-7") is None
