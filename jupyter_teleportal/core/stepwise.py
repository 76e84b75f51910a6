"""JSON of large notebooks, a piece at a time, with no I/O.

Python's `json` holds the interpreter's lock from the first to the last byte of what it reads or
writes. Done cell by cell in a thread, it lets the event loop go on in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr)
_SLICE_CHARACTERS = 1 << 20


class StepwiseDecoder(json.JSONDecoder):
    """Reads what `json.JSONDecoder` reads, the members of the outermost object and the items of
    the arrays among them one by one."""

    def __init__(self) -> None:
        super().__init__()
        at_once: Any = self.scan_once  # type: ignore[has-type]

        def scan_member(text: str, index: int) -> tuple[Any, int]:
            array = text[index : index + 1] == "["
            found: tuple[Any, int] = (
                JSONArray((text, index + 1), at_once) if array else at_once(text, index)
            )
            return found

        def scan(text: str, index: int) -> tuple[Any, int]:
            if text[index : index + 1] != "{":
                return scan_member(text, index)
            found: tuple[Any, int] = JSONObject(
                (text, index + 1), self.strict, scan_member, None, None
            )
            return found

        self.scan_once = scan


def canonical(content: Any) -> Iterator[str]:
    """Yield the pieces of `content` as JSON with sorted keys and no space.

    What JSON cannot hold stands there as its `repr`.
    """
    if isinstance(content, str):
        yield '"'
        for start in range(0, len(content), _SLICE_CHARACTERS):
            yield _CANONICAL.encode(content[start : start + _SLICE_CHARACTERS])[1:-1]
        yield '"'
    elif _is_notebook(content):
        before = "{"
        for key in sorted(content):
            yield f"{before}{_CANONICAL.encode(key)}:"
            yield from _items(content[key]) if key == "cells" else [_CANONICAL.encode(content[key])]
            before = ","
        yield "}"
    else:
        yield _CANONICAL.encode(content)


def with_sorted_keys(content: Any) -> Any:
    """Return a copy of `content`, as JSON gives it back, with sorted keys on all levels."""
    if not _is_notebook(content):
        return _sorted_copy(content)
    return {
        key: [_sorted_copy(cell) for cell in value] if key == "cells" else _sorted_copy(value)
        for key, value in sorted(content.items())
    }


def _is_notebook(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("cells"), list)
        and all(isinstance(key, str) for key in content)
    )


def _items(values: list[Any]) -> Iterator[str]:
    yield "["
    for index, value in enumerate(values):
        yield f",{_CANONICAL.encode(value)}" if index else _CANONICAL.encode(value)
    yield "]"


def _sorted_copy(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))
