"""Files to begin with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def notebook_json(sources: Sequence[str] = ("",), *, with_ids: bool = True) -> dict[str, Any]:
    """A notebook of code cells; without ids it is nbformat 4.4."""
    cells = []
    for number, source in enumerate(sources):
        cell: dict[str, Any] = {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        if with_ids:
            cell["id"] = f"cell-{number}"
        cells.append(cell)
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5 if with_ids else 4,
    }


def write_notebook(
    path: Path, sources: Sequence[str] = ("",), *, with_ids: bool = True
) -> dict[str, Any]:
    """Write a notebook file and return what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = notebook_json(sources, with_ids=with_ids)
    path.write_text(json.dumps(notebook, indent=1))
    return notebook


def file_sources(path: Path) -> list[str] | None:
    """The cell sources of a notebook file, or None while it is not there or not whole."""
    try:
        notebook = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def is_subsequence(part: Iterable[str], whole: Iterable[str]) -> bool:
    """Whether all of `part` is in `whole`, in that order."""
    rest = iter(whole)
    return all(item in rest for item in part)


def notebooks_in(folder: Path) -> list[str]:
    """The notebooks in a folder and below, without Jupyter's checkpoints."""
    return sorted(
        found.relative_to(folder).as_posix()
        for found in folder.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in found.parts
    )
