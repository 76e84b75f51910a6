"""What a shared document holds, as its file can hold it, whatever anybody has put into it; and
the document's repair, where something in it keeps others from showing or editing it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jupyter_ydoc import YNotebook
from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Array, Map, Text

from . import savable
from .savable import Flaws

STEP_CELLS = 50
"""So many cells are repaired at once."""
_CURRENT = {"metadata": {}, "nbformat": savable.NBFORMAT, "nbformat_minor": savable.NBFORMAT_MINOR}
_EMPTY = {"cell_type": "raw", "metadata": {}, "source": ""}
_KINDS: dict[str, type] = {
    "id": str,
    "cell_type": str,
    "source": Text,
    "metadata": Map,
    "outputs": Array,
}


def read(document: YBaseDoc, flaws: Flaws | None = None) -> Any:
    """Return the document's content as its file can hold it.

    Args:
        document: the document.
        flaws: is told of what is not as it is in the document.
    """
    if not isinstance(document, YNotebook):
        return document.get()
    content = None
    for found in read_stepwise(document, Flaws() if flaws is None else flaws):
        content = found
    return content


def read_stepwise(document: YNotebook, flaws: Flaws) -> Iterator[Any]:
    """Yield None before each cell of a notebook, and what `read` returns at the end: an edit
    meanwhile may be in it or not."""
    ycells = document.ycells
    has_cells = len(ycells) > 0
    head = savable.header(_values(document._ymeta), has_cells, flaws)
    flaws.unshown = has_cells and not isinstance(document._ymeta.get("metadata"), Map)
    cells: list[dict[str, Any]] = []
    seen: dict[str, dict[str, Any]] = {}
    for index in range(len(ycells)):
        yield None
        ycell = ycells[index]
        if isinstance(ycell, Map):
            value = dict(ycell)
            if not _is_shown(value):
                flaws.unshown = True
            for key, item in value.items():
                value[key] = _value(item)
        else:
            value = _value(ycell)
            flaws.foreign = True
        cell = savable.cell(value, index, head, flaws)
        if cell is None:
            continue
        known = seen.get(name := cell.get("id", ""))
        if known == cell:
            continue
        if known is not None:
            # Everybody who reads it gives it the same one.
            name = cell["id"] = savable.made_up_id(f"{name} {index}")
            if isinstance(ycell, Map):
                ycell["id"] = name
        if name:
            seen[name] = cell
        cells.append(cell)
    yield {"cells": cells, **head}


def _is_shown(items: dict[str, Any]) -> bool:
    """Whether JupyterLab shows a notebook that has a cell of these items."""
    cell_type = items.get("cell_type")
    return (
        cell_type in savable.CELL_TYPES
        and isinstance(items.get("source"), Text)
        and isinstance(items.get("metadata"), Map)
        and (cell_type != "code" or isinstance(items.get("outputs"), Array))
    )


def replace_foreign(document: YNotebook) -> Iterator[None]:
    """Take out of the notebook's cells what is no map: no browser shows a notebook in which there
    is such a thing. Words in it become a cell.

    A map that is no whole cell is left as it is: whoever made it may be about to put the rest in,
    which would be lost with the map. `complete` does so later.

    Yields:
        whenever `STEP_CELLS` were looked at; whatever is done to the notebook then is no harm.
    """
    ycells = document.ycells
    end = len(ycells)
    while end > 0:
        begin = max(end - STEP_CELLS, 0)
        with document.ydoc.transaction():
            for index in reversed(range(begin, end)):
                ycell = ycells[index]
                if isinstance(ycell, Map):
                    continue
                cell = savable.cell(_value(ycell), index, _CURRENT, Flaws())
                del ycells[index]
                if cell is not None:
                    ycells.insert(index, document.create_ycell(cell))
        yield
        end = min(begin, len(ycells))


def complete(document: YNotebook) -> Iterator[None]:
    """Repair what keeps JupyterLab from showing the notebook, as `Flaws.unshown` says of it. What
    is sound stays the same item, so that what others write there meanwhile is not lost.

    Yields:
        whenever `STEP_CELLS` were looked at; whatever is done to the notebook then is no harm.
    """
    with document.ydoc.transaction():
        _repair_header(document)
    ycells = document.ycells
    begin = 0
    while begin < len(ycells):
        end = min(begin + STEP_CELLS, len(ycells))
        with document.ydoc.transaction():
            for index in range(begin, end):
                ycell = ycells[index]
                if isinstance(ycell, Map) and not _is_shown(dict(ycell)):
                    _repair_cell(document, ycell, index)
        yield
        begin = end


def make_editable(document: YNotebook) -> None:
    """Repair all of the notebook as far as jupyter_ydoc needs it to edit it, with what is sound as
    it is."""
    with document.ydoc.transaction():
        for _ in replace_foreign(document):
            pass
        _repair_header(document)
        for index, ycell in enumerate(document.ycells):
            _repair_cell(document, ycell, index)


def _repair_header(document: YNotebook) -> None:
    meta = document._ymeta
    head: dict[str, Any] = savable.header(_values(meta), True, Flaws())
    _replace_unsound(meta, {**head, "metadata": Map(head["metadata"])}, {"metadata": Map})
    for key in ("nbformat", "nbformat_minor"):
        if key in meta and meta[key] != head[key]:
            meta[key] = float(head[key])


def _repair_cell(document: YNotebook, ycell: Map[Any], index: int) -> None:
    flaws = Flaws()
    cell = savable.cell(_value(ycell), index, _CURRENT, flaws)
    cell = cell or {"id": savable.made_up_id(str(index)), **_EMPTY}
    kinds = {key: kind for key, kind in _KINDS.items() if key in cell}
    of_kind = all(isinstance(ycell.get(key), kind) for key, kind in kinds.items())
    if not flaws.count and of_kind and _has_plain_form(ycell):
        return
    _replace_unsound(ycell, document.create_ycell(cell)._prelim or {}, kinds)
    if ycell["cell_type"] != cell["cell_type"]:
        ycell["cell_type"] = cell["cell_type"]


def _replace_unsound(shared: Map[Any], sound: dict[str, Any], kinds: dict[str, type]) -> None:
    """Put what is in `sound` where there is something else in `shared` that has no plain form, or
    is not of the kind that `kinds` say."""
    for key in list(shared.keys()):
        if key not in sound and not _is_sound(shared[key]):
            del shared[key]
    for key, value in sound.items():
        if key in shared:
            found = shared[key]
            if isinstance(found, kinds.get(key, object)) and _is_sound(found):
                continue
        elif key not in kinds:
            continue
        shared[key] = value


def _is_sound(value: Any) -> bool:
    flaws = Flaws()
    if _has_plain_form(value):
        savable.plain(_value(value), "", flaws)
        return not flaws.count
    return False


def _has_plain_form(shared: Any) -> bool:
    try:
        if hasattr(shared, "to_py"):
            shared.to_py()
    except Exception:  # noqa: BLE001 (something within has none)
        return False
    return True


def _value(shared: Any) -> Any:
    """What an item of a document is as a plain value."""
    if not hasattr(shared, "to_py"):
        return shared
    try:
        return shared.to_py()
    except Exception:  # noqa: BLE001 (something within has no such form)
        if isinstance(shared, Map):
            return _values(shared)
        return [_value(item) for item in shared] if isinstance(shared, Array) else str(shared)


def _values(shared: Map[Any]) -> dict[str, Any]:
    return {key: _value(shared[key]) for key in shared.keys()}  # noqa: SIM118 (pycrdt's own)
