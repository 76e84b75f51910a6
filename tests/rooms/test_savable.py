"""Whatever a client puts into a document, everybody's edits are saved."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from jupyter_ydoc import YNotebook
from pycrdt import Array, Doc, Map, Text
from support.waiting import until

from jupyter_teleportal.core.content import apply_content, seed
from jupyter_teleportal.core.reading import read
from jupyter_teleportal.files import saver
from rooms.sites import Disk, Server, Start

NOTEBOOK = {
    "cells": [
        {
            "id": "a",
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "begin",
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def placed(value: Any) -> Callable[[Any], None]:
    return lambda document: document.ycells.insert(0, value())


def in_cell(key: str, value: Any) -> Callable[[Any], None]:
    def put(document: Any) -> None:
        document.ycells.append(
            Map({"id": "b", "cell_type": "code", "metadata": Map({}), "source": Text("")})
        )
        document.ycells[len(document.ycells) - 1][key] = value()

    return put


def in_meta(key: str, value: Any) -> Callable[[Any], None]:
    return lambda document: document._ymeta.__setitem__(key, value())


def in_metadata(value: Any) -> Callable[[Any], None]:
    return lambda document: document._ymeta["metadata"].__setitem__("n", value)


ATTACKS: dict[str, Callable[[Any], None]] = {
    "an integer as a cell": placed(lambda: 3),
    "null as a cell": placed(lambda: None),
    "a string as a cell": placed(lambda: "words"),
    "a text as a cell": placed(lambda: Text("words")),
    "an array as a cell": placed(lambda: Array([1, "words"])),
    "a JSON object as a cell": placed(lambda: {"cell_type": "code", "source": "words"}),
    "an empty map as a cell": placed(lambda: Map({})),
    "a map of something else": placed(lambda: Map({"words": "words"})),
    "a document as a cell": placed(Doc),
    "a source that is a number": in_cell("source", lambda: 3),
    "a source that is a map": in_cell("source", lambda: Map({"a": 1})),
    "outputs that are a text": in_cell("outputs", lambda: Text("words")),
    "outputs of numbers": in_cell("outputs", lambda: Array([1, None])),
    "an output without its data": in_cell(
        "outputs", lambda: Array([Map({"output_type": "stream", "text": 3})])
    ),
    "an id that is a map": in_cell("id", lambda: {"a": 1}),
    "a cell type that is a number": in_cell("cell_type", lambda: 3),
    "metadata of a cell that is a text": in_cell("metadata", lambda: Text("words")),
    "attachments that are a number": in_cell("attachments", lambda: 3),
    "NaN in a cell": in_cell("metadata", lambda: {"n": math.nan}),
    "a huge number in a cell": in_cell("metadata", lambda: {"n": 1e300}),
    "a count that is a text": in_cell("execution_count", lambda: "many"),
    "nbformat is a text": in_meta("nbformat", lambda: "four"),
    "nbformat is NaN": in_meta("nbformat", lambda: math.nan),
    "nbformat is of no library": in_meta("nbformat", lambda: 99),
    "nbformat_minor is infinite": in_meta("nbformat_minor", lambda: math.inf),
    "metadata is a number": in_meta("metadata", lambda: 3),
    "NaN in the metadata": in_metadata(math.nan),
    "infinity in the metadata": in_metadata(math.inf),
    "a huge number in the metadata": in_metadata(1e300),
    "bytes in the metadata": in_metadata(b"bytes"),
    "a document in the metadata": in_metadata(Doc()),
    "a state of wrong kinds": lambda document: document._ystate.update(
        {"hash": Text("x"), "dirty": Array([1]), "path": 3.5, "file_id": Map({})}
    ),
}


def sources(content: Any) -> str:
    return " ".join(str(cell.get("source", "")) for cell in content["cells"])


def document(server: Server) -> YNotebook:
    assert isinstance(server.document, YNotebook)
    return server.document


def write(server: Server, words: str) -> None:
    own = next(c for c in document(server).ycells if isinstance(c, Map) and c.get("id") == "a")
    source = own["source"]
    source += words


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_client_cannot_keep_a_notebook_from_being_saved(
    start: Start, disk: Disk, attack: Callable[[Any], None]
) -> None:
    disk.content = NOTEBOOK
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    write(b, " before")
    attack(b.document)
    write(a, " after")
    await until(
        lambda: {"before", "after"} <= set(sources(disk.content).split()), what="both are saved"
    )
    await until(lambda: read(a.document) == read(b.document), what="the same on both")
    text = json.dumps(disk.content, allow_nan=False)
    nbformat.validate(nbformat.from_dict(json.loads(text)))  # type: ignore[no-untyped-call]
    assert not [told for told in a.told + b.told if told[0] == "ERROR"]
    repaired = any(
        "repaired room" in subject for server in (a, b) for subject in server.replica.complaints
    )

    def told(server: Server) -> list[str]:
        return [text for level, text in server.told if level == "WARNING" and "repaired" in text]

    for server in (a, b):
        await until(lambda server=server: bool(told(server)) == repaired, what="who is told")
        assert len(told(server)) == len(set(told(server)))
    late = await start("late", file_type="notebook")
    await until(lambda: read(late.document) == read(a.document), what="it is opened")
    write(late, " later")
    await until(lambda: "later" in sources(disk.content), what="it is saved again")
    seed("notebook", json.loads(json.dumps(disk.content)))
    apply_content(late.document, NOTEBOOK)
    assert late.document.get()["cells"] == NOTEBOOK["cells"]


@pytest.mark.parametrize("attack", ["a string as a cell", "a text as a cell", "an array as a cell"])
async def test_words_that_are_no_cell_are_kept_as_one(
    start: Start, disk: Disk, attack: str
) -> None:
    disk.content = NOTEBOOK
    a = await start("a", file_type="notebook")
    ATTACKS[attack](a.document)
    await until(lambda: "words" in sources(disk.content), what="that is saved")
    assert disk.content["cells"][0]["cell_type"] == "raw"


@pytest.mark.parametrize(
    "attack", ["an integer as a cell", "null as a cell", "a text as a cell", "a document as a cell"]
)
async def test_browsers_show_the_notebook_again(start: Start, disk: Disk, attack: str) -> None:
    disk.content = NOTEBOOK
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    own = document(a).ycells[0]
    ATTACKS[attack](b.document)

    def shown() -> bool:
        cells = [*document(a).ycells, *document(b).ycells]
        return all(isinstance(cell, Map) and isinstance(cell["source"], Text) for cell in cells)

    await until(lambda: not shown(), what="it is there")
    await until(shown, what="it is taken out")
    write(a, " after")
    await until(lambda: "after" in sources(disk.content), what="what was written goes on")
    assert own["source"].to_py() == "begin after", "the cells beside it are those that they were"
    words = "words" if attack == "a text as a cell" else ""
    assert words in sources(b.document.get())
    assert a.document.get() == b.document.get() == disk.content


async def test_many_cells_are_repaired_in_turns(start: Start, disk: Disk) -> None:
    """Everything else on the server goes on in between."""
    disk.content = NOTEBOOK
    a = await start("a", file_type="notebook")
    seen = set()

    async def look() -> None:
        while True:
            seen.add(sum(not isinstance(cell, Map) for cell in document(a).ycells))
            await asyncio.sleep(0)

    document(a).ycells.extend(["words"] * 201)
    looking = asyncio.ensure_future(look())
    await until(lambda: 0 in seen, what="the repair")
    looking.cancel()
    assert len(seen) >= 4, "not all at once"
    await until(lambda: sources(disk.content).count("words") == 201, what="every word on disk")


async def test_whoever_is_in_the_document_is_told_once(start: Start, disk: Disk) -> None:
    disk.content = NOTEBOOK
    a = await start("a", file_type="notebook")
    in_metadata(math.nan)(a.document)
    subject = "repaired room"

    def told() -> list[str]:
        return [message for _, message in a.told if "repaired" in message]

    await until(told, what="it is told")
    assert told() == [
        "The notebook is saved, with what no notebook can hold repaired: "
        "the notebook: nan became null"
    ]
    write(a, " after")
    await until(lambda: "after" in sources(disk.content), what="it is saved again")
    assert len(told()) == 1
    assert a.replica.counters["repaired"] > 1
    assert subject in a.replica.complaints
    in_metadata(1)(a.document)
    await until(lambda: subject not in a.replica.complaints, what="that is over")


async def test_a_cell_that_is_being_made_is_left_as_it_is(start: Start, disk: Disk) -> None:
    disk.content = NOTEBOOK
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    document(b).ycells.append(Map({}))
    made = document(b).ycells[1]
    made["cell_type"] = "raw"
    await until(lambda: "repaired room" in {**a.replica.complaints, **b.replica.complaints})
    write(a, " after")
    await until(lambda: "after" in sources(disk.content), what="the others' words are saved")
    await until(lambda: read(a.document) == read(b.document), what="the same on both")
    assert "source" not in made, "concurrent words would lose against it"
    made["source"] = Text("words")
    await until(lambda: "words" in sources(disk.content), what="it is saved")
    assert len(a.document.get()["cells"]) == 2


@pytest.mark.parametrize(
    "cell",
    [
        lambda: Map({}),
        lambda: Map({"cell_type": "code", "id": "b", "source": Text("words")}),
        lambda: Map({"cell_type": "later", "id": "b", "source": Text("words")}),
        lambda: Map({"cell_type": "raw", "id": "b", "source": "words", "metadata": Map({})}),
        lambda: Map({"source": Text("words"), "metadata": 3, "outputs": "words"}),
    ],
)
async def test_a_cell_that_nobody_completes_is_completed(
    start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch, cell: Callable[[], Any]
) -> None:
    monkeypatch.setattr(saver, "COMPLETE_S", 0.5)
    disk.content = NOTEBOOK
    a, b = await start("a", file_type="notebook"), await start("b", file_type="notebook")
    document(b).ycells.append(cell())
    made = document(b).ycells[1]
    source = made.get("source")

    def shown(server: Server) -> bool:
        cells = document(server).ycells
        return len(cells) == 2 and all(
            cell.get("cell_type") in ("code", "raw")
            and isinstance(cell.get("source"), Text)
            and isinstance(cell.get("metadata"), Map)
            and (cell["cell_type"] == "raw" or isinstance(cell.get("outputs"), Array))
            for cell in cells
        )

    await until(lambda: shown(a) and shown(b), what="browsers show it")
    if isinstance(source, Text):
        source += " and more"
        await until(lambda: "words and more" in sources(disk.content), what="the same item")
    else:
        source = made["source"]
        source += "later"
        await until(lambda: "later" in sources(disk.content), what="it is saved")
    await until(lambda: "repaired room" not in {**a.replica.complaints, **b.replica.complaints})
    await until(lambda: read(a.document) == read(b.document) == disk.content, what="all the same")


async def test_a_change_from_outside_leaves_the_text_of_a_flawed_cell_the_same(
    start: Start, disk: Disk
) -> None:
    disk.content = NOTEBOOK
    a = await start("a", file_type="notebook")
    cell = document(a).ycells[0]
    cell["metadata"] = "none"
    cell["outputs"] = 3
    await until(lambda: "repaired room" in a.replica.complaints, what="it is saved")
    source = cell["source"]
    outside = dict(disk.content["cells"][0], source="outside begin")
    disk.content = {**disk.content, "cells": [outside]}
    await a.link.saver.file_changed()
    source += " inside"
    await until(lambda: "inside" in sources(disk.content), what="it is saved")
    assert sources(disk.content) == "outside begin inside"
    assert [type(cell[key]) for key in ("metadata", "outputs")] == [Map, Array]


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300])
async def test_a_file_with_such_numbers_opens(start: Start, disk: Disk, number: float) -> None:
    cell = {**NOTEBOOK["cells"][0], "metadata": {"n": number}}  # type: ignore[index]
    disk.content = {**NOTEBOOK, "cells": [cell], "metadata": {"n": number}}
    a = await start("a", file_type="notebook")
    write(a, " after")
    await until(lambda: "after" in sources(disk.content), what="it is saved")
    kept = disk.content["metadata"]["n"]
    assert kept == (number if number == 1e300 else None)
    assert disk.content["cells"][0]["metadata"]["n"] == kept


async def test_a_program_that_writes_an_odd_file_does_not_stop_the_saving(
    start: Start, disk: Disk
) -> None:
    disk.content = NOTEBOOK
    a = await start("a", file_type="notebook")
    write(a, " inside")
    await until(lambda: "inside" in sources(disk.content), what="it is saved")
    cell = {**disk.content["cells"][0], "metadata": {"n": 2**70}}
    odd = {**cell, "id": "odd", "source": 3}
    disk.content = {**disk.content, "cells": [cell, odd]}
    await a.link.saver.file_changed()
    told = "The file holds what no shared notebook can, which is repaired with the next save: "
    assert [message for _, message in a.told if message.startswith(told)]
    write(a, " after")
    await until(lambda: "after" in sources(disk.content), what="it is saved again")
    assert sources(disk.content) == "begin inside after 3"
    assert disk.content["cells"][0]["metadata"] == {"n": 2.0**70}
    await until(lambda: "repaired room" not in a.replica.complaints, what="the end of that")


@pytest.mark.parametrize("root", [Map({"a": 1}), Array([1, "x"])], ids=["map", "array"])
async def test_a_text_whose_root_is_something_else_as_well_is_saved(
    start: Start, disk: Disk, root: Any
) -> None:
    a, b = await start("a"), await start("b")
    other: Doc[Any] = Doc()
    other["source"] = root
    b.document.ydoc.apply_update(other.get_update())
    a.write(" after")
    await until(lambda: "after" in disk.content, what="it is saved")
    await until(lambda: a.text == b.text, what="the same on both")
