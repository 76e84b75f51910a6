"""What a notebook's file can hold of whatever a shared document holds, with no I/O.

A well-formed edit may put anything anywhere: a number among the cells, a text where a version
belongs, NaN into the metadata. What is none of a notebook is given another form here or left out,
so that everything else can be saved.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

NBFORMAT = 4
NBFORMAT_MINOR = 5
CELL_TYPES = ("code", "markdown", "raw")
# JSON is written, copied and compared by functions that call themselves for each level.
MAX_DEPTH = 200
_INT_BELOW = 2.0**63
_INT_ABOVE = -_INT_BELOW
_MAX_FLAWS = 5
_SIMPLE = frozenset((str, bool, int, type(None)))
_NAMESPACE = uuid.UUID("6f1cc1c2-6f0c-4d1c-a3a4-0b6f5cf3ef6d")
# What an output of each type has to have, and what stands there if it is something else.
_OUTPUTS: dict[str, dict[str, Any]] = {
    "execute_result": {"data": {}, "metadata": {}},
    "display_data": {"data": {}, "metadata": {}},
    "stream": {"name": "stdout", "text": ""},
    "error": {"ename": "", "evalue": "", "traceback": []},
}


class Flaws:
    """What could not be kept as it is, in the order in which it was found.

    Attributes:
        found: the first few: where each is, and what has become of it.
        count: how many there are.
        foreign: whether there is something among the cells that is no map.
        unshown: whether the metadata, or a map among the cells, is none that JupyterLab can show.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing has been found."""
        self.found: list[str] = []
        self.count = 0
        self.foreign = self.unshown = False

    def add(self, where: str, what: str) -> None:
        """Note one: where it is, and what has become of it."""
        self.count += 1
        if len(self.found) < _MAX_FLAWS:
            self.found.append(f"{where}: {what}")

    def __str__(self) -> str:
        more = self.count - len(self.found)
        return "; ".join(self.found) + (f"; and {more} more" if more else "")


def plain(value: Any, where: str, flaws: Flaws, depth: int = 0) -> Any:
    """Return `value` as JSON can hold it, whole numbers as integers; lists and dictionaries are
    changed in place."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is float:
        if value - value == 0.0:  # it is finite
            # Larger integers fit in no shared document, so the file could not be opened again.
            return int(value) if value.is_integer() and abs(value) < _INT_BELOW else value
        flaws.add(where, f"{value} became null")  # as browsers write it
        return None
    if kind is not dict and kind is not list:
        flaws.add(where, f"a value of the type {kind.__name__} became null")
        return None
    if depth >= MAX_DEPTH:
        flaws.add(where, f"what is nested deeper than {MAX_DEPTH} levels became null")
        return None
    items = value.values() if kind is dict else value
    if _SIMPLE.issuperset(map(type, items)):
        return value
    for key, item in value.items() if kind is dict else enumerate(value):
        found = type(item)
        if found is float and _INT_ABOVE < item < _INT_BELOW:
            if item.is_integer():
                value[key] = int(item)
        elif found not in _SIMPLE:
            value[key] = plain(item, where, flaws, depth + 1)
    return value


def header(meta: dict[str, Any], has_cells: bool, flaws: Flaws) -> dict[str, Any]:
    """Return a notebook's `metadata`, `nbformat` and `nbformat_minor`.

    Args:
        meta: what the document has of them.
        has_cells: whether it has any cells; without any and without these it is an empty document,
            which is no flaw.
        flaws: is told of what is not as it was.
    """
    meta = plain(meta, "the notebook", flaws)
    metadata = meta.get("metadata", {})
    if not isinstance(metadata, dict):
        flaws.add("the notebook's metadata", f"{_short(metadata)} became empty")
        metadata = {}
    if not meta and not has_cells:
        return {"metadata": {}, "nbformat": NBFORMAT, "nbformat_minor": NBFORMAT_MINOR}
    major, minor = meta.get("nbformat"), meta.get("nbformat_minor")
    if type(major) is not int or major != NBFORMAT:
        flaws.add("the notebook's nbformat", f"{_short(major)} became {NBFORMAT}")
        major = NBFORMAT
    # Without it cells have no ids, and are other cells in the file.
    if type(minor) is not int or not 0 <= minor < 2**31:
        flaws.add("the notebook's nbformat_minor", f"{_short(minor)} became {NBFORMAT_MINOR}")
        minor = NBFORMAT_MINOR
    return {"metadata": metadata, "nbformat": major, "nbformat_minor": minor}


