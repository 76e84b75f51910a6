"""Send what a hostile client, and a hostile account of Redis, could send to two real servers."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.hostile_world import run


def main(arguments: list[str] | None = None) -> int:
    """Run one seed or several; return 0 if all was well in all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.servers", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--runs", type=int, default=1, help="how many, with seeds that follow")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each lasts")
    parser.add_argument("--quiet", action="store_true", help="only summaries and what is wrong")
    options = parser.parse_args(arguments)
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        print(f"seed {seed}", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="teleportal-fuzz-"))
        say = (lambda line: None) if options.quiet else (lambda line: print(line, flush=True))
        outcome = asyncio.run(run(seed, options.seconds, folder, say))
        print(outcome.summary(), flush=True)
        if outcome.problems:
            failed += 1
            print(f"what is left is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
