"""How often a server says and learns what a share takes in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from jupyter_teleportal.transports.redis import usage as redis_usage
from jupyter_teleportal.transports.redis.usage import CALM_S, INTERVAL_S, ShareUsage

MOST = 1_000_000
KEEP_S = 3600.0


class Redis:
    """Answers with a total, and counts how often it was asked."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.asked = 0

    async def say(self, share: str, *_arguments: Any) -> list[Any]:
        self.asked += 1
        return [self.total, 1, b"room"]

    async def look(self, share: str, rooms: Sequence[str]) -> list[int]:
        return [1 for _ in rooms]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(redis_usage, "loop_time", lambda: now[0])
    return now


async def times_asked(
    usage: ShareUsage, redis: Redis, clock: list[float], seconds: float, keep_s: float = KEEP_S
) -> int:
    """How often `seconds` of heartbeats, one in each second, ask for the size of a share."""
    before = redis.asked
    for _ in range(round(seconds)):
        await usage.note("team1", {"room": 1}, keep_s)
        clock[0] += INTERVAL_S
    return redis.asked - before


async def test_a_share_far_below_its_bound_is_asked_for_rarely(clock: list[float]) -> None:
    redis = Redis(total=MOST // 10)
    usage = ShareUsage(redis.say, redis.look, MOST)
    assert await times_asked(usage, redis, clock, 3 * CALM_S) == 3


async def test_a_share_nearer_to_its_bound_is_asked_for_with_each_heartbeat(
    clock: list[float],
) -> None:
    redis = Redis(total=MOST // 2)
    usage = ShareUsage(redis.say, redis.look, MOST)
    assert await times_asked(usage, redis, clock, 3 * CALM_S) == 3 * CALM_S


async def test_what_is_on_its_way_ends_the_calm_at_once(clock: list[float]) -> None:
    redis = Redis(total=MOST // 10)
    usage = ShareUsage(redis.say, redis.look, MOST)
    assert await times_asked(usage, redis, clock, 2) == 1
    usage.add("team1", MOST // 2)
    assert await times_asked(usage, redis, clock, 1) == 1


async def test_what_was_said_is_said_again_before_it_expires(clock: list[float]) -> None:
    redis = Redis(total=MOST // 10)
    usage = ShareUsage(redis.say, redis.look, MOST)
    assert await times_asked(usage, redis, clock, 12, keep_s=4.0) == 6