def cell(value: Any, index: int, head: dict[str, Any], flaws: Flaws) -> dict[str, Any] | None:
    """Return the cell that stands for `value`; None if there is nothing in it to keep.

    Args:
        value: what the document has at this place.
        index: the place.
        head: the notebook's header.
        flaws: is told of what is not as it was.
    """
    where = f"cell {index + 1}"
    value = plain(value, where, flaws)
    if not isinstance(value, dict) or not ("cell_type" in value or "source" in value):
        if not isinstance(value, str | list | dict) or not value:
            flaws.add(where, f"{_short(value)} is no cell and is left out")
            return None
        flaws.add(where, f"{_short(value)} is no cell and became a raw one")
        made = {"id": made_up_id(str(index)), "cell_type": "raw", "metadata": {}}
        value = {**made, "source": _text(value)}
    value.pop("execution_state", None)
    has_ids = (head["nbformat"], head["nbformat_minor"]) >= (4, 5)
    if head["nbformat"] == NBFORMAT and not has_ids:
        value.pop("id", None)
    elif has_ids and not isinstance(value.get("id"), str):
        if value.get("id") is not None:
            flaws.add(where, f"its id is no text, so it got one: {_short(value['id'])}")
        value["id"] = made_up_id(str(index))
    _repair_cell(value, where, flaws)
    kept: dict[str, Any] = value
    return kept


def notebook(content: dict[str, Any], flaws: Flaws) -> dict[str, Any]:
    """Return `content`, which some program has written to a file, as a notebook that a document
    can hold.

    Args:
        content: what the file holds.
        flaws: is told of what is not as it was.
    """
    content = _shareable(content, "the notebook", flaws)
    cells = content.pop("cells", None)
    if not isinstance(cells, list):
        cells = [cells] if cells else []
    head = header(content, True, flaws)
    found = (cell(each, index, head, flaws) for index, each in enumerate(cells))
    return {"cells": [each for each in found if each is not None], **head}


