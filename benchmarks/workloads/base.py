"""What a workload is, and what all of them need."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..load.door import Scene
from ..load.job import Options, Outcome
from ..load.usage import TOO_BUSY


@dataclass(frozen=True)
class Figure:
    """One number that a workload measures.

    Attributes:
        key: its name in results.
        label: its name in tables, with the unit.
        more_is_better: which way is better.
        digits: digits after the point in tables.
        ratio: whether a ratio of two targets says anything.
        family: what is measured, for one of several figures at growing values of something; the
            label is that value then.
        at: that value.
        at_unit: what it counts.
    """

    key: str
    label: str
    more_is_better: bool = False
    digits: int = 2
    ratio: bool = True
    family: str = ""
    at: float = 0.0
    at_unit: str = ""


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Attributes:
        name: as on the command line.
        title: what is done, in a line.
        figures: what is measured.
        run: does it, in the load generator's process.
        not_on: targets for which it makes no sense.
        fits: whether it makes sense for a target, by the target's name.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    run: Callable[[Scene, Options], Coroutine[Any, Any, Outcome]]
    not_on: tuple[str, ...] = ()
    fits: Callable[[str], bool] = lambda target: True


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that at least `percent` of them do not exceed."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def note_busy(outcome: Outcome) -> None:
    """Say so where the load generator may be what was measured."""
    if outcome.busy > TOO_BUSY:
        outcome.notes.append(f"the load generator was busy {outcome.busy:.0%} of the time")
