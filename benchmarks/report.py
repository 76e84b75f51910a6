"""Tables of results: ratios first, then the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .results import Results
from .workloads import WORKLOADS, Figure

OURS = "teleportal-"


def tables(results: Results) -> Iterator[str]:
    """Yield the lines of all tables, in Markdown."""
    for name in results.workloads():
        workload = WORKLOADS[name]
        targets = results.targets(name)
        medians = {target: results.medians(name, target) for target in targets}
        yield f"## {name}: {workload.title}"
        yield ""
        figures = [
            figure
            for figure in workload.figures
            if any(figure.key in found for found in medians.values())
        ]
        busy = {
            target: max((run.busy for run in results.of(name, target)), default=0.0)
            for target in targets
        }
        for family in dict.fromkeys(figure.family for figure in figures):
            yield from _family(
                family, [figure for figure in figures if figure.family == family], medians, busy
            )
        yield from _remarks(results, name, targets)


def _family(
    family: str,
    figures: Sequence[Figure],
    medians: dict[str, dict[str, float]],
    busy: dict[str, float],
) -> Iterator[str]:
    """The tables of figures that belong together."""
    if family:
        yield f"### {family}, by {figures[0].at_unit}"
        yield ""
    ratios = list(_ratios([figure for figure in figures if figure.ratio], medians))
    if ratios:
        yield "Ratios (✓ better than the other, ✗ worse)"
        yield ""
        yield from ratios
        yield ""
    header = ["target", *(figure.label for figure in figures), "load generator busy"]
    rows = [
        [
            target,
            *(_number(found.get(figure.key), figure.digits) for figure in figures),
            f"{busy[target]:.0%}",
        ]
        for target, found in medians.items()
        if any(figure.key in found for figure in figures)
    ]
    yield from _table(header, rows)
    yield ""


def _ratios(figures: Sequence[Figure], medians: dict[str, dict[str, float]]) -> Iterator[str]:
    rows = []
    for ours in medians:
        if not ours.startswith(OURS):
            continue
        for other in medians:
            if other.startswith(OURS):
                continue
            cells = [_ratio(figure, medians[ours], medians[other]) for figure in figures]
            if any(cells):
                rows.append([f"{ours} / {other}", *cells])
    if rows:
        yield from _table(["", *(figure.label for figure in figures)], rows)


def _ratio(figure: Figure, ours: dict[str, float], other: dict[str, float]) -> str:
    a, b = ours.get(figure.key, math.nan), other.get(figure.key, math.nan)
    if math.isnan(a) or math.isnan(b) or not b:
        return ""
    ratio = a / b
    better = ratio >= 1 if figure.more_is_better else ratio <= 1
    return f"{ratio:.2f} {'✓' if better else '✗'}"


def _remarks(results: Results, workload: str, targets: Sequence[str]) -> Iterator[str]:
    """What the runs had to say, each thing once with its rounds."""
    rounds: dict[tuple[str, str, str], list[str]] = {}
    for target in targets:
        for run in results.of(workload, target):
            for kind, texts in (("problem", run.problems), ("note", run.notes)):
                for text in texts:
                    rounds.setdefault((kind, target, text), []).append(str(run.round))
    for (kind, target, text), numbers in rounds.items():
        yield f"- {kind}: {target}, round {', '.join(numbers)}: {text}"
    if rounds:
        yield ""


def _number(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,.{digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(aligned) + " |"

    yield line(header)
    yield line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for row in rows:
        yield line(row)
