"""Several Jupyter servers, one live notebook.

The public names are loaded when they are first used, so that importing the package costs nothing
and does not import ``redis``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client_limits import ClientLimits
    from .errors import (
        CodecError,
        LogChanged,
        SaveFailed,
        SeamError,
        SettingsError,
        SharePathMismatch,
        TeleportalError,
        TransportError,
        TransportRefused,
        TransportUnavailable,
    )
    from .extension import TeleportalExtension
    from .store import RedisYStore
    from .transports.base import SyncTransport, TransportState
    from .transports.memory import MemoryHub, MemorySyncTransport
    from .transports.noop import NoopSyncTransport
    from .transports.redis import RedisSyncTransport, create_redis_sync_transport
    from .websocket_server import WebsocketServer

__version__ = "0.1.0"

_HOMES = {
    "ClientLimits": "client_limits",
    "CodecError": "errors",
    "LogChanged": "errors",
    "SaveFailed": "errors",
    "SeamError": "errors",
    "SettingsError": "errors",
    "SharePathMismatch": "errors",
    "TeleportalError": "errors",
    "TransportError": "errors",
    "TransportRefused": "errors",
    "TransportUnavailable": "errors",
    "TeleportalExtension": "extension",
    "RedisYStore": "store",
    "SyncTransport": "transports.base",
    "TransportState": "transports.base",
    "MemoryHub": "transports.memory",
    "MemorySyncTransport": "transports.memory",
    "NoopSyncTransport": "transports.noop",
    "RedisSyncTransport": "transports.redis",
    "create_redis_sync_transport": "transports.redis",
    "WebsocketServer": "websocket_server",
}

__all__ = [
    "ClientLimits",
    "CodecError",
    "LogChanged",
    "MemoryHub",
    "MemorySyncTransport",
    "NoopSyncTransport",
    "RedisSyncTransport",
    "RedisYStore",
    "SaveFailed",
    "SeamError",
    "SettingsError",
    "SharePathMismatch",
    "SyncTransport",
    "TeleportalError",
    "TeleportalExtension",
    "TransportError",
    "TransportRefused",
    "TransportState",
    "TransportUnavailable",
    "WebsocketServer",
    "create_redis_sync_transport",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell Jupyter server about the extension."""
    from .extension import TeleportalExtension

    return [{"module": "jupyter_teleportal", "app": TeleportalExtension}]
