"""What a target is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from ..load.door import Scene


@dataclass(frozen=True)
class Setting:
    """What a target gets.

    Attributes:
        folder: where it may put whatever it needs; removed afterwards.
        python: the interpreter for its servers.
        cache: where packages from registries are installed; kept.
    """

    folder: Path
    python: str
    cache: Path


class Target(ABC):
    """Something to measure: one or several servers, with what they need.

    `stop` has to be called whatever `start` did, and may be called twice.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    async def start(self) -> Scene:
        """Start everything and wait until it answers.

        Raises:
            AssertionError: with the end of a log, if something does not start.
        """

    @abstractmethod
    def stop(self) -> None:
        """End every process at once."""

    def packages(self) -> dict[str, str]:
        """Versions of what is measured, beyond Python's packages."""
        return {}
