"""AnyIO's threads in a loop that AnyIO has not started."""

from __future__ import annotations

import asyncio
import threading

from anyio import to_thread
from support.waiting import until

from jupyter_teleportal.sync.threads import hold_workers


def _workers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "AnyIO worker thread"]


def test_its_threads_belong_to_one_task_and_end_with_it() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        before = _workers()
        holder = hold_workers()
        worker = await to_thread.run_sync(threading.current_thread)
        assert getattr(worker, "root_task", None) is holder
        holder.cancel()
        await until(lambda: _workers() == before, what="the end of the thread")
        # Without the task there are still threads.
        assert await to_thread.run_sync(lambda: 1) == 1

    # As tornado does it: the loop is not there for one task, by which AnyIO would know it.
    done = loop.create_task(main())
    done.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    done.result()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
