"""Plots of a file of results: ``python -m benchmarks.plot results.json FOLDER``, one per workload.

Bars for figures that stand alone, lines for those that were measured at growing values.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from .report import OURS
from .results import Results, read
from .workloads import WORKLOADS, Figure

COLOURS = {
    "teleportal-1": "#f7b267",
    "teleportal-2": "#e4572e",
    "teleportal-3": "#b23a1e",
    "teleportal-4": "#7a2812",
    "teleportal-local": "#f4d6a0",
    "jupyter": "#4c78a8",
    "hocuspocus-2": "#54a24b",
    "hocuspocus-3": "#3d7a36",
    "hocuspocus-4": "#285224",
    "y-websocket": "#b279a2",
    "pycrdt": "#72b7b2",
    "floor": "#9d9d9d",
}
_OTHERS = "#bab0ac"
_PANEL_INCHES = (3.4, 3.0)
_MOST_IN_A_ROW = 3
_LOGARITHMIC_ABOVE = 30.0
"""Figures that lie further apart than this are drawn on a logarithmic scale."""

# The same file each time: no date, no random ids, and text stays text.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 8})


def plot(results: Results, workload: str, path: Path) -> None:
    """Write the plot of one workload as SVG."""
    targets = sorted(results.targets(workload), key=_order)
    medians = {target: results.medians(workload, target) for target in targets}
    figures = [
        figure
        for figure in WORKLOADS[workload].figures
        if (figure.ratio or figure.family)
        and any(not math.isnan(found.get(figure.key, math.nan)) for found in medians.values())
    ]
    families = list(dict.fromkeys(figure.family for figure in figures if figure.family))
    alone = [figure for figure in figures if not figure.family]
    panels = len(families) + len(alone)
    if not panels:
        return
    columns = min(panels, _MOST_IN_A_ROW)
    rows = math.ceil(panels / columns)
    width, height = _PANEL_INCHES
    canvas = Canvas(figsize=(columns * width, rows * height + 0.4), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False).flatten()
    canvas.suptitle(f"{workload}: {WORKLOADS[workload].title}", fontsize=9)
    for panel, figure in zip(axes, alone, strict=False):
        _bars(panel, figure, medians)
    for panel, family in zip(axes[len(alone) :], families, strict=False):
        _lines(panel, [figure for figure in figures if figure.family == family], medians)
    for panel in axes[panels:]:
        panel.set_visible(False)
    canvas.savefig(path, format="svg", metadata={"Date": None})


def _order(target: str) -> tuple[bool, str]:
    return not target.startswith(OURS), target


def _colour(target: str) -> str:
    return COLOURS.get(target, _OTHERS)


def _scale(values: Sequence[float]) -> str:
    positive = [value for value in values if value > 0]
    apart = positive and max(positive) / min(positive) > _LOGARITHMIC_ABOVE
    return "log" if apart else "linear"


def _bars(panel: Any, figure: Figure, medians: dict[str, dict[str, float]]) -> None:
    values = {
        target: found[figure.key]
        for target, found in medians.items()
        if not math.isnan(found.get(figure.key, math.nan))
    }
    names = list(values)
    bars = panel.barh(names, list(values.values()), color=[_colour(name) for name in names])
    panel.bar_label(
        bars, [f"{value:,.{figure.digits}f}" for value in values.values()], padding=2, fontsize=7
    )
    panel.set_xscale(_scale(list(values.values())))
    panel.margins(x=0.2)
    panel.invert_yaxis()
    better = "more" if figure.more_is_better else "less"
    panel.set_title(f"{figure.label} ({better} is better)", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _lines(panel: Any, figures: Sequence[Figure], medians: dict[str, dict[str, float]]) -> None:
    drawn: list[float] = []
    for target, found in medians.items():
        points = [(figure.at, found[figure.key]) for figure in figures if figure.key in found]
        if points:
            drawn += [value for _, value in points]
            panel.plot(*zip(*points, strict=True), "o-", color=_colour(target), label=target, ms=3)
    panel.set_xscale("log")
    panel.set_yscale(_scale(drawn))
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    panel.set_xlabel(figures[0].at_unit)
    better = "more" if figures[0].more_is_better else "less"
    panel.set_title(f"{figures[0].family} ({better} is better)", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = read(chosen.results)
    for workload in results.workloads():
        plot(results, workload, chosen.folder / f"{workload}.svg")


if __name__ == "__main__":
    main()
