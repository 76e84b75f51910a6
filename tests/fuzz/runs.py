"""Runs targets in processes of their own, and says what they have found."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GUIDED = importlib.util.find_spec("atheris") is not None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `problem` is empty if no promise was broken; `inputs` are those that broke
    one."""

    problem: str
    inputs: list[bytes]
    said: str


def run(target: str, seconds: float, seed: int = 1, *, guided: bool = GUIDED) -> Outcome:
    """Fuzz one target in a process of its own."""
    return _run(target, seconds, seed, "guided" if guided else "mutated")


def run_again(target: str, inputs: list[bytes]) -> Outcome:
    """Give a target these inputs, in a process of its own."""
    return _run(target, 0, 0, "again", inputs)


def _run(
    target: str, seconds: float, seed: int, kind: str, inputs: Sequence[bytes] = ()
) -> Outcome:
    root = HERE.parents[1]
    paths = [str(root), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RUST_BACKTRACE": "0"}
    with tempfile.TemporaryDirectory() as folder:
        for index, data in enumerate(inputs):
            (Path(folder) / f"found-{index:04}").write_bytes(data)
        command = [sys.executable, "-m", "fuzz.child", target, str(seconds), str(seed), folder]
        try:
            done = subprocess.run(
                [*command, kind],
                capture_output=True, text=True, errors="replace",
                timeout=seconds + 60, env=environment,
            )  # fmt: skip
            ended = "" if done.returncode == 0 else f"ended with {done.returncode}"
            said = done.stdout + done.stderr
        except subprocess.TimeoutExpired as error:
            ended, said = "did not end", str(error.stderr)
        broke = [path.read_bytes() for path in sorted(Path(folder).glob("found-*"))]
    return Outcome(f"{target} {ended}" if ended or broke else "", broke, said)
