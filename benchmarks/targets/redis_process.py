"""The Redis of a target."""

from __future__ import annotations

from support.redis_server import RedisServer


class Redis(RedisServer):
    """A `redis-server` of our own, with an append-only file, as the README asks for."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid
