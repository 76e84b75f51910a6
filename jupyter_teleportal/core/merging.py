"""What two sides have made of one content, in one content, with no I/O."""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from . import crdt
from .content import (
    apply_content,
    cell_key,
    digest,
    document_of,
    make_document,
    with_cells,
    with_known_ids,
)
from .reading import read
from .text_changes import clash, is_coarse, with_common_changes


def merge(file_type: str, base: Any, ours: Any, theirs: Any) -> Any:
    """Return `theirs` with what `ours` changed since `base`.

    What both did in the same way is done once. All else is replayed as edits and merged as a Y
    document merges them, so nothing that either side wrote is left out; where both changed the same
    word, both versions are there.
    Notebooks below format 4.5 have no cell ids to tell cells by; they get ids for the merge where
    their cells can be told by type and source.
    """
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    if isinstance(base, dict) and "cells" in base:
        namespace = uuid.UUID(bytes=hashlib.sha256(digest(base).encode()).digest()[:16])
        keep_ids = (base.get("nbformat", 4), base.get("nbformat_minor", 5)) >= (4, 5)
        base = with_cells(base, namespace)
        ours = _named(with_known_ids(ours, base), namespace, "ours")
        theirs = _named(_as_named(with_known_ids(theirs, base), ours), namespace, "theirs")
        sides = [{**side, "nbformat_minor": 5} for side in (base, ours, theirs)]
        merged = _merge_edits(file_type, *sides)
        merged["nbformat_minor"] = theirs.get("nbformat_minor", 5)
        if not keep_ids:
            merged["cells"] = [
                {key: value for key, value in cell.items() if key != "id"}
                for cell in merged["cells"]
            ]
        return merged
    return _merge_edits(file_type, base, ours, theirs)


def keeps_all(base: Any, ours: Any, theirs: Any) -> bool:
    """Whether it is sure that `merge` leaves what both sides have made as each of them made it:
    texts whose changes do not touch each other, and are not so many that they are made together
    with what lies between them."""
    sides = base, ours, theirs
    if not all(isinstance(side, str) for side in sides) or clash(*sides):
        return False
    origin = with_common_changes(*sides)
    return not is_coarse(origin, ours) and not is_coarse(origin, theirs)


def _named(notebook: dict[str, Any], namespace: uuid.UUID, side: str) -> dict[str, Any]:
    """With an id for each cell."""
    cells = [
        cell if "id" in cell else {**cell, "id": str(uuid.uuid5(namespace, f"{side} {number}"))}
        for number, cell in enumerate(notebook["cells"])
    ]
    return {**notebook, "cells": cells}


def _as_named(notebook: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Cells without an id with those of the same new cells of another side."""
    known = {cell.get("id") for cell in notebook["cells"]}
    new: dict[Any, list[str]] = {}
    for cell in other["cells"]:
        if cell["id"] not in known:
            new.setdefault(cell_key(cell), []).append(cell["id"])
    cells = []
    for cell in notebook["cells"]:
        ids = new.get(cell_key(cell)) if "id" not in cell else None
        cells.append({**cell, "id": ids.pop(0)} if ids else cell)
    return {**notebook, "cells": cells}


def edit_between(file_type: str, updates: Sequence[bytes], before: Any, after: Any) -> bytes | None:
    """Return the update that makes the change from `before` to `after` in the document that
    `updates` are, whatever else that holds; None, if there is no change."""
    if digest(before) == digest(after):
        return None
    document = document_of(file_type, *updates)
    state = document.ydoc.get_state()
    apply_content(document, merge(file_type, before, after, read(document)))
    return document.ydoc.get_update(state)


def _merge_edits(file_type: str, base: Any, ours: Any, theirs: Any) -> Any:
    origin = make_document(file_type)
    origin.set(copy.deepcopy(_with_common_changes(base, ours, theirs)))
    update = origin.ydoc.get_update()
    branches = []
    for side in (theirs, ours):
        branch = document_of(file_type, update)
        apply_content(branch, copy.deepcopy(side))
        branches.append(branch)
    merged, other = branches
    crdt.apply(merged.ydoc, other.ydoc.get_update())
    return read(merged)


def _with_common_changes(base: Any, ours: Any, theirs: Any) -> Any:
    """`base` with what both sides did in the same way."""
    sides = (base, ours, theirs)
    if all(isinstance(side, str) for side in sides):
        return with_common_changes(*sides)
    if not all(isinstance(side, dict) and "cells" in side for side in sides):
        return base
    before, one, other = ({cell.get("id"): cell for cell in side["cells"]} for side in sides)
    if any(
        len(by_id) < len(side["cells"]) or None in by_id
        for by_id, side in zip((before, one, other), sides, strict=True)
    ):
        return base
    # Those that both have added, each behind the one that it follows there.
    added: dict[Any, list[dict[str, Any]]] = {}
    last = None
    for name, cell in other.items():
        if name in before:
            last = name
        elif name in one:
            new = _common_cell({**cell, "source": ""}, one[name], cell)
            added.setdefault(last, []).append(new)
    cells = added.pop(None, [])
    for name, cell in before.items():
        if name in one and name in other:
            cells.append(_common_cell(cell, one[name], other[name]))
        elif name in one or name in other:
            cells.append(cell)
        cells += added.get(name, [])
    return {**base, "cells": cells}


def _common_cell(
    before: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> dict[str, Any]:
    found = {key: value for key, value in before.items() if key in one or key in other}
    for key in one.keys() & other.keys():
        if one[key] == other[key]:
            found[key] = one[key]
    sources: list[Any] = [cell.get("source") for cell in (before, one, other)]
    if all(isinstance(source, str) for source in sources):
        found["source"] = with_common_changes(*sources)
    return found
