"""A Jupyter server extension for tests: jupyter_server_ydoc is said to be of a later version."""

from __future__ import annotations

import importlib.metadata
from typing import Any

VERSION = "3.9.0"
_known = importlib.metadata.version


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    # It is asked for them before any extension is linked.
    importlib.metadata.version = _version
    return [{"module": "support.changed_upstream"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    pass


def _version(name: str) -> str:
    return VERSION if name == "jupyter-server-ydoc" else _known(name)
