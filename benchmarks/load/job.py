"""What the load generator is asked to do, and what it answers; plain values that are pickled."""

from __future__ import annotations

from dataclasses import dataclass, field

from .door import Scene


@dataclass(frozen=True)
class Options:
    """How long and how much; short by default.

    Attributes:
        seconds: how long each measurement takes.
        documents: documents of W4.
        megabytes: size of W5's notebook.
        seed: makes random numbers the same each time.
        timeout: seconds that a client waits to get in, and for the last edits to arrive.
    """

    seconds: float = 10.0
    documents: int = 300
    megabytes: int = 10
    seed: int = 1
    timeout: float = 30.0


@dataclass(frozen=True)
class Job:
    """One run of one workload, by its name, on one target."""

    workload: str
    scene: Scene
    options: Options


@dataclass
class Outcome:
    """What one run measured.

    Attributes:
        figures: by key, in the units that the workload names.
        busy: CPU seconds per second of the load generator while it measured.
        problems: what did not go as it should; with one the figures are not to be trusted.
        notes: what else is worth knowing.
    """

    figures: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
