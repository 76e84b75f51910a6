"""The targets, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .base import Setting, Target
from .floor import Floor
from .hocuspocus import Hocuspocus
from .jupyter import JupyterAlone, TeleportalLocal
from .teleportal import Teleportal

__all__ = ["TARGETS", "Setting", "Target"]

TARGETS: dict[str, Callable[[Setting], Target]] = {
    "jupyter": JupyterAlone,
    "teleportal-local": TeleportalLocal,
    **{f"teleportal-{count}": partial(Teleportal, count=count) for count in (1, 2, 3, 4)},
    **{f"hocuspocus-{count}": partial(Hocuspocus, count=count) for count in (2, 3, 4)},
    "floor": Floor,
}
