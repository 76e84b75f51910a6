"""Any shared document can be read, edited and shown again, whatever somebody has put into it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_ydoc import YNotebook
from pycrdt import Array, Doc, Map, Text, XmlFragment, XmlText

from jupyter_teleportal.core.content import apply_content, digest, document_of, make_document
from jupyter_teleportal.core.reading import (
    STEP_CELLS,
    complete,
    make_editable,
    read,
    read_stepwise,
    replace_foreign,
)
from jupyter_teleportal.core.savable import Flaws

CELL = {
    "id": "a",
    "cell_type": "code",
    "execution_count": None,
    "metadata": {"n": 1},
    "outputs": [{"output_type": "stream", "name": "stdout", "text": "printed"}],
    "source": "words",
}
NOTEBOOK = {"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text("ab\n", max_size=3)
    | st.binary(max_size=1)
)
KEYS = st.sampled_from(
    ["id", "cell_type", "source", "metadata", "outputs", "attachments", "execution_count", "x"]
) | st.sampled_from(["nbformat", "nbformat_minor", "output_type", "text", "data"])
PLAIN = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
# What makes a value that can be put into a document once.
Make = Callable[[], Any]
SHARED: st.SearchStrategy[Make] = st.recursive(
    PLAIN.map(lambda value: lambda: value)
    | st.sampled_from(["", "words"]).map(lambda text: lambda: Text(text))
    | st.sampled_from(
        [lambda: Doc(), lambda: XmlFragment([XmlText("words")]), lambda: XmlFragment()]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: lambda: Array([make() for make in items]))
        | st.dictionaries(KEYS, inner, max_size=5).map(
            lambda items: lambda: Map({key: make() for key, make in items.items()})
        )
    ),
    max_leaves=6,
)
PLACES = st.sampled_from(["cells", "cell", "meta", "metadata", "outputs"])


def every(steps: Iterator[None]) -> int:
    """Take all steps; return how many there were."""
    return sum(1 for _ in steps)


def notebook() -> YNotebook:
    document = make_document("notebook")
    assert isinstance(document, YNotebook)
    document.set(copy.deepcopy(NOTEBOOK))
    return document


def put(document: YNotebook, place: str, key: str, value: Any) -> None:
    """As somebody who wants to do harm, or knows no better."""
    first = document.ycells[len(document.ycells) - 1]
    into = {
        "cells": document.ycells,
        "cell": first,
        "meta": document._ymeta,
        "metadata": document._ymeta.get("metadata"),
        "outputs": first.get("outputs") if isinstance(first, Map) else None,
    }[place]
    if isinstance(into, Map):
        into[key] = value
    elif isinstance(into, Array):
        into.insert(0, value)


EDITS = st.lists(st.tuples(PLACES, KEYS, SHARED), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_any_document_can_be_read_and_edited(edits: list[tuple[str, str, Make]]) -> None:
    client = notebook()
    for place, key, make in edits:
        put(client, place, key, make())
    update = client.ydoc.get_update()
    document = document_of("notebook", update)
    assert isinstance(document, YNotebook)
    content = read(document)
    strict = json.loads(json.dumps(content, allow_nan=False))
    assert digest(strict) == digest(content)
    text = nbformat.writes(nbformat.from_dict(content))  # type: ignore[no-untyped-call]
    nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    assert digest(read(document_of("notebook", update))) == digest(content)
    every(replace_foreign(document))
    assert all(isinstance(cell, Map) for cell in document.ycells)
    every(complete(document))
    assert all(isinstance(cell["source"], Text) for cell in document.ycells)
    completed = read(document, flaws := Flaws())
    assert not flaws.unshown
    assert len(completed["cells"]) >= len(content["cells"])
    make_editable(document)
    document.get()
    apply_content(document, copy.deepcopy(NOTEBOOK))
    assert document.get()["cells"] == [CELL]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Text("words"),
        lambda: XmlFragment([XmlText("words")]),
        lambda: "words",
        lambda: ["words"],
    ],
)
def test_words_among_the_cells_become_a_cell_in_their_place(make: Make) -> None:
    document = notebook()
    document.ycells.insert(0, make())
    before = read(document, flaws := Flaws())
    assert flaws.foreign
    every(replace_foreign(document))
    assert read(document, after := Flaws()) == before
    assert not after.count
    assert "words" in before["cells"][0]["source"]
    assert before["cells"][1] == CELL


def test_what_is_sound_stays_the_same_item() -> None:
    document = notebook()
    cell = document.ycells[0]
    source, outputs = cell["source"], cell["outputs"]
    cell["metadata"] = math.nan
    document._ymeta["nbformat"] = "four"
    make_editable(document)
    source += " after"
    outputs.append(Map({"output_type": "error"}))
    assert cell["source"].to_py() == "words after"
    assert len(cell["outputs"]) == 2
    assert isinstance(cell["metadata"], Map)
    assert document._ymeta["nbformat"] == 4


def test_a_sound_notebook_is_not_touched() -> None:
    document = notebook()
    update = document.ydoc.get_update()
    make_editable(document)
    every(replace_foreign(document))
    assert read(document, flaws := Flaws()) == document.get()
    assert not flaws.count
    assert document.ydoc.get_update() == update


@pytest.mark.parametrize("value", [3, "x", None, {"n": 1}], ids=repr)
def test_metadata_that_no_browser_shows_is_replaced(value: Any) -> None:
    document = notebook()
    document._ymeta["metadata"] = value
    read(document, flaws := Flaws())
    assert flaws.unshown
    every(complete(document))
    assert isinstance(document._ymeta["metadata"], Map)
    read(document, flaws := Flaws())
    assert (flaws.count, flaws.unshown) == (0, False)


def test_reading_stepwise_stops_before_each_cell() -> None:
    document = notebook()
    document.append_cell({**CELL, "id": "b"})
    *pauses, content = read_stepwise(document, Flaws())
    assert pauses == [None, None]
    assert content == document.get()


def test_cells_of_one_id_get_the_same_new_one_everywhere() -> None:
    document = notebook()
    document.append_cell({**CELL, "source": "other"})
    update = document.ydoc.get_update()
    contents = [read(document_of("notebook", update)) for _ in range(2)]
    assert contents[0] == contents[1]
    assert len({cell["id"] for cell in contents[0]["cells"]}) == 2


MANY = 4 * STEP_CELLS + 1


def test_foreign_cells_are_taken_out_in_steps_whatever_happens_in_between() -> None:
    document = notebook()
    document.ycells.extend(["words"] * MANY)
    seen = []
    for number, _ in enumerate(replace_foreign(document)):
        seen.append(sum(not isinstance(cell, Map) for cell in document.ycells))
        if number == 1:
            del document.ycells[STEP_CELLS:]
        if number == 2:
            document.ycells.insert(0, document.create_ycell(CELL))
    assert seen[:2] == [MANY - STEP_CELLS, MANY - 2 * STEP_CELLS]
    assert every(replace_foreign(document)) == 2
    assert all(isinstance(cell, Map) for cell in document.ycells)
    assert len(document.ycells) == STEP_CELLS + 1


def test_cells_are_completed_in_steps_whatever_happens_in_between() -> None:
    document = notebook()
    for _ in range(MANY):
        document.ycells.append(Map({"id": "x", "cell_type": "raw", "source": Text("words")}))

    def incomplete() -> int:
        return sum("metadata" not in cell for cell in document.ycells)

    seen = []
    for number, _ in enumerate(complete(document)):
        seen.append(incomplete())
        source = document.ycells[1]["source"]
        source += "!"
        if number == 2:
            del document.ycells[2 * STEP_CELLS :]
    assert seen == [MANY + 1 - STEP_CELLS, MANY + 1 - 2 * STEP_CELLS, MANY + 1 - 3 * STEP_CELLS]
    assert not incomplete()
    assert str(document.ycells[1]["source"]) == "words!!!"
