"""Run many schedules from the command line, on several processors."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings

from simulation.schedule import Step, carry_out, kinds, schedules
from simulation.world import Wrong


def run_some(task: tuple[int, int]) -> str:
    """Run so many schedules from one seed; return the story of a failure, shrunk, or nothing."""
    count, number = task
    found = False

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules, kinds)
    def check(schedule: list[Step], kind: str) -> None:
        nonlocal found
        try:
            carry_out(schedule, kind)
        except Wrong as error:
            if not found:
                print(f"found, and is being shrunk: {error}", file=sys.stderr, flush=True)
            found = True
            raise

    try:
        check()
    except Wrong as error:
        return f"{error}\n{chr(10).join(getattr(error, '__notes__', []))}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    share = -(-options.schedules // options.processes)
    tasks = [(share, options.seed + number) for number in range(options.processes)]
    with multiprocessing.Pool(options.processes) as pool:
        stories = [story for story in pool.imap_unordered(run_some, tasks) if story]
    print(
        f"{share * options.processes} schedules in {time.monotonic() - began:.0f} s on "
        f"{options.processes} processors",
        *stories,
        sep="\n\n",
    )
    return 1 if stories else 0


if __name__ == "__main__":
    sys.exit(main())
