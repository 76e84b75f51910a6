"""What came out of a run, with the versions of what was measured, in a file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .load.job import Options, Outcome

FORMAT = 1
_PACKAGES = (
    "jupyter-teleportal-core",
    "jupyter-collaboration",
    "jupyter-server",
    "jupyter-server-ydoc",
    "jupyter-ydoc",
    "pycrdt",
    "pycrdt-store",
    "pycrdt-websocket",
    "redis",
    "tornado",
    "uvloop",
    "websockets",
)
_ASK_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass
class Run:
    """One round of one workload on one target."""

    workload: str
    target: str
    round: int
    figures: dict[str, float]
    busy: float
    problems: list[str]
    notes: list[str]


@dataclass
class Results:
    """All runs of one call, and what they ran on."""

    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def add(self, workload: str, target: str, round: int, outcome: Outcome) -> Run:
        run = Run(
            workload,
            target,
            round,
            outcome.figures,
            outcome.busy,
            outcome.problems,
            outcome.notes,
        )
        self.runs.append(run)
        return run

    def of(self, workload: str, target: str) -> list[Run]:
        return [run for run in self.runs if (run.workload, run.target) == (workload, target)]

    def workloads(self) -> list[str]:
        """In the order in which they ran."""
        return list(dict.fromkeys(run.workload for run in self.runs))

    def targets(self, workload: str) -> list[str]:
        """In the order in which they ran."""
        return list(dict.fromkeys(run.target for run in self.runs if run.workload == workload))

    def medians(self, workload: str, target: str) -> dict[str, float]:
        """The median over the rounds of each figure; rounds that lack it do not count."""
        runs = self.of(workload, target)
        keys = dict.fromkeys(key for run in runs for key in run.figures)
        return {
            key: statistics.median(run.figures[key] for run in runs if key in run.figures)
            for key in keys
        }

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def read(path: Path) -> Results:
    """Read what `Results.write` has written.

    Raises:
        ValueError: if the file is of another format.
    """
    content = json.loads(path.read_text())
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}")
    runs = [Run(**run) for run in content.pop("runs")]
    return Results(runs=runs, **content)


def versions(python: str, packages: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the versions of everything that takes part, and how many CPUs there are.

    Args:
        python: the servers' interpreter.
        packages: what targets say of themselves.
    """
    command = [python, "-c", _ASK_VERSIONS, *_PACKAGES]
    found: dict[str, str] = json.loads(subprocess.check_output(command))
    for mapping in packages:
        found |= mapping
    for program, argument in (("redis-server", "--version"), ("node", "--version")):
        version = _program_version(program, argument)
        if version:
            found[program] = version
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["CPUs"] = str(os.cpu_count())
    return found


def _program_version(program: str, argument: str) -> str:
    try:
        answer = subprocess.check_output([program, argument], text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    words = answer.split()
    for word in words:
        if word.startswith("v=") or word[:1] == "v":
            return word.removeprefix("v=").lstrip("v")
    return words[0] if words else ""


def options_of(options: Options, rounds: int) -> dict[str, Any]:
    return {"rounds": rounds, **asdict(options)}
