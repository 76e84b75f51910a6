"""Notebooks of a given size, as files and as documents."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

from jupyter_ydoc import YNotebook
from pycrdt import Doc

_WORDS = (
    *("the", "loss", "of", "each", "epoch", "is", "written", "here", "with", "its", "learning"),
    *("rate", "and", "time", "in", "seconds", "batch", "mean", "error", "tensor", "shape"),
    *("warning", "value", "frame", "index", "columns", "dtype", "float"),
)
_SOURCE_BYTES = 1_000
_TEXT_BYTES = 24_000
_IMAGE_BYTES = 18_000


def notebook(size: int = 0) -> dict[str, Any]:
    """Return a notebook of at least `size` bytes as JSON, always the same for a size.

    The first cell is empty, for typing. In the others source, printed lines and an image, which
    does not compress, come in the proportion 1 : 24 : 24, down to what the size has room for.
    """
    chance = random.Random(size)
    cells = [_cell(0, "", [])]
    missing = size
    while missing > 0:
        source = _text(chance, min(_SOURCE_BYTES, missing))
        missing -= len(source)
        outputs: list[dict[str, Any]] = []
        if missing > 0:
            text = _text(chance, min(_TEXT_BYTES, missing))
            outputs.append({"output_type": "stream", "name": "stdout", "text": text})
            missing -= len(text)
        if missing > 0:
            image = base64.b64encode(chance.randbytes(min(_IMAGE_BYTES, missing))).decode()
            data = {"image/png": image, "text/plain": "<Figure size 640x480 with 1 Axes>"}
            outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
            missing -= len(image)
        cells.append(_cell(len(cells), source, outputs))
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write_file(path: Path, size: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(size), indent=1))


def as_update(size: int = 0) -> bytes:
    """Return the document of such a notebook as one update."""
    doc: Doc[Any] = Doc()
    YNotebook(doc).set(notebook(size))
    return doc.get_update()


def _cell(number: int, source: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"cell-{number}",
        "metadata": {},
        "outputs": outputs,
        "source": source,
    }


def _text(chance: random.Random, size: int) -> str:
    """About `size` bytes of lines."""
    lines: list[str] = []
    while size > 0:
        words = chance.choices(_WORDS, k=8)
        lines.append(f"{' '.join(words)} {chance.random():.6f}\n")
        size -= len(lines[-1])
    return "".join(lines)
