"""What the documentation shows was measured with what measures it today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import parse
from benchmarks.record import SETS
from benchmarks.results import read
from benchmarks.workloads import WORKLOADS

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = DOCS / "performance"


def test_every_workload_is_recorded() -> None:
    recorded = [name for arguments in SETS.values() for name in parse(list(arguments)).workloads]
    assert set(recorded) == set(WORKLOADS)


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_results_shown_are_of_these_workloads_and_targets(name: str) -> None:
    chosen, results = parse(list(SETS[name])), read(SHOWN / name / "results.json")
    assert results.workloads() == chosen.workloads
    for workload in results.workloads():
        targets = [name for name in chosen.targets if WORKLOADS[workload].fits(name)]
        wanted = {name for name in targets if name not in WORKLOADS[workload].not_on}
        assert set(results.targets(workload)) == wanted
        for target in wanted:
            assert len(results.of(workload, target)) == chosen.rounds
        assert (SHOWN / name / f"{workload}.svg").exists()


def test_the_plots_that_the_page_shows_are_there() -> None:
    shown = re.findall(r"\]\((performance/[^)]*\.svg)\)", (DOCS / "performance.md").read_text())
    assert len(shown) >= len(WORKLOADS)
    assert [plot for plot in shown if not (DOCS / plot).exists()] == []
