"""The command line: ``python -m benchmarks --workloads W1,W2 --targets jupyter,teleportal-2``."""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from .load.job import Options
from .report import tables
from .results import Results, options_of, versions
from .runner import run_all
from .targets import TARGETS
from .workloads import WORKLOADS

DEFAULT_CACHE = Path.home() / ".cache" / "jupyter-teleportal-benchmarks"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures what sharing costs, side by side with what else there is.",
        epilog="Workloads: "
        + "; ".join(f"{name} {workload.title}" for name, workload in WORKLOADS.items()),
    )
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=["W1", "W2", "W2s"])
    parser.add_argument(
        "--targets", type=_names(TARGETS), default=["jupyter", "teleportal-2", "floor"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="per measurement")
    parser.add_argument("--documents", type=int, default=Options.documents, help="of W4")
    parser.add_argument("--megabytes", type=int, default=Options.megabytes, help="of W5")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the servers under test"
    )
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help="where npm packages are installed"
    )
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    return parser.parse_args(arguments)


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser of lists of names, with commas between them."""

    def split(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; known: {', '.join(known)}"
            )
        return names

    return split


async def measure(chosen: argparse.Namespace) -> Results:
    """Run what was chosen; what there is when it is interrupted counts."""
    options = Options(
        seconds=chosen.seconds,
        documents=chosen.documents,
        megabytes=chosen.megabytes,
        seed=chosen.seed,
    )
    results = Results(versions(chosen.python, []), options_of(options, chosen.rounds))
    task = asyncio.ensure_future(
        run_all(
            chosen.workloads,
            chosen.targets,
            options,
            rounds=chosen.rounds,
            python=chosen.python,
            cache=chosen.cache,
            results=results,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print("interrupted", file=sys.stderr)
    return results


def main() -> None:
    chosen = parse(sys.argv[1:])
    # Servers and load generator inherit it: thousands of clients are as many sockets.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results = asyncio.run(measure(chosen))
    if chosen.out is not None:
        results.write(chosen.out)
    print("\n".join(tables(results)))


if __name__ == "__main__":
    main()
