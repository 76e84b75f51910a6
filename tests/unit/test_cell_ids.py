"""Cells get the ids that they lack from what they hold."""

from __future__ import annotations

import copy
import re
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.core.cell_ids import name_cells

some_cells = st.lists(
    st.fixed_dictionaries(
        {
            "cell_type": st.sampled_from(["code", "markdown"]),
            "source": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=2)),
        },
        optional={"id": st.sampled_from(["a", "b", "c"])},
    )
)


def named(cells: list[Any], **options: bool) -> list[str]:
    cells = copy.deepcopy(cells)
    name_cells(cells, **options)
    return [cell["id"] for cell in cells]


@given(some_cells)
def test_each_has_one_of_its_own_and_always_the_same(cells: list[Any]) -> None:
    ids = named(cells)
    assert ids == named(cells)
    assert len(set(ids)) == len(ids)
    for cell, name in zip(cells, ids, strict=True):
        assert re.fullmatch("[a-zA-Z0-9-_]{1,64}", name)
        first = next(other for other in cells if other.get("id") == cell.get("id"))
        assert (name == cell.get("id")) == ("id" in cell and cell is first)


@given(some_cells, some_cells)
def test_what_stands_behind_changes_no_id(cells: list[Any], more: list[Any]) -> None:
    known = {cell.get("id") for cell in cells}
    more = [cell for cell in more if cell.get("id") not in known]
    assert named([*cells, *more])[: len(cells)] == named(cells)


def test_ids_that_were_made_up_are_replaced() -> None:
    cells = [{"cell_type": "code", "source": "x", "id": "made-up"}]
    assert named(cells) == ["made-up"]
    assert named(cells, anew=True) == named([{**cells[0], "id": "otherwise"}], anew=True)


@pytest.mark.parametrize("odd", [None, 5, "text", {"id": 5}, {"id": None}, {"source": "\ud800"}])
def test_what_is_no_cell_stops_nothing(odd: Any) -> None:
    cells = [odd, {"cell_type": "code", "source": "x"}]
    name_cells(cells)
    assert isinstance(cells[1]["id"], str)


def test_a_notebook_with_them_is_valid() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")] * 2)
    name_cells(notebook["cells"])
    nbformat.validate(notebook)
