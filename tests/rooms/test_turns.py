"""Documents that are saved in turn: all of them, soon, and one after the other."""

from __future__ import annotations

import asyncio

import pytest
from simulation.virtual import run_virtually

from jupyter_teleportal.core.schedule import SavePace
from jupyter_teleportal.sync.save_turns import SaveTurns
from jupyter_teleportal.transports.base import loop_time


async def _times(turns: SaveTurns, count: int) -> list[float]:
    """When each of `count`, which all ask now, has its turn."""
    began = loop_time()

    async def one() -> float:
        await turns.take()
        return loop_time() - began

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_a_few_follow_at_the_pace_of_what_a_save_takes() -> None:
    async def main() -> list[float]:
        turns = SaveTurns(SavePace(within=10, share=0.25))
        for _ in range(200):
            turns.took(0.02)
        return await _times(turns, 5)

    times = run_virtually(main())
    assert times == pytest.approx([n * 0.08 for n in range(5)], abs=0.001)


def test_many_have_their_turn_in_time() -> None:
    async def main() -> list[float]:
        turns = SaveTurns(SavePace(within=10, share=0.25))
        for _ in range(200):
            turns.took(0.1)
        return await _times(turns, 1000)

    times = run_virtually(main())
    assert times == sorted(times), "not in the order of asking"
    # The last hundred are fewer, so there is more time for each.
    assert times[-100] < 25
    assert times[500] < 10


def test_who_gives_up_keeps_nobody_waiting() -> None:
    async def main() -> list[float]:
        turns = SaveTurns(SavePace(within=10, share=0.25))
        await turns.take()
        waiting = [asyncio.ensure_future(turns.take()) for _ in range(3)]
        await asyncio.sleep(0)
        for one in waiting[:2]:
            one.cancel()
        await waiting[2]
        return await _times(turns, 1)

    assert run_virtually(main())[0] < 1
