"""The Valkey that is started here: `redis_url = "embedded"`, the demo, and a hub's own."""

from __future__ import annotations

from .processes import PR_SET_PDEATHSIG
from .valkey import (
    SERVER_OPTIONS,
    EmbeddedServer,
    find_server_binary,
    lock_file,
    make_private,
    socket_path_for,
    url_of,
)

__all__ = [
    "PR_SET_PDEATHSIG",
    "SERVER_OPTIONS",
    "EmbeddedServer",
    "find_server_binary",
    "lock_file",
    "make_private",
    "socket_path_for",
    "url_of",
]
