"""Run the chaos from the command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from .run import run


def main(arguments: list[str] | None = None) -> int:
    """Run one seed or several; return 0 if nothing was lost in any of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what the faults are drawn from")
    parser.add_argument("--seeds", help="several, such as 1..30, one after the other")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long each lasts")
    parser.add_argument("--replicas", type=int, default=3, help="how many servers")
    parser.add_argument("--clients", type=int, default=6, help="how many tabs type")
    parser.add_argument("--only", help="only rounds with a fault of this name")
    parser.add_argument("--keep", type=Path, help="a folder for stories, logs and files")
    parser.add_argument("--quiet", action="store_true", help="only summaries and what is wrong")
    options = parser.parse_args(arguments)
    seeds = [options.seed]
    if options.seeds:
        first, _, last = options.seeds.partition("..")
        seeds = list(range(int(first), int(last or first) + 1))
    failed = []
    for seed in seeds:
        outcome = asyncio.run(
            run(
                seed=seed,
                minutes=options.minutes,
                replicas=options.replicas,
                clients=options.clients,
                keep=options.keep / f"seed-{seed}" if options.keep else None,
                quiet=options.quiet,
                only=options.only,
            )
        )
        if not outcome.ok:
            failed.append(seed)
            if options.quiet and not options.keep:
                print(outcome.story)
            print(*outcome.problems, sep="\n")
        print(outcome.summary(), flush=True)
    if failed:
        print(f"failed: run again with --seed {failed[0]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
