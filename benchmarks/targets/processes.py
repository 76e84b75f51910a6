"""Waiting for servers."""

from __future__ import annotations

import asyncio
import time

from support.processes import ChildProcess

START_SECONDS = 30.0
POLL_SECONDS = 0.02


async def answers_on(port: int, process: ChildProcess, timeout: float = START_SECONDS) -> None:
    """Wait until somebody listens on the port.

    Raises:
        AssertionError: with the process's output, if it ends or nobody does in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if not process.running or time.monotonic() > deadline:
                output = process.log_path.read_text(errors="replace")[-4000:]
                raise AssertionError(f"no server on its port:\n{output}") from None
            await asyncio.sleep(POLL_SECONDS)
        else:
            writer.close()
            return
