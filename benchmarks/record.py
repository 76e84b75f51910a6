"""Everything that the documentation shows: ``python -m benchmarks.record FOLDER``, about an hour.

Each set of workloads leaves a folder with its results, their tables and a plot of each workload.
A set that is there already is not measured again, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SETS = {
    "typing": (
        *("--workloads", "W1,W3", "--rounds", "3", "--seconds", "5"),
        *("--targets", "teleportal-2,jupyter,hocuspocus-2,y-websocket,pycrdt,floor"),
    ),
    "load": (
        *("--workloads", "W2,W2s", "--rounds", "3", "--seconds", "5", "--targets"),
        "teleportal-2,teleportal-1,jupyter,hocuspocus-2,y-websocket,pycrdt,floor",
    ),
    "many": (
        *("--workloads", "W4", "--rounds", "2"),
        *("--targets", "teleportal-2,hocuspocus-2,floor"),
    ),
    "many-jupyter": ("--workloads", "W4", "--rounds", "1", "--targets", "jupyter"),
    "many-2000": (
        *("--workloads", "W4", "--rounds", "1"),
        *("--documents", "2000", "--targets", "teleportal-2"),
    ),
    "big": (
        *("--workloads", "W5,W5p", "--rounds", "2"),
        *("--targets", "teleportal-2,jupyter,hocuspocus-2"),
    ),
    "big-100": (
        *("--workloads", "W5p", "--rounds", "2", "--megabytes", "100"),
        *("--targets", "teleportal-2,jupyter"),
    ),
    "join": (
        *("--workloads", "W6", "--rounds", "1"),
        *("--targets", "teleportal-2,jupyter,hocuspocus-2,y-websocket,pycrdt,floor"),
    ),
    "growth": ("--workloads", "W7h,W7s,W7b", "--rounds", "1", "--targets", "teleportal-2"),
    "servers": (
        *("--workloads", "W7c", "--rounds", "1", "--targets"),
        "teleportal-1,teleportal-2,teleportal-3,teleportal-4,hocuspocus-2,hocuspocus-3,hocuspocus-4",
    ),
    "start": (
        *("--workloads", "W8", "--rounds", "9"),
        *("--targets", "teleportal-local,teleportal-1,jupyter"),
    ),
}
"""The arguments of ``python -m benchmarks`` for each set."""


def record(folder: Path) -> None:
    """Measure and plot whatever is not there yet."""
    for name, arguments in SETS.items():
        results = folder / name / "results.json"
        if not results.exists():
            results.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "benchmarks", *arguments, "--out", str(results)]
            tables = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results.with_name("tables.txt").write_text(tables)
        plot = [sys.executable, "-m", "benchmarks.plot", str(results), str(results.parent)]
        subprocess.run(plot, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)


if __name__ == "__main__":
    main()
