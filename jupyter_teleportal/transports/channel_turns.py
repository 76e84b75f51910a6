"""Whose messages are handled when more comes from the transport than fits into a turn of the event
loop: those of channels on which little is said come first."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from ..core.client_limits import Usage
from ..core.loop_turns import LoopTurns

TURN_S = 0.01
"""All channels together have so long in each turn of the event loop."""
CHANNEL_MAX_MESSAGES = 5_000
CHANNEL_MAX_BYTES = 4 * 1024 * 1024
ALL_MAX_BYTES = 64 * 1024 * 1024
"""So much may wait of one channel, and of all, besides a message that waits alone."""


class _Channel:
    """What waits for a channel's turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.usage = Usage(time.monotonic())
        self.messages: deque[bytes] = deque()
        self.size = 0

    def clear(self) -> int:
        size, self.size = self.size, 0
        self.messages.clear()
        return size


class ChannelTurns:
    """Hands on the messages of channels, those of each channel in their order.

    Whoever says little on a channel is heard at once, however much is said on others. Of a channel
    on which more is said than can be handled, all that waits is dropped when it is too much.
    """

    def __init__(
        self,
        deliver: Callable[[str, bytes], None],
        lost: Callable[[str], None],
        *,
        turn_s: float = TURN_S,
    ) -> None:
        """
        Args:
            deliver: handles a message; is given the channel and the message, and raises nothing.
            lost: is told the channel of which messages were dropped.
            turn_s: seconds of each turn of the event loop.
        """
        self._deliver = deliver
        self._lost = lost
        self._turns: LoopTurns[_Channel] = LoopTurns(turn_s, self._go_on, asyncio.get_running_loop)
        self._queue = self._turns.queue
        self._channels: dict[str, _Channel] = {}
        self._size = 0

    def take(self, name: str, message: bytes) -> None:
        """A message has come: handle it now, or when it is the channel's turn."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name)
        if channel.messages:
            self._wait(channel, message)
        elif self._queue.free or self._queue.may_go_on(channel.usage.lately(time.monotonic())):
            self._handle(channel, message)
        else:
            self._wait(channel, message)
            self._enter(channel)

    def behind(self, more: bool) -> None:
        """Whether more has come on the connection, which is behind what was taken so far."""
        self._turns.behind = more

    def forget(self, name: str) -> None:
        """Nobody listens to a channel any more."""
        channel = self._channels.pop(name, None)
        if channel is not None:
            self._size -= channel.clear()

    def clear(self) -> None:
        """Drop all that waits."""
        for channel in self._channels.values():
            channel.clear()
        self._size = 0
        self._turns.behind = False

    def _wait(self, channel: _Channel, message: bytes) -> None:
        size = len(message)
        if channel.messages and (
            len(channel.messages) >= CHANNEL_MAX_MESSAGES
            or channel.size + size > CHANNEL_MAX_BYTES
            or self._size + size > ALL_MAX_BYTES
        ):
            # The channel keeps its place in the queue, and this message holds it.
            self._size -= channel.clear()
            self._lost(channel.name)
        channel.messages.append(message)
        channel.size += size
        self._size += size

    def _enter(self, channel: _Channel) -> None:
        self._queue.enter(channel, channel.usage.lately(time.monotonic()))
        self._turns.schedule()

    def _handle(self, channel: _Channel, message: bytes) -> None:
        began = time.perf_counter()
        self._deliver(channel.name, message)
        used = time.perf_counter() - began
        channel.usage.add(used, time.monotonic())
        self._queue.spend(used)
        if self._queue.counts:
            self._turns.schedule()

    def _go_on(self, channel: _Channel) -> None:
        while channel.messages and self._queue.spent < self._queue.budget_s:
            message = channel.messages.popleft()
            channel.size -= len(message)
            self._size -= len(message)
            self._handle(channel, message)
        if channel.messages:
            self._enter(channel)
