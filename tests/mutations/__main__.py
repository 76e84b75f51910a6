"""Try whether the tests see small wrongs: apply each mutation in `patches` to a copy of the package
and run its tests, which have to fail. The working tree is left alone."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from .patches import Mutation, load
from .trials import ROOT, SLOWER, START_S, TEST_S, Copies, Trial, run_tests, sound, try_out


def changed_since(ref: str) -> set[str] | None:
    """The files that are not what they were at `ref`, new ones too; None if that is not known, as
    in a clone without its history."""

    def git(*arguments: str) -> list[str] | None:
        # In a container the repository may be another user's.
        command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.splitlines() if done.returncode == 0 else None

    changed = git("diff", "--name-only", "--relative", ref, "--")
    new = git("ls-files", "--others", "--exclude-standard")
    return None if changed is None or new is None else {*changed, *new}


def chosen(mutations: list[Mutation], patterns: list[str], ref: str | None) -> list[Mutation]:
    """Those that one of the patterns names, and of them those that anything has changed for."""
    for pattern in patterns:
        if not any(fnmatch(mutation.name, pattern) for mutation in mutations):
            sys.exit(f"no mutation is called {pattern}")
    mutations = [
        mutation
        for mutation in mutations
        if not patterns or any(fnmatch(mutation.name, pattern) for pattern in patterns)
    ]
    if ref is None:
        return mutations
    changed = changed_since(ref)
    if changed is None:
        print(f"git does not know {ref} here, so all mutations count as changed", flush=True)
        return mutations
    return [mutation for mutation in mutations if mutation.files & changed]


def carry_out(mutations: list[Mutation], jobs: int, seconds: float | None) -> list[Trial]:
    """Try the mutations, as many as there is time for; the others are missing in the result."""
    if seconds is None:
        deadline, at_once = float("inf"), len(mutations)
    else:
        # Their tests are run without them first, which is not worth it for what is not tried.
        deadline, at_once = time.monotonic() + seconds, 10 * jobs
        random.shuffle(mutations)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="teleportal-mutations-") as folder:
        copies = Copies(Path(folder))
        for start in range(0, len(mutations), at_once):
            if time.monotonic() < deadline:
                trials += _try_some(copies, mutations[start : start + at_once], jobs, deadline)
    return trials


def _try_some(copies: Copies, mutations: list[Mutation], jobs: int, deadline: float) -> list[Trial]:
    tests = {test for mutation in mutations for test in mutation.tests}
    with copies.one() as copy:
        well = run_tests(
            copy,
            tests,
            test_s=4 * TEST_S,
            whole_s=START_S + TEST_S * len(tests),
            processes=jobs if jobs > 1 else 0,
        )
    if not well.outcomes:
        sys.exit(f"the tests cannot be run:\n{well.output}")

    def one(mutation: Mutation) -> Trial | None:
        if time.monotonic() > deadline:
            return None
        if problem := sound(well, mutation.tests):
            trial = Trial(mutation, "invalid", problem)
        else:
            test_s = max(TEST_S, SLOWER * well.longest(mutation.tests))
            trial = try_out(copies, mutation, test_s)
        print(
            f"{trial.verdict:8}  {mutation.name}  ({trial.took_s:.1f} s)  {trial.why}", flush=True
        )
        return trial

    with ThreadPoolExecutor(jobs) as pool:
        return [trial for trial in pool.map(one, mutations) if trial is not None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="which ones, as names or patterns such as 'lease-*'"
    )
    parser.add_argument("--list", action="store_true", help="say what each breaks, and end")
    parser.add_argument(
        "--changed-since",
        metavar="REF",
        help="only those whose modules or tests have changed since a commit; all, if git does not "
        "know it",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (2)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="begin with no more after so many seconds; which come first is left to chance",
    )
    options = parser.parse_args()
    mutations = chosen(load(), options.names, options.changed_since)
    if options.list:
        for mutation in mutations:
            print(f"{mutation.name}: {mutation.why}")
        return 0
    if not mutations:
        print("nothing has changed that a mutation is about")
        return 0
    began = time.monotonic()
    trials = carry_out(list(mutations), options.jobs, options.seconds)
    wrong = [trial for trial in trials if trial.verdict != "killed"]
    verdicts = Counter(trial.verdict for trial in trials)
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    late = len(mutations) - len(trials)
    print(
        f"\n{len(trials)} mutations in {time.monotonic() - began:.0f} s: {said or 'none'}"
        + (f"; no time for {late} others" if late else "")
    )
    for trial in wrong:
        print(f"{trial.verdict}: {trial.mutation.name} ({trial.mutation.why}): {trial.why}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
