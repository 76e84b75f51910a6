"""What lies beside a file as a server's note, and is none: whoever may write to the folder can put
anything there."""

from __future__ import annotations

from typing import Any

import pytest
from pycrdt import Array, Doc, Map
from support.waiting import until

from jupyter_teleportal.core.content import seed
from jupyter_teleportal.core.envelopes import encode_note
from rooms.sites import Disk, File, Server, Start

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "source": "x",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def no_cells() -> bytes:
    """A valid update of a document that is no notebook's."""
    doc: Doc[Any] = Doc(client_id=4_000_000_001)
    doc.get("cells", type=Array).append(5)
    doc.get("meta", type=Map)["nbformat"] = "x"
    return doc.get_update()


GOOD = seed("notebook", NOTEBOOK)
NOTES = {
    **{
        f"based on {base!r}": encode_note("another", base, GOOD.update)
        for base in (5, "x", [], {}, {"cells": 5}, {"cells": [5]}, {"cells": [{}]})
    },
    "no notebook": encode_note("another", NOTEBOOK, no_cells()),
    "no notebook of the file's lineage": encode_note(GOOD.lineage, NOTEBOOK, no_cells()),
}


async def types_and_saves(server: Server, disk: Disk, word: str) -> None:
    # A note may have put into the cells what is none, until the saver takes it out.
    source = next(cell for cell in server.document.ycells if isinstance(cell, Map))["source"]
    source += word
    await until(lambda: word in disk.content["cells"][0]["source"], what=f"{word} on disk")
    await server.link.save_requests.save_now()
    assert f"saves {server.link.scope.room}" not in server.replica.complaints


@pytest.fixture
def disk() -> Disk:
    return Disk(NOTEBOOK)


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
async def test_a_forged_note_keeps_nobody_from_opening_and_saving(
    start: Start, disk: Disk, note: bytes
) -> None:
    a = await start("a", file_type="notebook")
    disk.note = note
    await types_and_saves(a, disk, "before")
    await a.die()
    disk.note = note
    b = await start("b", file_type="notebook")
    await until(lambda: b.saves, what="a saver")
    await types_and_saves(b, disk, "later")


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
async def test_a_document_that_nobody_has_open_is_opened_with_a_forged_note(
    start: Start, disk: Disk, note: bytes
) -> None:
    disk.note = note
    a = await start("a", file_type="notebook")
    await types_and_saves(a, disk, "typed")


async def test_a_note_that_cannot_be_read_keeps_nobody_from_opening_and_saving(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(self: File) -> dict[str, bytes | Exception]:
        return {".teleportal": PermissionError(13, "Permission denied", ".file.teleportal")}

    monkeypatch.setattr(File, "read_notes", refused)
    a = await start("a", file_type="notebook")
    await types_and_saves(a, disk, "typed")
