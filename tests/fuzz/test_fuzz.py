"""A minute of fuzzing, and what longer runs have found before."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from fuzz.runs import GUIDED, HERE, run, run_again
from fuzz.targets import TARGETS

SECONDS = 4.0
WHEELS = (
    (3, 10) <= sys.version_info[:2] <= (3, 13)
    and sys.platform == "linux"
    and (platform.machine() == "x86_64")
)
"""Whether there are wheels of atheris for this Python."""


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_changed_at_random_breaks_no_promise(target: str) -> None:
    outcome = run(target, SECONDS, guided=False)
    assert not outcome.problem, f"{outcome.said[-2000:]}\n{[one.hex() for one in outcome.inputs]}"


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_found_by_coverage_breaks_no_promise(target: str) -> None:
    if not GUIDED:
        if WHEELS and os.environ.get("CI"):
            pytest.fail("atheris is not installed, for which there are wheels")
        pytest.skip("there is no atheris here: pip install atheris (Linux, x86_64)")
    outcome = run(target, SECONDS, guided=True)
    assert not outcome.problem, f"{outcome.said[-2000:]}\n{[one.hex() for one in outcome.inputs]}"


def found_before() -> dict[str, list[bytes]]:
    """The inputs of the corpus by their targets."""
    found: dict[str, list[bytes]] = {}
    for line in (HERE / "corpus" / "found.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            target, data = line.split()
            found.setdefault(target, []).append(bytes.fromhex(data))
    return found


@pytest.mark.parametrize(("target", "inputs"), found_before().items())
def test_what_was_found_before_breaks_no_promise(target: str, inputs: list[bytes]) -> None:
    outcome = run_again(target, inputs)
    assert not outcome.problem, f"{outcome.said[-2000:]}\n{[one.hex() for one in outcome.inputs]}"


def test_what_ends_its_process_is_told() -> None:
    outcome = run_again("nothing", [b"x"])
    assert outcome.problem
    assert outcome.inputs == [b"x"]
