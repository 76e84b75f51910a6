"""Messages of many channels in turns: a flood on one of them delays none of the others."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.waiting import until

from jupyter_teleportal.core.loop_turns import PUT_OFF_MAX
from jupyter_teleportal.transports import channel_turns
from jupyter_teleportal.transports.channel_turns import ChannelTurns

COST_S = 0.002


class Heard:
    """What was handed on; each message takes its time."""

    def __init__(self, cost_s: float = COST_S) -> None:
        self.cost_s = cost_s
        self.messages: list[tuple[str, bytes]] = []
        self.lost: list[str] = []
        self.turns = ChannelTurns(self._deliver, self.lost.append)

    def _deliver(self, channel: str, message: bytes) -> None:
        self.messages.append((channel, message))
        until = time.perf_counter() + (0.0 if channel == "quiet" else self.cost_s)
        while time.perf_counter() < until:
            pass

    def of(self, channel: str) -> list[bytes]:
        return [message for name, message in self.messages if name == channel]


async def test_a_message_on_a_quiet_channel_is_handled_at_once() -> None:
    heard = Heard(0.0)
    heard.turns.take("a", b"1")
    heard.turns.take("b", b"2")
    assert heard.messages == [("a", b"1"), ("b", b"2")]


async def test_a_flood_on_one_channel_delays_no_other_one() -> None:
    heard = Heard()
    heard.turns.take("quiet", b"0")
    await asyncio.sleep(2.5)  # what a channel has used is forgotten
    for number in range(200):
        heard.turns.take("flood", str(number).encode())
    handled = len(heard.messages)
    heard.turns.take("quiet", b"1")
    assert heard.messages[-1] == ("quiet", b"1")
    # The loop has its turns, too.
    assert handled < 50
    before = len(heard.messages)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(heard.messages) - before < 50
    await until(lambda: len(heard.of("flood")) == 200, 60)
    assert heard.of("flood") == [str(number).encode() for number in range(200)]
    assert not heard.lost


async def test_what_has_come_is_taken_in_before_a_flood_is_handled_further() -> None:
    heard = Heard()
    for number in range(200):
        heard.turns.take("flood", str(number).encode())
    heard.turns.behind(True)
    handled = len(heard.messages)
    for _ in range(PUT_OFF_MAX):
        await asyncio.sleep(0)
    assert len(heard.messages) == handled
    # However much comes, what waits is handled in the end.
    await until(lambda: len(heard.of("flood")) == 200, 60)
    assert not heard.lost


@pytest.mark.parametrize("limit", ["CHANNEL_MAX_MESSAGES", "CHANNEL_MAX_BYTES", "ALL_MAX_BYTES"])
async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(channel_turns, limit, 100)
    heard = Heard()
    for number in range(200):
        heard.turns.take("flood", bytes((number % 256,)))
    assert heard.lost
    assert set(heard.lost) == {"flood"}
    last = bytes((199 % 256,))
    await until(lambda: heard.of("flood")[-1] == last, 60)
    assert len(heard.of("flood")) < 200
    # What comes later is heard again, and nothing is lost any more.
    count = len(heard.lost)
    heard.turns.take("flood", b"later")
    await until(lambda: heard.of("flood")[-1] == b"later", 60)
    assert len(heard.lost) == count


async def test_one_message_that_is_too_large_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_turns, "CHANNEL_MAX_BYTES", 100)
    heard = Heard(0.02)
    heard.turns.take("a", b"1")
    heard.turns.take("a", bytes(1000))
    await until(lambda: len(heard.messages) == 2)
    assert not heard.lost


async def test_what_nobody_listens_to_any_more_is_not_handed_on() -> None:
    heard = Heard(0.02)
    for channel in ("a", "b"):
        for _ in range(3):
            heard.turns.take(channel, b"x")
    heard.turns.forget("a")
    await until(lambda: len(heard.of("b")) == 3)
    assert len(heard.of("a")) == 1
    for _ in range(3):
        heard.turns.take("b", b"y")
    heard.turns.clear()
    await asyncio.sleep(0.1)
    assert heard.of("b").count(b"y") <= 1
