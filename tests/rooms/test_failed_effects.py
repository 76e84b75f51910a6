"""Something goes wrong while what the log says comes into a document: it is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from support.waiting import holds, until
from transports.backends import Backend

from jupyter_teleportal.files import document_content
from jupyter_teleportal.sync.live_doc import LiveDoc
from rooms.sites import Disk, Server, Start, same
from rooms.test_links import MakeSite, make_site, together

__all__ = ["make_site"]


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """The next call fails before it has done anything."""
    real, failed = getattr(owner, name), []

    def fails_first(*args: Any, **keywords: Any) -> Any:
        if not failed:
            failed.append(name)
            raise RuntimeError("a failure for the test")
        return real(*args, **keywords)

    monkeypatch.setattr(owner, name, fails_first)
    return failed


async def two_lineages(start: Start, disk: Disk) -> tuple[Server, Server]:
    """`a` shares a document; `c` has opened the same file alone, and has another lineage."""
    a = await start("a")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    c = await start("c", away=True)
    c.write(" of c")
    assert c.link.replicator.lineage != a.link.replicator.lineage
    return a, c


@pytest.mark.parametrize("fails", ["convert", "before_convert"])
async def test_a_conversion_that_fails_once_is_tried_again(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    a, c = await two_lineages(start, disk)
    lineage = c.link.replicator.lineage
    failed = fail_once(monkeypatch, c.link.content, fails)
    lineages: list[str | None] = []
    cannot_follow = c.link.effects._cannot_follow
    monkeypatch.setattr(
        c.link.effects,
        "_cannot_follow",
        lambda error: (cannot_follow(error), lineages.append(c.link.replicator.lineage)),
    )
    c.transport.reconnect()
    await until(lambda: failed, what="the failure")
    await until(lambda: lineages, what="that it was noticed")
    assert lineages == [lineage]
    await until(lambda: c.link.replicator.settled, what="the log")
    a.write(" and a")
    await until(same(a, c), what="one document")
    assert sorted(a.text.split()) == sorted(["text", "one", "of", "c", "and", "a"])
    await until(lambda: disk.content == a.text, what="the file")


async def test_what_was_typed_meanwhile_and_cannot_be_merged_is_not_lost(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, c = await two_lineages(start, disk)
    before_convert = c.link.content.before_convert

    async def typed_meanwhile(*args: Any) -> None:
        await before_convert(*args)
        if " late" not in c.text:
            c.write(" late")

    monkeypatch.setattr(c.link.content, "before_convert", typed_meanwhile)
    failed: list[str] = []
    real = document_content.merge

    def fails_first(*args: Any) -> Any:
        if not failed:
            failed.append(c.text)
            raise RuntimeError("a failure for the test")
        return real(*args)

    monkeypatch.setattr(document_content, "merge", fails_first)
    c.transport.reconnect()
    await until(lambda: failed, what="the failure")
    await until(lambda: c.link.replicator.settled, what="the log")
    await until(same(a, c), what="one document")
    assert sorted(a.text.split()) == sorted(["text", "one", "of", "c", "late"])


async def test_a_document_whose_conversion_fails_midway_is_left(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither the one nor the other any more."""
    a, c = await two_lineages(start, disk)

    def fails(*args: Any) -> None:
        raise RuntimeError("a failure for the test")

    monkeypatch.setattr(document_content, "apply_content", fails)
    c.transport.reconnect()
    await until(lambda: c.link.broken, what="that the document is left")
    assert a.text == "text one"


@pytest.mark.parametrize("fails", ["convert", "before_convert"])
async def test_two_histories_stay_apart_for_as_long_as_it_fails(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    a, c = await two_lineages(start, disk)
    real, failures = getattr(c.link.content, fails), []

    def fail(*args: Any) -> None:
        failures.append(fails)
        raise RuntimeError("a failure for the test")

    monkeypatch.setattr(c.link.content, fails, fail)
    c.transport.reconnect()
    await until(lambda: len(failures) > 2, what="that it is tried again")
    # As in an outage: everybody goes on typing, and knows.
    c.write(" more")
    a.write(" and a")
    assert "cannot be taken over" in c.link.trouble
    await until(lambda: any("Redis" in message for _, message in c.told), what="what c is told")
    await holds(lambda: a.text == "text one and a", seconds=0.5, what="a's document")
    assert c.text == "text one of c more"
    monkeypatch.setattr(c.link.content, fails, real)
    await until(lambda: c.link.replicator.settled and c.link.shared, what="the log")
    await until(same(a, c), what="one document")
    assert sorted(a.text.split()) == sorted(["text", "one", "of", "c", "more", "and", "a"])
    await until(lambda: disk.content == a.text, what="the file")
    assert not disk.copies


async def test_updates_that_fail_once_are_applied_at_last(
    backend: Backend, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await make_site(), await make_site()
    a.text += "one "
    await together(a, b)
    failed = fail_once(monkeypatch, b.link.live, "apply")
    a.text += "two "
    await until(lambda: failed, what="the failure")
    b.text += "three "
    text = await together(a, b)
    assert sorted(text.split()) == ["one", "three", "two"]
    # And where a whole log is read.
    apply = LiveDoc.apply
    broken: list[int] = []

    def fails_first(live: LiveDoc, *args: Any) -> None:
        if not broken:
            broken.append(1)
            raise KeyError("a failure for the test")
        apply(live, *args)

    monkeypatch.setattr(LiveDoc, "apply", fails_first)
    late = await make_site()
    late.text += "four "
    text = await together(a, b, late)
    assert broken
    assert sorted(text.split()) == ["four", "one", "three", "two"]
