"""Ids for a notebook's cells that lack one, or share one, the same wherever the file is read."""

from __future__ import annotations

import uuid
from typing import Any

_NAMESPACE = uuid.UUID("2a8c8d9e-54f3-5b0c-9d44-6c1c4f1f0a5d")


def name_cells(cells: list[Any], *, anew: bool = False) -> None:
    """Give each cell that has no id, or one that a cell before has, one that follows from its type
    and its source; of those that are the same, from how many came before.

    Readers make up other ones at each reading, so that two servers would hold different cells.

    Args:
        cells: the cells of a notebook of format 4.5 or later; what is no cell is left as it is.
        anew: whether the ids that are there were made up.
    """
    taken: set[str] = set()
    nameless: list[dict[str, Any]] = []
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        known = cell.get("id")
        if not anew and isinstance(known, str) and known not in taken:
            taken.add(known)
        elif anew or known is None or isinstance(known, str):
            nameless.append(cell)
    for cell in nameless:
        cell["id"] = _name_of(cell, taken)
        taken.add(cell["id"])


def _name_of(cell: dict[str, Any], taken: set[str]) -> str:
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    count = 0
    while True:
        # Half characters, which JSON may hold, have no UTF-8.
        told = f"{cell.get('cell_type')} {count} {text}".encode("utf-8", "surrogatepass")
        name = uuid.uuid5(_NAMESPACE, told.hex()).hex[:12]
        if name not in taken:
            return name
        count += 1
