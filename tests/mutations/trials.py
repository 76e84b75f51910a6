"""Runs tests on a copy of the package that is wrong in one place, and says how they end."""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from .patches import PACKAGE, Mutation, Unfit

ROOT = Path(__file__).parents[2]
START_S = 60
"""So long the tests may take to be found."""
TEST_S = 30
"""So long a test may take, unless it takes a fifth of that or more when nothing is wrong."""
SLOWER = 5


@dataclass
class Ran:
    """How tests ended: `passed`, `failed`, `hung` or `skipped`, and how long they took, by their
    names. `crashed`: the interpreter has not ended by itself."""

    outcomes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    crashed: bool = False
    output: str = ""

    def of(self, test: str) -> set[str]:
        """The outcomes of a test with all its parameters, or of a file."""
        return {
            outcome
            for name, outcome in self.outcomes.items()
            if name == test or name.startswith((f"{test}::", f"{test}["))
        }

    def longest(self, tests: Iterable[str]) -> float:
        """How long the longest of the `tests` took."""
        return max(
            (
                took
                for name, took in self.seconds.items()
                if any(name == test or name.startswith((f"{test}::", f"{test}[")) for test in tests)
            ),
            default=0.0,
        )


@dataclass(frozen=True)
class Trial:
    """What became of a mutation: `killed`, `survived`, `unfit`, or `invalid` if its tests say
    nothing; and why."""

    mutation: Mutation
    verdict: str
    why: str
    took_s: float = 0.0


class Copies:
    """Copies of the package, each in a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._pristine = folder / "pristine"
        self._folder = folder
        shutil.copytree(
            ROOT / PACKAGE, self._pristine / PACKAGE, ignore=shutil.ignore_patterns("__pycache__")
        )
        # Each copy takes this along, so that it need not be compiled again.
        compileall.compile_dir(self._pristine, quiet=2)

    @contextlib.contextmanager
    def one(self, mutation: Mutation | None = None) -> Iterator[Path]:
        """A folder with the package in it, mutated.

        Raises:
            Unfit: if the mutation cannot be applied.
        """
        copy = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            shutil.copytree(self._pristine, copy, dirs_exist_ok=True)
            if mutation is not None:
                mutation.apply(copy / PACKAGE)
                for block in mutation.blocks:
                    compiled = importlib.util.cache_from_source(str(copy / PACKAGE / block.file))
                    Path(compiled).unlink(missing_ok=True)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)


def run_tests(
    copy: Path, tests: Iterable[str], *, test_s: float, whole_s: float, processes: int = 0
) -> Ran:
    """Run tests on the package in the folder `copy`, each for `test_s` at most, all for `whole_s`.

    The working directory is `copy`, which `python -m` looks in first; what the tests start finds
    the copy by PYTHONPATH.
    """
    report = copy / "report.xml"
    paths = [str(copy), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": ""}
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"),
        *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
        *("-n", str(processes), "--timeout", f"{test_s:.0f}"),
        *("--junitxml", str(report), "-o", "junit_family=xunit1"),
        *(str(ROOT / test) for test in sorted(set(tests))),
    ]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=whole_s)
    except subprocess.TimeoutExpired:
        return Ran(dict.fromkeys(tests, "hung"))
    finally:
        # What a test that hangs has started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode not in (0, 1):
        return Ran(crashed=process.returncode < 0, output=output)
    ran = Ran(output=output)
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('file')}::{case.get('name')}"
        ran.seconds[name] = float(case.get("time") or 0)
        ran.outcomes[name] = _outcome(case)
    return ran


def _outcome(case: ElementTree.Element) -> str:
    for wrong in (*case.iterfind("failure"), *case.iterfind("error")):
        return "hung" if "Timeout (>" in (wrong.get("message") or "") else "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def sound(ran: Ran, tests: Iterable[str]) -> str:
    """Why the `tests` say nothing about mutations, because of how they end without any; nothing
    if they do."""
    for test in tests:
        outcomes = ran.of(test)
        if not outcomes:
            return f"{test} is not there"
        if outcomes & {"failed", "hung"}:
            return f"{test} fails without the mutation"
        if outcomes == {"skipped"}:
            return f"{test} is skipped"
    return ""


def try_out(copies: Copies, mutation: Mutation, test_s: float) -> Trial:
    """Apply a mutation to a copy and run its tests, each for `test_s` seconds at most."""
    began = time.monotonic()
    try:
        with copies.one(mutation) as copy:
            ran = run_tests(copy, mutation.tests, test_s=test_s, whole_s=START_S + 3 * test_s)
    except Unfit as error:
        return Trial(mutation, "unfit", str(error))
    took_s = time.monotonic() - began
    if ran.crashed:
        return Trial(mutation, "killed", "the interpreter crashes", took_s)
    if not ran.outcomes:
        last = ran.output.strip().rsplit("\n", 1)[-1]
        return Trial(mutation, "invalid", f"its tests cannot be run: {last}", took_s)
    for test in mutation.tests:
        if not ran.of(test) & {"failed", "hung"}:
            return Trial(mutation, "survived", f"{test} passes", took_s)
    wrong = [(name, how) for name, how in ran.outcomes.items() if how in ("failed", "hung")]
    said = ", ".join(f"{name}{' (hangs)' if how == 'hung' else ''}" for name, how in wrong[:3])
    return Trial(mutation, "killed", said, took_s)
