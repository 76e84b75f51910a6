"""One backend of each kind, for whatever has to work on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.redis_server import RedisServer

from .backends import Backend, MemoryBackend, RedisBackend


@pytest.fixture
def confined_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A started Redis whose `url` is that of an account with the rights that a hub gives."""
    server = RedisServer(tmp_path / "redis", shares=("team1", "team2", "share", "s"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(params=["memory", "redis", "redis under a confined account"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        made: Backend = MemoryBackend()
    else:
        confined = request.param != "redis"
        made = RedisBackend(
            request.getfixturevalue("confined_redis" if confined else "redis_server")
        )
    async with made:
        yield made
