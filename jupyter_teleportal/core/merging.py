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
    digest,
    document_of,
    make_document,
    with_cells,
    with_known_ids,
)
from .reading import read


def merge(file_type: str, base: Any, ours: Any, theirs: Any) -> Any:
    """Return `theirs` with what `ours` changed since `base`.

    Both sides are replayed as edits of `base` and merged as a Y document merges them, so nothing
    that either side wrote is left out; where both changed the same word, both versions are there.
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
        ours, theirs = with_known_ids(ours, base), with_known_ids(theirs, base)
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
    origin.set(copy.deepcopy(base))
    update = origin.ydoc.get_update()
    branches = []
    for side in (theirs, ours):
        branch = document_of(file_type, update)
        apply_content(branch, copy.deepcopy(side))
        branches.append(branch)
    merged, other = branches
    crdt.apply(merged.ydoc, other.ydoc.get_update())
    return read(merged)
