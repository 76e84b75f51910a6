"""The targets, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .base import Setting, Target
from .floor import Floor
from .hocuspocus import Hocuspocus
from .jupyter import JupyterAlone, TeleportalLocal
from .pycrdt_websocket import PycrdtWebsocket
from .teleportal import Teleportal
from .y_websocket import YWebsocket

__all__ = ["TARGETS", "Setting", "Target"]

TARGETS: dict[str, Callable[[Setting], Target]] = {
    "jupyter": JupyterAlone,
    "teleportal-local": TeleportalLocal,
    **{f"teleportal-{count}": partial(Teleportal, count=count) for count in (1, 2, 3, 4)},
    **{f"hocuspocus-{count}": partial(Hocuspocus, count=count) for count in (2, 3, 4)},
    "y-websocket": YWebsocket,
    "pycrdt": PycrdtWebsocket,
    "floor": Floor,
}
