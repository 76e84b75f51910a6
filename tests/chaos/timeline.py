"""What happened when."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LOG_LINE = re.compile(r"^\[(\w) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (\w+)\] (.*)$")


@dataclass(frozen=True)
class Event:
    """Something that happened `at` seconds since the epoch."""

    at: float
    who: str
    text: str


class Timeline:
    """Collects events, and prints them as they come unless it is to be quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.start = time.time()
        self.events: list[Event] = []
        self._quiet = quiet

    def note(self, who: str, text: str) -> None:
        self.events.append(Event(time.time(), who, text))
        if not self._quiet:
            print(f"{time.time() - self.start:7.2f}  {who:<9} {text}", flush=True)

    def story(self, logs: Iterable[tuple[str, Path]] = ()) -> str:
        """All events and the lines of these log files, in the order of time."""
        events = list(self.events)
        for name, path in logs:
            if path.exists():
                events += log_events(name, path.read_text(errors="replace"))
        return "\n".join(
            f"{event.at - self.start:7.2f} {datetime.fromtimestamp(event.at):%H:%M:%S} "
            f"{event.who:<9} {event.text}"
            for event in sorted(events, key=lambda event: event.at)
        )


def log_events(name: str, text: str) -> list[Event]:
    """The lines of a Jupyter server's log, tracebacks with the line before them."""
    events: list[Event] = []
    for line in text.splitlines():
        found = _LOG_LINE.match(line)
        if found is not None:
            level, stamp, _, message = found.groups()
            at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").timestamp()
            events.append(Event(at, name, f"[{level}] {message}"))
        elif events:
            last = events[-1]
            events[-1] = Event(last.at, last.who, f"{last.text}\n{'':>19}{line}")
    return events
