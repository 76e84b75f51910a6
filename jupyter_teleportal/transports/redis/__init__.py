"""The transport over Redis or Valkey.

What outsiders name is loaded on use: ``redis`` is imported when a transport is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accounts import account_rules, hash_password
    from .options import RedisOptions
    from .transport import RedisSyncTransport, create_redis_sync_transport

_HOMES = {
    "RedisOptions": "options",
    "RedisSyncTransport": "transport",
    "account_rules": "accounts",
    "create_redis_sync_transport": "transport",
    "hash_password": "accounts",
}

__all__ = [
    "RedisOptions",
    "RedisSyncTransport",
    "account_rules",
    "create_redis_sync_transport",
    "hash_password",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
