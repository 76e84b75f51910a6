"""The load generator's process: how it is started, and what it does with a job."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from .job import Job, Outcome

ROOT = Path(__file__).resolve().parents[2]


async def run_in_process(job: Job, timeout: float) -> Outcome:
    """Run a job in a process of its own, which is gone afterwards.

    Args:
        timeout: seconds after which it is killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        answer, _ = await asyncio.wait_for(process.communicate(pickle.dumps(job)), timeout)
    except asyncio.TimeoutError:
        return Outcome(problems=[f"not done after {timeout:g} s"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if not answer:
        return Outcome(problems=[f"the load generator ended with {process.returncode}"])
    outcome: Outcome = pickle.loads(answer)
    return outcome


def main() -> None:
    """Read a job from the standard input, do it, write the outcome to the standard output."""
    from ..workloads import HELPERS, WORKLOADS

    answer = os.dup(1)
    # Whatever is printed shall not mix with the answer.
    os.dup2(2, 1)
    job: Job = pickle.load(sys.stdin.buffer)
    # A collection in the middle would look like a slow server, and there are hardly any cycles.
    gc.disable()
    try:
        outcome = _run((WORKLOADS | HELPERS)[job.workload].run(job.scene, job.options))
    except Exception as error:  # noqa: BLE001 (whoever asked reports it)
        traceback.print_exc()
        outcome = Outcome(problems=[f"{type(error).__name__}: {error}"])
    with os.fdopen(answer, "wb") as stream:
        pickle.dump(outcome, stream)


def _run(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
