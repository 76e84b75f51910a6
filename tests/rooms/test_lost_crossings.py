"""A Redis that has forgotten which edits of another lineage were brought into the log."""

from __future__ import annotations

import pytest
from support.waiting import until

from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, Disk, Start, same


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("author", [False, True])
async def test_edits_of_another_lineage_do_not_come_twice(
    start: Start, disk: Disk, hub: MemoryHub, emptied: bool, author: bool
) -> None:
    """The saver has brought them in from a note; their author, or another one that was given the
    same document, comes back later."""
    a = await start("a")
    await until(lambda: a.saves, what="a saver")
    a.write(" one")
    await until(lambda: disk.content == "text one", what="the save")
    await until(lambda: not a.link.reconciler.unnoted, what="the note of it")
    c, d = await start("c", away=True), await start("d", away=True)
    copied = hub.copy()
    c.write(" of c")
    await until(lambda: disk.note is not None and disk.content == "text one of c", what="c's save")
    if not author:
        d = await start("e", away=True)
        d.write(" of d")
    await a.link.saver.file_changed()
    await until(lambda: a.text == "text one of c", what="the edit")
    await until(lambda: disk.note is None, what="no note any more")
    await until(lambda: a.link.replicator.settled, what="the log")
    assert any(key.startswith("crossing") for key in hub.maps[ROOM, "saved"])
    if emptied:
        hub.clear()
    else:
        hub.roll_back(copied)
    a.write(" and a")
    await until(lambda: hub.rooms[ROOM].entries and a.link.replicator.settled, what="the log")
    back = c if author else d
    back.transport.reconnect()
    await until(lambda: back.link.replicator.settled, what="the log")
    await until(same(a, back), what="one document")
    for part in ("text", " one", " of c", " and a", *([] if author else [" of d"])):
        assert a.text.count(part) == 1, a.text
    await until(lambda: disk.content == a.text, what="the file")
