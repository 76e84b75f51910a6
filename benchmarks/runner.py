"""All targets of a workload take turns, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .load.job import Job, Options, Outcome
from .load.process import run_in_process
from .results import Results
from .targets import TARGETS, Setting
from .workloads import WORKLOADS

RUN_TIMEOUT_SECONDS = 900.0


async def run_all(
    workloads: Sequence[str],
    targets: Sequence[str],
    options: Options,
    *,
    rounds: int,
    python: str,
    cache: Path,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """Run every workload on every target `rounds` times, and add what comes out to `results`.

    Args:
        python: the interpreter of servers in Python.
        cache: where packages of registries are installed.
        say: is told each run's figures.
    """
    for workload in workloads:
        what = WORKLOADS[workload]
        chosen = [name for name in targets if name not in what.not_on and what.fits(name)]
        for number in range(1, rounds + 1):
            for target in chosen:
                outcome = await _run(workload, target, options, python, cache, results)
                run = results.add(workload, target, number, outcome)
                figures = ", ".join(f"{key} {value:.4g}" for key, value in run.figures.items())
                say(f"{workload} {target} {number}/{rounds}: {figures}; busy {run.busy:.0%}")
                for text in (*run.problems, *run.notes):
                    say(f"  {text}")


async def _run(
    workload: str, target: str, options: Options, python: str, cache: Path, results: Results
) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="teleportal-benchmark-"))
    made = TARGETS[target](Setting(folder, python, cache))
    try:
        scene = await made.start()
        results.versions |= made.packages()
        return await run_in_process(Job(workload, scene, options), RUN_TIMEOUT_SECONDS)
    except (AssertionError, OSError) as error:
        return Outcome(problems=[f"did not start: {error}"])
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
