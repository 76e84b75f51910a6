"""JSON a piece at a time: the same as all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jupyter_teleportal.core.stepwise import StepwiseDecoder, canonical, with_sorted_keys

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
notebooks = st.fixed_dictionaries(
    {"cells": st.lists(values)}, optional={"metadata": values, "nbformat": st.integers()}
)


@given(values | notebooks)
@example({"cells": [{"b": 1, "a": {"d": 2, "c": object}}], "\u00e9": "\U0001f600"})
@example({"cells": [], 1: "a key that is no text"})
@example({"cells": "none"})
def test_pieces_are_the_whole(content: Any) -> None:
    try:
        whole = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr)
    except TypeError:
        with pytest.raises(TypeError):
            "".join(canonical(content))
    else:
        assert "".join(canonical(content)) == whole


def test_a_long_text_is_cut_into_slices_and_between_no_bytes() -> None:
    text = '\U0001f600\u00e9"\\\n' * 500_000
    pieces = list(canonical(text))
    assert len(pieces) == 5
    assert "".join(pieces) == json.dumps(text)


def test_a_notebook_is_written_cell_by_cell() -> None:
    cells = [{"source": str(number)} for number in range(5)]
    assert len(list(canonical({"cells": cells, "nbformat": 4}))) > len(cells)


def ordered(value: Any) -> Any:
    """A value that differs where only the order of keys does."""
    if isinstance(value, dict):
        return [(key, ordered(inner)) for key, inner in value.items()]
    return [ordered(inner) for inner in value] if isinstance(value, list) else value


@given(values | notebooks)
def test_keys_are_sorted_as_json_sorts_them(content: Any) -> None:
    expected = json.loads(json.dumps(content, sort_keys=True))
    assert ordered(with_sorted_keys(content)) == ordered(expected)


@given(values | notebooks, st.sampled_from([None, 1]))
def test_what_is_read_stepwise_is_what_json_reads(content: Any, indent: int | None) -> None:
    text = json.dumps(content, indent=indent)
    assert ordered(json.loads(text, cls=StepwiseDecoder)) == ordered(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[",
        "{]",
        '{"a"}',
        '{"a":}',
        '{"a": [1,}',
        '{"a": [1, 2}',
        "[1] x",
        '{"a": tru}',
        '{"a": "\n"}',
        '{"a": [}',
    ],
)
def test_what_is_no_json_is_none_stepwise_either(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads(text, cls=StepwiseDecoder)
    assert str(found.value) == str(expected.value)
