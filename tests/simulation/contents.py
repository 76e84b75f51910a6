"""What the simulated document is: a text, or a notebook."""

from __future__ import annotations

import copy
import json
from typing import Any, Protocol

from pycrdt import Map
from pycrdt import Text as SharedText


class Kind(Protocol):
    """Contents of one file type, in which tokens are typed and found again."""

    file_type: str

    def holding(self, token: str) -> Any:
        """The content of a file that holds a token and nothing else."""

    def text(self, content: Any) -> str:
        """All that matters of a content, with each token as often as it is there."""

    def type(self, document: Any, token: str, how: int) -> None:
        """Type a token; `how` from 0 to 4."""

    def changed(self, content: Any, token: str, how: int) -> Any:
        """The content as another program makes it that adds a token; `how` from 1 to 4."""


class PlainText:
    file_type = "file"

    def holding(self, token: str) -> Any:
        return token

    def text(self, content: Any) -> str:
        return str(content)

    def type(self, document: Any, token: str, how: int) -> None:
        document._ysource.insert(0, token)

    def changed(self, content: Any, token: str, how: int) -> Any:
        return content + token


class Notebook:
    """Tokens in cells and outputs."""

    file_type = "notebook"

    def holding(self, token: str) -> Any:
        return {"cells": [_cell(token)], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

    def text(self, content: Any) -> str:
        cells = content["cells"] if content else []
        return json.dumps([[_joined(c["source"]), _outputs(c)] for c in cells], sort_keys=True)

    def type(self, document: Any, token: str, how: int) -> None:
        cells = document.ycells
        if how == 2 or not len(cells):
            cells.append(document.create_ycell(_cell(token)))
        elif how == 3:
            text = SharedText(token)
            cells[0]["outputs"].append(
                Map({"output_type": "stream", "name": "stdout", "text": text})
            )
        elif how == 4:
            cells.insert(0, document.create_ycell(_cell(token)))
        else:
            cells[0]["source"].insert(0, token)

    def changed(self, content: Any, token: str, how: int) -> Any:
        content = copy.deepcopy(content)
        cells = content["cells"]
        if how == 2 or not cells:
            cells.append(_cell(token))
        elif how == 3:
            cells[0]["outputs"].append({"output_type": "stream", "name": "stderr", "text": token})
        elif how == 4:
            cells.insert(0, _cell(token))
        else:
            cells[0]["source"] = _joined(cells[0]["source"]) + token
        return content


def _cell(token: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        # Of which nobody else makes one.
        "id": token.strip("<>"),
        "source": token,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


def _joined(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)


def _outputs(cell: Any) -> list[str]:
    return [_joined(output.get("text", "")) for output in cell.get("outputs", [])]


KINDS: dict[str, Kind] = {"text": PlainText(), "notebook": Notebook()}
