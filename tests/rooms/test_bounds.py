"""What a room leaves in the transport has bounds, and takes nothing that is another's."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from pycrdt import Doc
from support.waiting import until

from jupyter_teleportal.codec import decode_payload
from jupyter_teleportal.content import document_of
from jupyter_teleportal.transports.memory import MemoryHub
from rooms.sites import ROOM, Disk, Start, same

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "id": "plot",
            "source": "plot()",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def plot(size: int, seed: int) -> dict[str, Any]:
    """An output of about `size` bytes that do not deflate to much less."""
    raw = random.Random(seed).randbytes(size * 3 // 4)
    return {
        "output_type": "display_data",
        "data": {"image/png": base64.b64encode(raw).decode()},
        "metadata": {},
    }


def run(document: Any, output: dict[str, Any]) -> None:
    """What a client does when a cell is run again: the outputs are replaced."""
    outputs = document.ycells[0]["outputs"]
    with document.ydoc.transaction():
        outputs.clear()
        outputs.append(output)


@pytest.fixture
def disk() -> Disk:
    return Disk(NOTEBOOK)


async def test_neither_document_nor_checkpoint_keeps_what_was_deleted(
    start: Start, hub: MemoryHub
) -> None:
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    for number in range(20):
        run(a.document, plot(50_000, number))
    await until(same(a, b), what="the last plot on b")
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.link.checkpoint()
    checkpoint = hub.rooms[ROOM].checkpoint
    assert checkpoint is not None
    assert document_of("notebook", decode_payload(checkpoint)).get() == b.document.get()
    for server in (a, b):
        assert len(server.document.ydoc.get_update()) < 100_000
    assert len(decode_payload(checkpoint)) < 100_000


async def test_a_client_that_was_away_reads_on_from_a_checkpoint_without_what_was_deleted(
    start: Start, hub: MemoryHub
) -> None:
    """What it has seen, and what it has written meanwhile, both go on."""
    a = await start("a", file_type="notebook")
    run(a.document, plot(1000, 0))
    tab: Doc[Any] = Doc()
    tab.apply_update(a.document.ydoc.get_update())
    behind = document_of("notebook", tab.get_update())
    for number in range(3):
        run(a.document, plot(1000, 1 + number))
    source = behind.ycells[0]["source"]
    source += "  # from the tab"
    behind.ycells[0]["outputs"].append(plot(1000, 9))
    await until(lambda: a.link.replicator.settled, what="the log")
    await a.link.checkpoint()
    checkpoint = hub.rooms[ROOM].checkpoint
    assert checkpoint is not None
    fresh = document_of("notebook", decode_payload(checkpoint))
    written = behind.ydoc.get_update(fresh.ydoc.get_state())
    behind.ydoc.apply_update(fresh.ydoc.get_update(behind.ydoc.get_state()))
    for document in (fresh, a.document):
        document.ydoc.apply_update(written)
        assert document.get() == behind.get()
    assert behind.get()["cells"][0]["source"].endswith("from the tab")
