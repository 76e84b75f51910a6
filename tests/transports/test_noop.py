"""The transport of a server that shares nothing."""

from __future__ import annotations

import pytest

from jupyter_teleportal import NoopSyncTransport
from jupyter_teleportal.core.errors import TransportUnavailable
from jupyter_teleportal.transports.base import TransportState

from .test_contract import CALLS, ROOM

DROPPED = {"publish", "subscribe", "farewell"}


async def test_it_stays_local() -> None:
    transport = NoopSyncTransport(url="redis://nowhere", key_prefix="x", options={"a": 1})
    await transport.start()
    assert transport.name == "noop"
    assert transport.state is TransportState.LOCAL
    await transport.aclose()
    await transport.aclose()
    assert transport.state is TransportState.LOCAL


async def test_messages_are_dropped() -> None:
    transport = NoopSyncTransport()
    await transport.start()
    heard: list[bytes] = []
    await transport.subscribe(ROOM, heard.append)
    await transport.publish(ROOM, b"x")
    await transport.unsubscribe(ROOM)
    assert heard == []


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_whatever_needs_the_other_side_is_unavailable(name: str) -> None:
    transport = NoopSyncTransport()
    await transport.start()
    if name in DROPPED:
        assert not await CALLS[name](transport)
    else:
        with pytest.raises(TransportUnavailable, match="shares nothing"):
            await CALLS[name](transport)
