"""One backend of each kind, for whatever has to work on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .backends import Backend, MemoryBackend, RedisBackend


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        made: Backend = MemoryBackend()
    else:
        made = RedisBackend(request.getfixturevalue("redis_server"))
    async with made:
        yield made
