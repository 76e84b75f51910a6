"""Whatever is in a document, what is saved of it is a notebook that can be written and read."""

from __future__ import annotations

import json
import math
from typing import Any

import nbformat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycrdt import Doc

from jupyter_teleportal.core import savable
from jupyter_teleportal.core.content import seed
from jupyter_teleportal.core.savable import Flaws

WORDS = st.text("äb \n'\"", max_size=6)
NAMES = st.text("xyz", min_size=1, max_size=2)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | WORDS
    | st.binary(max_size=2)
    | st.builds(Doc),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def dictionaries(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """With some of these keys, and of what they should be or anything else."""
    return st.fixed_dictionaries({}, optional={key: each | VALUES for key, each in known.items()})


OUTPUTS = dictionaries(
    output_type=st.sampled_from(["stream", "display_data", "execute_result", "error"]),
    name=st.just("stdout"),
    text=WORDS | st.lists(WORDS, max_size=2),
    data=st.dictionaries(st.just("text/plain"), WORDS, max_size=1),
    metadata=st.dictionaries(NAMES, VALUES, max_size=2),
    execution_count=st.integers(-1, 3) | st.none(),
    ename=WORDS,
    evalue=WORDS,
    traceback=st.lists(WORDS, max_size=2),
)
CELLS = dictionaries(
    id=st.sampled_from(["a", "b"]),
    cell_type=st.sampled_from(["code", "markdown", "raw"]),
    source=WORDS | st.lists(WORDS, max_size=2),
    metadata=st.dictionaries(NAMES, VALUES, max_size=2),
    outputs=st.lists(OUTPUTS | VALUES, max_size=3),
    attachments=st.dictionaries(NAMES, st.dictionaries(NAMES, WORDS, max_size=1), max_size=1),
    execution_count=st.integers(-1, 3) | st.none(),
    execution_state=st.just("idle"),
)
METAS = dictionaries(
    nbformat=st.sampled_from([3, 4, 4.0, 5]),
    nbformat_minor=st.sampled_from([2, 4.0, 5, 99]),
    metadata=st.dictionaries(NAMES, VALUES, max_size=2),
)


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def saved(meta: dict[str, Any], cells: list[Any], flaws: Flaws) -> dict[str, Any]:
    """The notebook that is saved of these."""
    meta, cells = copied(meta), copied(cells)
    head = savable.header(meta, bool(cells), flaws)
    found = (savable.cell(cell, index, head, flaws) for index, cell in enumerate(cells))
    return {"cells": [cell for cell in found if cell is not None], **head}


def forbidden(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def written(notebook: dict[str, Any]) -> str:
    text: str = nbformat.writes(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]
    return text


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
@settings(max_examples=150)
@given(METAS, st.lists(CELLS | VALUES, max_size=4))
@example({"metadata": {"x": math.nan}}, [{"source": "", "metadata": {"y": [math.inf]}}])
def test_anything_is_saved_as_a_notebook(meta: dict[str, Any], cells: list[Any]) -> None:
    notebook = saved(meta, cells, Flaws())
    text = written(notebook)
    json.loads(text, parse_constant=forbidden)
    read = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    seed("notebook", json.loads(json.dumps(read)))


@settings(max_examples=150)
@given(METAS, st.lists(CELLS | VALUES, max_size=4))
def test_what_is_saved_needs_no_repair(meta: dict[str, Any], cells: list[Any]) -> None:
    notebook = saved(meta, cells, Flaws())
    again = saved(
        {key: notebook[key] for key in notebook if key != "cells"}, notebook["cells"], f := Flaws()
    )
    assert not f.count
    assert again == notebook


@settings(max_examples=150)
@given(METAS, st.lists(CELLS | VALUES, max_size=4))
def test_sources_are_kept_word_for_word(meta: dict[str, Any], cells: list[Any]) -> None:
    notebook = saved(meta, cells, Flaws())
    kept = [cell["source"] for cell in notebook["cells"]]
    for cell in cells:
        source = cell.get("source") if isinstance(cell, dict) else cell
        if isinstance(source, str) and source:
            assert source in kept


SOUND = {
    "cells": [
        {
            "id": "a",
            "cell_type": "code",
            "execution_count": 2,
            "metadata": {"tags": ["x"], "n": 1.5, "huge": 1e300},
            "outputs": [
                {"output_type": "stream", "name": "stderr", "text": "words\nwords"},
                {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["t"]},
                {
                    "output_type": "execute_result",
                    "execution_count": 2,
                    "data": {"text/plain": ["a", "b"], "application/json": {"x": [1, None]}},
                    "metadata": {},
                },
            ],
            "source": "1 + 1",
        },
        {"id": "b", "cell_type": "markdown", "metadata": {}, "source": ["a\n", "b"]},
        {
            "id": "c",
            "cell_type": "raw",
            "attachments": {"f.png": {"image/png": "eA=="}},
            "metadata": {},
            "source": "",
        },
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python"}, "later": [True]},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.mark.parametrize("minor", [2, 4, 5, 6])
def test_a_sound_notebook_is_saved_as_it_is(minor: int) -> None:
    notebook = {**SOUND, "nbformat_minor": minor}
    if minor < 5:
        notebook["cells"] = [
            {key: value for key, value in cell.items() if key != "id"}
            for cell in SOUND["cells"]  # type: ignore[attr-defined]
        ]
    meta = {key: notebook[key] for key in notebook if key != "cells"}
    found = saved(meta, notebook["cells"], flaws := Flaws())  # type: ignore[arg-type]
    assert json.dumps(found, sort_keys=True) == json.dumps(notebook, sort_keys=True)
    assert not flaws.count


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ("words", {"text/plain": "words"}),
        (["words"], {"application/json": ["words"]}),
        ({"output_type": "display_data", "data": "words"}, {"text/plain": "words"}),
        ({"data": {"a": 1}}, {"application/json": {"data": {"a": 1}}}),
    ],
)
def test_what_is_no_output_becomes_one(output: Any, kept: dict[str, Any]) -> None:
    cell = {"id": "a", "cell_type": "code", "source": "", "outputs": [output]}
    notebook = saved({"nbformat": 4, "nbformat_minor": 5}, [cell], flaws := Flaws())
    (found,) = notebook["cells"][0]["outputs"]
    assert found == {"output_type": "display_data", "data": kept, "metadata": {}}
    assert flaws.count
    nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("meta", [{}, {"nbformat": 4}, {"nbformat_minor": 5}, {"metadata": {}}])
def test_a_version_that_was_taken_out_is_put_back(meta: dict[str, Any]) -> None:
    cell = {"id": "a", "cell_type": "raw", "source": "words", "metadata": {}}
    notebook = saved(meta, [cell], flaws := Flaws())
    assert notebook == {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    assert flaws.count


def test_an_empty_document_is_an_empty_notebook() -> None:
    notebook = saved({}, [], flaws := Flaws())
    assert notebook == {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    assert not flaws.count


def test_flaws_name_the_first_of_them_and_count_the_rest() -> None:
    notebook = saved({"nbformat": 4, "nbformat_minor": 5}, [3, *[math.nan] * 7], flaws := Flaws())
    assert notebook["cells"] == []
    assert str(flaws).startswith("cell 1: 3 is no cell and is left out; cell 2: ")
    assert str(flaws).endswith(f"; and {flaws.count - 5} more")
    flaws.clear()
    assert (str(flaws), flaws.count, flaws.foreign) == ("", 0, False)


def with_cell(**changes: Any) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": "a",
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
    }
    return {
        "cells": [{**cell, "source": "words", **changes}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (with_cell(source=3), "source is no text: 3"),
        (with_cell(source="half \ud800"), "half a character"),
        (with_cell(metadata={"n": 2**70}), "too large a number"),
        (with_cell(metadata={"n": -(10**400)}), "too large a number"),
        (with_cell(id={"a": 1}), "id is no text"),
        (with_cell(outputs="words"), "became the data of one"),
        (
            with_cell(outputs=[{"output_type": "stream", "name": "stdout", "text": 3}]),
            'the text of an output became "3": 3',
        ),
        ({**with_cell(), "cells": [None, *with_cell()["cells"]]}, "null is no cell"),
        ({**with_cell(), "metadata": []}, "[] became empty"),
    ],
)
def test_a_file_that_no_document_can_hold_is_opened_repaired(
    content: dict[str, Any], said: str
) -> None:
    found = seed("notebook", content)
    assert said in found.flaws
    assert len(found.content["cells"]) == 1
    other = seed("notebook", content)
    assert (other.lineage, other.content) == (found.lineage, found.content), "on every server"
    assert not seed("notebook", found.content).flaws
    written(found.content)


def test_what_cannot_be_repaired_is_said() -> None:
    with pytest.raises(Exception, match="surrogates"):
        seed("file", "half \ud800")


def test_what_is_nested_too_deeply_is_left_out() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    notebook = saved({"nbformat": 4, "metadata": {"deep": deep}}, [], flaws := Flaws())
    assert "deeper than 200" in str(flaws)
    written(notebook)
