"""Random schedules of everything between the keystroke and the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import sync

from .contents import KINDS
from .schedule import KEYS, PAUSES_S, Step, carry_out

SCHEDULES = int(os.environ.get("JUPYTER_TELEPORTAL_SCHEDULES", "10000"))
SEED = 2026
"""The same schedules each time; `python -m tests.simulation` looks for others."""
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_whatever_happens_nothing_is_lost() -> None:
    run = subprocess.run(
        (
            *(sys.executable, "-m", "tests.simulation"),
            *("--schedules", str(SCHEDULES), "--seed", str(SEED)),
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{SCHEDULES} schedules in " in run.stdout


def wait(seconds: float) -> Step:
    return Step("wait", 0, PAUSES_S.index(seconds))


A, B, C = range(3)
# An update with an item below a root whose name is no UTF-8.
NO_TEXT = bytes.fromhex("01010500040102fffe017900")
STORIES = {
    "a seed comes after the document was opened alone": [
        wait(0.05),
        Step("cut all"),
        wait(0.05),
        Step("outside"),
        wait(0.5),
    ],
    "opened alone from a file that had changed, and saved": [
        wait(0.0),
        Step("cut", A),
        wait(0.05),
        Step("cut all"),
        Step("outside"),
        wait(0.05),
        Step("type", B),
        wait(4.0),
    ],
    "frozen between asking for the document and seeding it": [
        wait(0.5),
        Step("freeze", B),
        wait(0.05),
        Step("empty the hub"),
        Step("type", A),
        Step("cut all"),
        Step("outside"),
    ],
    "seeded anew while all who hold it are cut off": [
        wait(1.5),
        Step("type", A),
        Step("cut", A),
        Step("cut", B),
        Step("empty the hub"),
        Step("start", C, 1),
        Step("outside"),
        wait(1.5),
    ],
    "a frozen saver wakes when its successor's save is forgotten": [
        wait(4.0),
        Step("type", A),
        wait(0.05),
        Step("type", B),
        Step("freeze", A),
        wait(9.0),
        Step("empty the hub"),
    ],
    "the file changes again while the others are asked": [
        wait(0.05),
        Step("empty the hub"),
        Step("outside"),
        Step("save", A),
        wait(0.05),
        Step("cut", A),
        Step("outside"),
    ],
    "opened alone from a file that had changed, saved, and found by who holds the log": [
        wait(0.05),
        Step("start", C, 3),
        Step("outside"),
        wait(0.05),
        Step("type", C),
        Step("cut", A),
        wait(4.0),
    ],
    "two that cannot know of each other save at once": [
        Step("start", C, 3),
        wait(4.0),
        Step("type", A),
        Step("type", C),
        Step("cut all"),
        wait(4.0),
    ],
    "a change from outside is taken over by one who is cut off right then": [
        Step("slow", A),
        wait(0.05),
        Step("type", B),
        Step("cut all"),
        wait(4.0),
        Step("heal all"),
        Step("outside"),
        Step("cut all"),
        wait(0.0),
    ],
    "the file changes while it is opened during an outage": [
        wait(0.05),
        Step("type", A),
        Step("cut all"),
        wait(4.0),
        Step("start", C, 3),
        Step("outside"),
        wait(0.05),
    ],
    "a log is trimmed past one who is cut off": [
        wait(0.05),
        Step("cut", B),
        Step("outside"),
        wait(1.5),
        Step("trim the log", 0, 1),
    ],
    "the log has lost what was saved, and nobody who lives has it": [
        wait(1.5),
        Step("type", A),
        wait(4.0),
        Step("kill", A),
        Step("kill", B),
        Step("lose the log's end", 0, 4),
        Step("start", C, 1),
        wait(9.0),
        Step("type", C),
    ],
    "saved by one who is gone, and a failover forgets that": [
        wait(0.05),
        Step("copy the hub"),
        Step("type", A),
        Step("stop", A, 1),
        Step("type", B),
        Step("roll back the hub"),
    ],
    "a checkpoint is written while an edit is on its way, which is lost with its server": [
        wait(1.5),
        Step("refuse", A, 1),
        Step("type", A),
        Step("checkpoint", A),
        wait(0.05),
        Step("kill", A),
        Step("start", C, 1),
    ],
    "stopped while it looks at the file over a slow network": [
        wait(1.5),
        Step("outside"),
        Step("stop", A),
        Step("slow", B),
        Step("stop", B),
    ],
    "typed and stopped while the other one sleeps": [
        wait(0.05),
        Step("type", B),
        Step("freeze", A),
        Step("stop", B, 1),
    ],
    "one that never came to open it is healed": [
        Step("freeze", A),
        wait(9.0),
        Step("rename", B, 2),
        Step("type", B),
    ],
    "another program changes what somebody types in right then": [
        wait(1.5),
        Step("type", B, 1),
        wait(4.0),
        Step("outside", 0, 1),
        Step("type", B, 1),
        wait(4.0),
    ],
    "a client sends a name that is no text": [
        wait(1.5),
        Step("type", A),
        Step("send", A, 0, sync(2, NO_TEXT)),
        Step("type", A),
        wait(4.0),
    ],
    "somebody puts a name that is no text into the log": [
        wait(1.5),
        Step("type", A),
        Step("forge", 0, 1, NO_TEXT),
        Step("type", B),
        wait(4.0),
    ],
    **{
        f"the key of the {key} is of another kind for a while": [
            wait(1.5),
            Step("type", A),
            Step("another kind of key", 0, 1 + number),
            Step("type", A),
            Step("type", B),
            wait(9.0),
            Step("type", B),
            wait(9.0),
        ]
        for number, key in enumerate(KEYS)
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("story", STORIES)
def test_what_was_found_once(story: str, kind: str) -> None:
    carry_out(STORIES[story], kind)
