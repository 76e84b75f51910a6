"""Clients that send what no browser sends, by the way that clients' messages take on a server."""

from __future__ import annotations

import contextlib
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from support.hostile import awareness, deadly, sync, varint

from jupyter_teleportal.clients.fanout import Fanout
from jupyter_teleportal.clients.guard import ClientGuard
from jupyter_teleportal.clients.serving import take_over
from jupyter_teleportal.core.client_limits import ClientLimits
from jupyter_teleportal.core.errors import CodecError, OverLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .world import Site

# Numbers where formats have their edges, and names that no document has.
_pieces = st.one_of(
    st.sampled_from([0, 1, 2, 3, 127, 128, 2**32 - 1, 2**32, 2**53, 2**64]).map(varint),
    st.integers(0, 12).map(varint),
    st.sampled_from(
        [b"\x01\x01x", b"\x04\x01\x01x\x01y", b"\x08\x01\x01x\x01w\x01z", b"\xff" * 11]
    ),
    st.binary(max_size=6),
)
updates = st.one_of(
    st.lists(_pieces, max_size=14).map(b"".join),
    st.sampled_from([deadly(random.Random(number))[1][:200] for number in range(8)]),
)
"""What may be in a log, too."""
messages = st.one_of(
    st.builds(sync, st.integers(0, 3), updates),
    st.builds(lambda update: b"\x01" + varint(len(update)) + update, updates),
    st.just(awareness([7], 1)),
    st.binary(max_size=40),
)


class Connection:
    """A client that sends one message, and reads nothing."""

    path = "room"

    def __init__(self, message: bytes) -> None:
        self._message = message

    async def send(self, message: bytes) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._message


class Served:
    """The clients of a site's document."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.refused: list[Exception] = []
        guard = ClientGuard(site.replica, ClientLimits(), lambda client, reason: None)
        # They are about real time.
        guard.turns.turn = lambda client: contextlib.nullcontext()  # type: ignore[assignment]
        self.room = SimpleNamespace(
            ydoc=site.document.ydoc,
            awareness=site.awareness,
            clients=set(),
            on_message=None,
            on_message_error=None,
            _handle_exception=self.refused.append,
        )
        fanout = Fanout(
            self.room.clients, site.replica.log, queue_max_bytes=1 << 20, turns=guard.turns
        )
        link = site.link
        take_over(
            self.room,
            fanout,
            lambda: link.awareness,
            answer=link.live.answer,
            guard=guard,
            trials=site.replica.trials,
            door=lambda: link.replicator.door,
            broke=link.room.broke,
        )

    async def take(self, message: bytes) -> None:
        """A client comes, sends this, and goes."""
        await self.room.serve(Connection(message))

    @property
    def failures(self) -> list[Any]:
        """What went wrong beyond its being refused."""
        refusals = (CodecError, OverLimits)
        return [error for error in self.refused if not isinstance(error, refusals)]
