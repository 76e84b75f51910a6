"""Complaints: what is wrong, told to the log once until it is well again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..core.log_effects import Problem, Quarantined

SAID_MAX = 20
"""So many different things are said of one subject before it is well again."""


@dataclass
class Complaint:
    """Something that is wrong, as told to the log.

    Attributes:
        message: what it means for the user, as last met.
        said: what of it the log has been told.
        count: how often it was met since it was last well.
        last: when it was last met, in seconds since the epoch.
    """

    message: str
    said: set[str] = field(default_factory=set)
    count: int = 0
    last: float = 0.0


class Complaints(Mapping[str, Complaint]):
    """What is wrong now, by subject.

    Attributes:
        counters: how often something was passed over or went wrong, by name.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.counters: Counter[str] = Counter()
        self._log = log
        self._now: dict[str, Complaint] = {}

    def __getitem__(self, subject: str) -> Complaint:
        return self._now[subject]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def complain(
        self,
        subject: str,
        message: str,
        error: BaseException | None = None,
        *,
        told: bool = False,
    ) -> bool:
        """Count that something is wrong, and log it unless the same has been said of `subject`
        since that was last well; return whether it was news.

        Args:
            subject: a counter's name; after a space, which one of its kind it is about.
            message: what happened, and what that means for the user.
            error: an error that nobody expected, for the log to show whole.
            told: the log has been told by whoever noticed.
        """
        self.counters[subject.split(" ")[0]] += 1
        complaint = self._now.setdefault(subject, Complaint(message))
        complaint.message = message
        news = message not in complaint.said and len(complaint.said) < SAID_MAX
        if news:
            complaint.said.add(message)
        if news and not told:
            level = logging.WARNING if error is None else logging.ERROR
            self._log.log(level, "%s", message, exc_info=error)
        complaint.count += 1
        complaint.last = time.time()
        return news

    def settle(self, subject: str) -> None:
        """`subject` is well again, so its next complaint is news."""
        self._now.pop(subject, None)

    def forget_room(self, room: str) -> None:
        """The room is closed here; what was wrong with it is nobody's business any more."""
        for subject in [subject for subject in self._now if subject.endswith(f" {room}")]:
            del self._now[subject]


class RoomComplaints:
    """What is wrong with one room."""

    def __init__(self, complaints: Complaints, room: str | None) -> None:
        self._complaints = complaints
        self._room = room

    def complain(self, message: str) -> None:
        """Something is wrong until the room is well again."""
        self._complaints.complain(f"rooms {self._room}", f"Room {self._room}: {message}")

    def problem(self, problem: Problem | Quarantined) -> None:
        """There is something about an entry of the log."""
        if isinstance(problem, Problem):
            self.complain(problem.message)
        else:
            subject = f"quarantined {self._room}"
            self._complaints.complain(subject, f"Room {self._room}: {problem.message}")

    def fault(self, message: str, error: BaseException) -> None:
        """An error that nobody expected."""
        self._complaints.complain(f"errors {self._room}", f"Room {self._room}: {message}", error)

    def settle(self) -> None:
        """The room is well again."""
        self._complaints.settle(f"rooms {self._room}")

    def forget(self) -> None:
        """The room is closed here; what was wrong with it is nobody's business any more."""
        self._complaints.forget_room(self._room or "")
