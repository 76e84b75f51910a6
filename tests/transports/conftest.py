"""One backend of each kind, for whatever has to work on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .backends import Backend, MemoryBackend, RedisBackend


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
