"""Threads beside the event loop: large work goes there, and AnyIO's find their way home."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from anyio.lowlevel import RunVar

LARGE_BYTES = 1_000_000
"""From so many bytes on, work takes longer than an event loop should be kept from others."""
WALK_HERE_BYTES = 64 * 1024
"""Foreign updates of no more bytes than that are walked over on the event loop, and larger ones in
a thread: each byte may be a block."""

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


async def off_loop(
    size: int, work: Callable[_Given, _Result], *args: _Given.args, **keywords: _Given.kwargs
) -> _Result:
    """Return what `work` does, in a thread if it is about a large number of bytes, `size`.

    A large document is worth the way there and back; for a small one it is most of the time.
    """
    if size < LARGE_BYTES:
        return work(*args, **keywords)
    return await asyncio.to_thread(work, *args, **keywords)


def hold_workers() -> asyncio.Task[None]:
    """Give AnyIO a task that its worker threads belong to; cancel it when the server stops.

    AnyIO looks for the task that has started the event loop each time that it hands work to a
    thread, among all tasks. In Jupyter's loop there is none, and with hundreds of rooms there are
    thousands of others: each look took longer than the work.
    """

    async def stay() -> None:
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(stay(), name="teleportal-workers")
    backend: Any = importlib.import_module("anyio._backends._asyncio")
    known = getattr(backend, "_root_task", None)
    if isinstance(known, RunVar):  # in another AnyIO it is only slower
        known.set(task)
    return task


def let_workers_go() -> None:
    """See that AnyIO's worker threads do not keep this process from ending.

    They wait for the end of the task that began them; where an event loop is stopped before that,
    as Jupyter's is at SIGTERM, the interpreter waits for them and they for it, for ever.
    """

    def release() -> None:
        # Over when the interpreter begins to wait for its threads.
        threading.main_thread().join()
        for thread in threading.enumerate():
            work = getattr(thread, "queue", None)
            if thread.name == "AnyIO worker thread" and work is not None:
                with contextlib.suppress(queue.Full):
                    work.put_nowait(None)

    threading.Thread(target=release, name="teleportal-let-go", daemon=True).start()
