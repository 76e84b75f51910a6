"""How long somebody waits, by the clock and by what the servers do meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psutil

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.jupyter_process import JupyterProcess
    from support.rtc_client import RtcClient

STANDSTILL_S = 10.0
"""Nobody waits for so long by the clock, however busy the machine is."""
MOST_WORK_S = 0.5
"""So long may a server's work on other things hold somebody up."""


class Stopwatch:
    """Measures waits for servers.

    The clock tells how long somebody waits on this machine now, with whatever else it does. The
    processor time for which a server's work holds its event loop up meanwhile tells how long
    somebody waits for that work, on a machine that is busy as on one that is not. What a server
    does in threads beside its loop holds nobody up.

    Attributes:
        worst: the longest wait by the clock, in seconds.
        worst_work: the longest that one server's work has held its loop up during one wait, in
            seconds of processor time; never more than the clock says.
    """

    def __init__(self, servers: Sequence[JupyterProcess] = ()) -> None:
        """
        Args:
            servers: whose work is measured; they have to be watched.
        """
        self._watches = [server.loop_watch() for server in servers]
        self.reset()
        self.begin()

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.worst = self.worst_work = 0.0

    def begin(self) -> None:
        """Somebody begins to wait."""
        self._began = time.monotonic()
        self._before = self._held()

    def look(self) -> None:
        """The wait goes on."""
        self._note(time.monotonic())

    async def end(self) -> None:
        """The wait is over now, and noted once the servers have told what they did meanwhile."""
        now = time.monotonic()
        self._note(now)
        await until(
            lambda: all(watch.read()[0] > now for watch in self._watches),
            what="the servers to tell what they did meanwhile",
        )
        self._note(now)

    def _note(self, now: float) -> None:
        waited = now - self._began
        held = [now - then for now, then in zip(self._held(), self._before, strict=True)]
        self.worst = max(self.worst, waited)
        self.worst_work = max(self.worst_work, min(waited, max(held, default=0.0)))

    def _held(self) -> list[float]:
        return [watch.read()[1] for watch in self._watches]

    def assert_nobody_waited(self, what: str) -> None:
        """
        Raises:
            AssertionError: if a wait was longer than a server may make it.
        """
        assert self.worst_work < MOST_WORK_S, (
            f"{what} waited for {self.worst_work:.2f} s of a server's work on other things"
        )
        assert self.worst < STANDSTILL_S, f"{what} waited for {self.worst:.2f} s"


class Latency(Stopwatch):
    """One client types, the other measures how late it sees each character.

    Attributes:
        worst: the longest wait, in seconds, also of one that is not over.
        worst_work: the longest that the work of one of `servers` has held it up during one wait.
        typed: how many characters were typed.
    """

    def __init__(
        self,
        typist: RtcClient,
        reader: RtcClient,
        pause: float = 0.1,
        servers: Sequence[JupyterProcess] = (),
    ) -> None:
        super().__init__(servers)
        self.typist = typist
        self.reader = reader
        self.typed = 0
        self._pause = pause
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        before = len(self.reader.text)
        while True:
            self.begin()
            self.typist.write(f"{self.typed % 10}")
            self.typed += 1
            while len(self.reader.text) < before + self.typed:
                await asyncio.sleep(0.005)
                self.look()
            await self.end()
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Health(Stopwatch):
    """Asks a server for its health all the time.

    Attributes:
        worst: the longest time until an answer, in seconds.
        worst_work: the longest that the server's other work has held up an answer.
        memory: the most resident memory that it had, in bytes.
        others: the answers that were other than ok.
    """

    def __init__(self, server: JupyterProcess) -> None:
        super().__init__([server])
        self.server = server
        self.memory = 0
        self.others: list[str] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.begin()
            reply = await self.server.request("GET", "/api/teleportal/health", timeout=60)
            await self.end()
            self.memory = max(self.memory, memory_of(self.server))
            if reply.json() != {"status": "ok"}:
                self.others.append(reply.text)
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def memory_of(server: JupyterProcess) -> int:
    """Resident memory, in bytes."""
    return int(psutil.Process(server.pid).memory_info().rss)
