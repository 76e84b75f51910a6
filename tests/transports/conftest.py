"""One backend of each kind, for whatever has to work on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .backends import Backend, MemoryBackend, RedisBackend

FIXTURES = {
    "redis": "redis_server",
    "redis under a confined account": "confined_redis",
    "redis over TLS": "tls_redis",
}


@pytest.fixture(params=["memory", *FIXTURES])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        made: Backend = MemoryBackend()
    else:
        made = RedisBackend(request.getfixturevalue(FIXTURES[request.param]))
    async with made:
        yield made
