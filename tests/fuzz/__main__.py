"""Fuzz for longer: ``python -m tests.fuzz --seconds 3600``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.runs import GUIDED, run
from fuzz.targets import TARGETS


def main() -> int:
    """Fuzz all targets or one; return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long in all")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, default=1, help="what inputs are drawn from")
    parser.add_argument("--mutated", action="store_true", help="without atheris")
    options = parser.parse_args()
    targets = [options.target] if options.target else list(TARGETS)
    wrong = 0
    for target in targets:
        guided = GUIDED and not options.mutated
        outcome = run(target, options.seconds / len(targets), options.seed, guided=guided)
        print(f"{target}: {outcome.problem or 'no promise broken'}", flush=True)
        if outcome.problem:
            wrong += 1
            print(outcome.said[-3000:])
            for data in outcome.inputs:
                print("  corpus:", data.hex())
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
