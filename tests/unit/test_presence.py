"""What of a user may be seen in a share."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.jupyter.presence import visible_state

SHARES = Shares({"shared": "team1", "other": "team2"})
USER = {"username": "ann"}


def test_who_somebody_is_and_what_they_have_open_in_the_share() -> None:
    state = {
        "user": USER,
        "current": "notebook:RTC:shared/plan.ipynb",
        "documents": ["shared/plan.ipynb", "RTC:shared/notes.txt", "private.ipynb", "other/x"],
        "mood": "secret",
    }
    assert visible_state(SHARES, "team1", state) == {
        "user": USER,
        "current": "notebook:RTC:shared/plan.ipynb",
        "documents": ["shared/plan.ipynb", "RTC:shared/notes.txt"],
    }


@pytest.mark.parametrize(
    "path", ["private.ipynb", "other/plan.ipynb", "x:shared/secret.ipynb", "shared/../secret.ipynb"]
)
def test_what_lies_outside_is_not_seen(path: str) -> None:
    state = {"user": USER, "current": f"notebook:RTC:{path}", "documents": [path, f"RTC:{path}"]}
    assert visible_state(SHARES, "team1", state) == {"user": USER, "documents": []}


@pytest.mark.parametrize("state", [5, "text", None, [], {"documents": 7, "current": {}}])
def test_a_state_of_another_form_shows_nothing(state: Any) -> None:
    assert visible_state(SHARES, "team1", state) == {}