def _shareable(value: Any, where: str, flaws: Flaws, depth: int = 0) -> Any:
    """Return a copy of `value` with the numbers and characters that a document can hold."""
    if depth < MAX_DEPTH and isinstance(value, dict):
        return {
            _shareable(key, where, flaws): _shareable(item, where, flaws, depth + 1)
            for key, item in value.items()
        }
    if depth < MAX_DEPTH and isinstance(value, list):
        return [_shareable(item, where, flaws, depth + 1) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        flaws.add(where, f"{_short(value)} is too large a number")
        return float(value) if abs(value) < 2**1023 else None
    if isinstance(value, str) and not value.isascii():
        found = value.encode("utf-8", "replace").decode()
        if found != value:
            flaws.add(where, f"half a character became a question mark: {_short(found)}")
        return found
    return value


def made_up_id(name: str) -> str:
    """An id for a cell that has none of its own; the same on every server."""
    return str(uuid.uuid5(_NAMESPACE, name))


def _repair_cell(cell: dict[str, Any], where: str, flaws: Flaws) -> None:
    outputs = cell.get("outputs")
    if (found := cell.get("cell_type")) not in CELL_TYPES:
        # JupyterLab shows no notebook that has another.
        cell["cell_type"] = "raw" if outputs is None else "code"
        flaws.add(where, f"its cell_type became {cell['cell_type']}: {_short(found)}")
    source = cell.get("source")
    if not (isinstance(source, str) or _is_lines(source)):
        flaws.add(where, f"its source is no text: {_short(source)}")
        cell["source"] = _text(source)
    if not isinstance(cell.get("metadata", {}), dict):
        flaws.add(where, f"its metadata became empty: {_short(cell['metadata'])}")
        cell["metadata"] = {}
    cell.setdefault("metadata", {})
    _repair_attachments(cell, where, flaws)
    if cell["cell_type"] != "code":
        return
    if outputs is None:
        cell["outputs"] = []
    elif not isinstance(outputs, list):
        outputs = [outputs]
    if outputs and not all(_is_sound_output(output) for output in outputs):
        found = (_output(output, where, flaws) for output in outputs)
        cell["outputs"] = [output for output in found if output is not None]
    _repair_count(cell, where, flaws)


def _repair_count(holder: dict[str, Any], where: str, flaws: Flaws) -> None:
    count = holder.setdefault("execution_count", None)
    if not _is_count(count):
        flaws.add(where, f"an execution_count became null: {_short(count)}")
        holder["execution_count"] = None


def _is_count(count: Any) -> bool:
    return count is None or (type(count) is int and count >= 0)


def _repair_attachments(cell: dict[str, Any], where: str, flaws: Flaws) -> None:
    attachments = cell.get("attachments")
    if "attachments" not in cell or (
        isinstance(attachments, dict)
        and all(isinstance(each, dict) for each in attachments.values())
    ):
        if not attachments and cell["cell_type"] in ("raw", "markdown"):
            cell.pop("attachments", None)
        return
    if attachments is not None:
        flaws.add(where, f"its attachments are none and are left out: {_short(attachments)}")
    del cell["attachments"]


def _is_sound_output(output: Any) -> bool:
    if not isinstance(output, dict):
        return False
    required = _OUTPUTS.get(output["output_type"]) if _typed(output) else None
    if required is None or not _is_count(output.get("execution_count")) or _unjoined(output):
        return False
    return all(_fits(output.get(key), default) for key, default in required.items())


def _unjoined(output: dict[str, Any]) -> bool:
    """Whether nbformat could not read the output again, of whichever type: it joins such lists."""
    text = output.get("text")
    return isinstance(text, list) and not _is_lines(text)


def _typed(output: Any) -> bool:
    return isinstance(output, dict) and isinstance(output.get("output_type"), str)


def _output(output: Any, where: str, flaws: Flaws) -> Any:
    if _is_sound_output(output):
        return output
    if not _typed(output):
        if not isinstance(output, str | list | dict) or not output:
            flaws.add(where, f"{_short(output)} is no output and is left out")
            return None
        flaws.add(where, f"{_short(output)} is no output and became the data of one")
        return {"output_type": "display_data", "data": _data(output), "metadata": {}}
    required = _OUTPUTS.get(output["output_type"], {})  # perhaps a later format's
    for key, default in required.items():
        found = output.get(key)
        if _fits(found, default):
            continue
        if found is None:
            made = type(default)(default)
        elif isinstance(default, str):
            made = _text(found)
        elif isinstance(default, list):
            made = [_text(line) for line in found] if isinstance(found, list) else [_text(found)]
        else:
            made = _data(found) if key == "data" else {}
        flaws.add(where, f"the {key} of an output became {_short(made)}: {_short(found)}")
        output[key] = made
    if _unjoined(output):
        flaws.add(where, f"the text of an output is no text: {_short(output['text'])}")
        output["text"] = _text(output["text"])
    if output["output_type"] == "execute_result" or "execution_count" in output:
        _repair_count(output, where, flaws)
    return output


def _data(value: Any) -> dict[str, Any]:
    return {"text/plain": value} if isinstance(value, str) else {"application/json": value}


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, str):
        return isinstance(value, str) or _is_lines(value)
    if isinstance(default, list):
        return _is_lines(value)
    return isinstance(value, dict)


def _is_lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    # On each server the keys of a map are in another order.
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return shown if len(shown) <= 40 else f"{shown[:37]}…"
