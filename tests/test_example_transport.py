"""examples/transport: what its page says about a transport of one's own, done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from support.redis_server import RedisServer
from timed_transport import TimedTransport
from transports.backends import IMPATIENT, KEY_PREFIX, RedisBackend
from transports.test_contract import *  # noqa: F403

from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.jupyter import extension


class TimedBackend(RedisBackend):
    """Makes the transports of a test, can cut them off (`disconnect`) and heal them."""

    name = "timed"

    async def make(self, log: Any = None, **options: Any) -> TimedTransport:
        transport = TimedTransport(
            url=self.proxy.url, log=log, key_prefix=KEY_PREFIX, options={**IMPATIENT, **options}
        )
        self.made.append(transport)
        await transport.start()
        return transport


@pytest.fixture
async def backend(redis_server: RedisServer) -> AsyncIterator[TimedBackend]:
    async with TimedBackend(redis_server) as backend:
        yield backend


# -- and the example itself ----------------------------------------------------------------


def test_it_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("timed", "timed_transport:TimedTransport", extension.TRANSPORTS)
    monkeypatch.setattr(extension, "entry_points", lambda **_: [point])
    app = extension.TeleportalExtension(transport="timed")
    assert isinstance(app._make_transport("redis://localhost:1"), TimedTransport)


async def test_it_measures(redis_server: RedisServer) -> None:
    transport = TimedTransport(url=redis_server.url)
    await transport.start()
    room = Scope("team1", "json:notebook:one")
    seeded = await transport.seed_log(room, "lineage", "a", b"seed")
    await transport.append_log(room, seeded.log, "a", b"entry")
    await transport.aclose()
    (seconds,) = transport.append_seconds
    assert 0 < seconds < 5
