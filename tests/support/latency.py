"""How long somebody waits, by the clock and by what the servers do meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.jupyter_process import JupyterProcess
    from support.rtc_client import RtcClient

STANDSTILL_S = 10.0
"""Nobody waits for so long by the clock, however busy the machine is."""
MOST_WORK_S = 0.5
"""So long a server may work on other things while somebody waits."""


class Stopwatch:
    """Measures waits for servers.

    The clock tells how long somebody waits on this machine now, with whatever else it does. The
    processor time that a server uses meanwhile tells how long its other work holds somebody up, on
    a machine that is busy as on one that is not.

    Attributes:
        worst: the longest wait by the clock, in seconds.
        worst_work: the most that one server has worked during one wait, in seconds of processor
            time; never more than the clock says.
    """

    def __init__(self, servers: Sequence[JupyterProcess] = ()) -> None:
        self._processes = [psutil.Process(server.pid) for server in servers]
        self.reset()
        self.begin()

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.worst = self.worst_work = 0.0

    def begin(self) -> None:
        """Somebody begins to wait."""
        self._began = time.monotonic()
        self._before = self._used()

    def look(self) -> None:
        """The wait goes on, or is over now."""
        waited = time.monotonic() - self._began
        worked = [now - then for now, then in zip(self._used(), self._before, strict=True)]
        self.worst = max(self.worst, waited)
        self.worst_work = max(self.worst_work, min(waited, max(worked, default=0.0)))

    def _used(self) -> list[float]:
        return [sum(process.cpu_times()[:2]) for process in self._processes]

    def assert_nobody_waited(self, what: str) -> None:
        """
        Raises:
            AssertionError: if a wait was longer than a server may make it.
        """
        assert self.worst_work < MOST_WORK_S, (
            f"{what} waited while a server worked for {self.worst_work:.2f} s on other things"
        )
        assert self.worst < STANDSTILL_S, f"{what} waited for {self.worst:.2f} s"


class Latency(Stopwatch):
    """One client types, the other measures how late it sees each character.

    Attributes:
        worst: the longest wait, in seconds, also of one that is not over.
        worst_work: the most that one of `servers` has worked during one wait.
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
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Health(Stopwatch):
    """Asks a server for its health all the time.

    Attributes:
        worst: the longest time until an answer, in seconds.
        worst_work: the most that the server has worked until an answer.
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
            self.look()
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
