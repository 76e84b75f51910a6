"""What must hold. The judgements are pure, so that a test can show that each of them can fail."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from support.server_logs import errors_in

from .tabs import END, Typed

if TYPE_CHECKING:
    from .world import World

# What the servers say on purpose while the faults of this run last; each with its reason.
EXPECTED = (
    "The document could not be saved",  # the file is away, or Redis is
    "Error opening file",  # upstream, which watches a file that another program has taken away
    "No such file or directory",
    "File does not exist",
    "does not exist",
    "Error reading file",
    "Stopped polling",
    "is not UTF-8",
    "Error watching file",
    "No space left on device",  # upstream's contents manager, besides what is told
    "Read-only file system",
)
# What runs in a server as long as that runs: upstream's, the heartbeat and the connection to Redis.
STANDING = (
    "JupyterWebsocketServer._monitor",
    "WebsocketServer.start",
    "EventAdapter.wait",
    "teleportal-heartbeat",
    "teleportal-redis",
    "RedisClient._ping",
    "RedisClient._read_channels",
    "RedisClient._read_replies",
    "RedisClient._watch_commands",
)
POLL_SECONDS = 0.05
COPY_SECONDS = 1.0
# Numbers of the people in them, from the first on and below the last; browsers draw their own from
# four billion.
CROWD = 10_000
CROWDS = range(5_000_000, 5_050_000, CROWD)
DEAR_CROWDS = (CROWDS[1], CROWDS[-1] + CROWD)


def tokens_wrong(
    typed: Iterable[Typed],
    deleted: set[str],
    documents: Mapping[str, Mapping[str, str]],
    copies: str = "",
    lenient: Sequence[str] = (),
) -> list[str]:
    """What was typed and is not there exactly once.

    Args:
        typed: all that was typed.
        deleted: the tokens that their author has deleted.
        documents: the text of each document on each replica.
        copies: the text of all conflict copies.
        lenient: documents that other programs write; their tokens may be in a copy instead.
    """
    wrong: dict[tuple[str, str, str, str], list[Typed]] = {}
    for one in typed:
        for replica, text in documents[one.document].items():
            count = text.count(one.token)
            gone = one.token in deleted
            if count == (0 if gone else 1):
                continue
            if count == 0 and one.document in lenient and one.token in copies:
                continue
            what = ("deleted and " if gone else "") + (f"there {count} times" if count else "lost")
            wrong.setdefault((one.document, replica, what, one.tab), []).append(one)
    return [
        f"{document} on {replica}: {what}: {len(found)} edits of {tab}, from {found[0].token} "
        f"(typed on {found[0].server} at {clock(found[0].at)}) to {found[-1].token} (on "
        f"{found[-1].server} at {clock(found[-1].at)})"
        for (document, replica, what, tab), found in wrong.items()
    ]


def crowds_wrong(authors: Mapping[str, Iterable[int]]) -> list[str]:
    """Where forged crowds were let in that the CRDT library takes long to merge.

    Args:
        authors: who has ever changed the document of each tab, as the library numbers them.
    """
    problems = []
    for tab, numbers in authors.items():
        some = sum(DEAR_CROWDS[0] <= number < DEAR_CROWDS[1] for number in numbers)
        if some:
            problems.append(f"{some} of a forged crowd were let into the document of {tab}")
    return problems


def clock(at: float) -> str:
    """Seconds since the epoch as the servers' logs have them."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def saves_wrong(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Writes of one file by two processes that overlap, or that wipe out what the writer had not
    seen."""
    problems = []
    last: dict[str, Mapping[str, Any]] = {}
    for line in sorted(lines, key=lambda line: line["start"]):
        before = last.get(line["path"])
        what = f"{line['path']} by process {line['pid']} at {clock(line['start'])}"
        if before is not None and before["end"] > line["start"] and before["pid"] != line["pid"]:
            problems.append(f"two savers at once: {what}, and by {before['pid']}")
        if line["believed"] and line["before"] and line["believed"] != line["before"]:
            problems.append(f"written over what the saver had not seen: {what}")
        last[line["path"]] = line
    return problems


def file_wrong(path: Path, text: str) -> str | None:
    """Why `text` is not a whole, valid file."""
    if path.suffix == ".ipynb":
        try:
            nbformat.validate(nbformat.reads(text, as_version=4))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is no notebook)
            return f"{path.name} is no notebook: {type(error).__name__} {str(error)[:200]}"
    elif not text.rstrip("\n").endswith(END):
        return f"{path.name} is torn: it ends with {text[-80:]!r}"
    return None


class Watcher:
    """Reads the files all the time."""

    def __init__(
        self, paths: Sequence[Path], may_be_torn: Callable[[], bool] = lambda: False
    ) -> None:
        self._paths = paths
        self._may_be_torn = may_be_torn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.problems: list[str] = []
        self.reads = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        seen: dict[Path, bytes] = {}
        while not self._stop.wait(POLL_SECONDS):
            for path in self._paths:
                try:
                    raw = path.read_bytes()
                except FileNotFoundError:
                    continue
                self.reads += 1
                if raw == seen.get(path):
                    continue
                seen[path] = raw
                problem = file_wrong(path, raw.decode(errors="replace"))
                if problem is not None and self._may_be_torn():
                    problem = self._soon_wrong(path)
                if problem is not None:
                    self.problems.append(f"at {clock(time.time())}: {problem}")

    def _soon_wrong(self, path: Path) -> str | None:
        """Why the file is not whole within the time that a copy takes."""
        end = time.monotonic() + COPY_SECONDS
        while True:
            try:
                text = path.read_bytes().decode(errors="replace")
            except FileNotFoundError:
                return None
            problem = file_wrong(path, text)
            if problem is None or time.monotonic() > end:
                return problem
            time.sleep(POLL_SECONDS)


def log_wrong(name: str, text: str, allowed: Sequence[str] = EXPECTED) -> list[str]:
    """The errors in a server's log that nobody expects."""
    errors = errors_in(text, allowed)
    if "Task exception was never retrieved" in text:
        errors.append("a task's exception was never retrieved")
    # The same but for its time and numbers is the same.
    kinds = Counter(re.sub(r"[0-9a-f]{6,}|\d+", "…", error) for error in errors)
    return [f"{name} logs {count} times: {error[:300]}" for error, count in kinds.items()]


def leftovers_wrong(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], *, memory: int
) -> list[str]:
    """Tasks, descriptors and memory (in bytes) beyond what there was at the start."""
    problems = []
    more = Counter(after["tasks"]) - Counter(before["tasks"])
    for name_of_task in list(more):
        if name_of_task.endswith(STANDING) and after["tasks"].count(name_of_task) == 1:
            del more[name_of_task]
    if more:
        problems.append(f"{name} has tasks left over: {dict(more)}")
    if after["descriptors"] > before["descriptors"] + 5:
        problems.append(
            f"{name} has {after['descriptors']} descriptors, {before['descriptors']} at its start"
        )
    if after["rss"] > before["rss"] + memory:
        problems.append(
            f"{name} uses {after['rss'] / 1e6:.0f} MB, {before['rss'] / 1e6:.0f} MB at its start"
        )
    return problems


def read_saves(path: Path) -> list[dict[str, Any]]:
    """The lines of the save log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def documents_of(world: World) -> dict[str, dict[str, str]]:
    """The text of each document in each tab."""
    found: dict[str, dict[str, str]] = {}
    for tab in (*world.typists, *world.readers):
        found.setdefault(tab.file, {})[tab.name] = tab.whole_text
    return found
