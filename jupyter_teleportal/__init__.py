"""Several Jupyter servers, one live notebook.

The public names are loaded when they are first used, so that importing the package costs nothing
and does not import ``redis``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients.asgi import WebsocketServer
    from .core.client_limits import ClientLimits
    from .core.errors import (
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
    from .jupyter.extension import TeleportalExtension
    from .sync.history import RedisYStore
    from .transports.base import SyncTransport, TransportState
    from .transports.memory import MemoryHub, MemorySyncTransport
    from .transports.noop import NoopSyncTransport
    from .transports.redis.transport import RedisSyncTransport, create_redis_sync_transport

__version__ = "0.1.0"

_HOMES = {
    "ClientLimits": "core.client_limits",
    "CodecError": "core.errors",
    "LogChanged": "core.errors",
    "SaveFailed": "core.errors",
    "SeamError": "core.errors",
    "SettingsError": "core.errors",
    "SharePathMismatch": "core.errors",
    "TeleportalError": "core.errors",
    "TransportError": "core.errors",
    "TransportRefused": "core.errors",
    "TransportUnavailable": "core.errors",
    "TeleportalExtension": "jupyter.extension",
    "RedisYStore": "sync.history",
    "SyncTransport": "transports.base",
    "TransportState": "transports.base",
    "MemoryHub": "transports.memory",
    "MemorySyncTransport": "transports.memory",
    "NoopSyncTransport": "transports.noop",
    "RedisSyncTransport": "transports.redis.transport",
    "create_redis_sync_transport": "transports.redis.transport",
    "WebsocketServer": "clients.asgi",
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
    from .jupyter.extension import TeleportalExtension

    return [{"module": "jupyter_teleportal", "app": TeleportalExtension}]
