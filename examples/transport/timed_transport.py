"""A transport of one's own: the Redis transport, which also says how long Redis takes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from jupyter_teleportal import RedisSyncTransport


class TimedTransport(RedisSyncTransport):
    """Remembers how many seconds each of the last 1,000 appends took."""

    name = "timed"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.append_seconds: deque[float] = deque(maxlen=1000)

    def append_log(self, *arguments: Any) -> asyncio.Future[Any]:
        began = time.perf_counter()
        appended = asyncio.ensure_future(super().append_log(*arguments))
        appended.add_done_callback(
            lambda _: self.append_seconds.append(time.perf_counter() - began)
        )
        return appended
