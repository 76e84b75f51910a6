"""What a cursor does between two messages to the other servers costs them nothing."""

from __future__ import annotations

import asyncio

from pycrdt import Awareness, Doc, read_message
from support.hostile import awareness
from support.waiting import until

from jupyter_teleportal.core.envelopes import AwarenessEnvelope, Envelope
from jupyter_teleportal.sync.awareness import AwarenessBridge, Sink

MOVES = 500


async def test_of_a_flood_of_moves_the_other_servers_get_a_few_and_the_last():
    room = Awareness(Doc())
    sent: list[Envelope] = []
    bridge = AwarenessBridge(room, "me", [Sink(sent.append)], lambda message: None)
    for clock in range(1, MOVES + 1):
        move = awareness([7], clock, f'{{"at": {clock}}}')
        room.apply_awareness_update(read_message(move[1:]), "client")
        if clock == 1:
            assert len(sent) == 1, "the first one goes out at once"
    other = Awareness(Doc())

    def last_is_there() -> bool:
        for envelope in sent:
            assert isinstance(envelope, AwarenessEnvelope)
            other.apply_awareness_update(envelope.update, "other")
        return other.states.get(7) == {"at": MOVES}

    await until(last_is_there, timeout=2)
    assert len(sent) < 20
    bridge.close()
    await asyncio.sleep(0.05)
    last_is_there()
    assert 7 not in other.states
