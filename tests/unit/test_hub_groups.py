"""Which shares the groups of a hub have: names, patterns, and what a function returns."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jupyter_teleportal.core.errors import SettingsError
from jupyter_teleportal.core.hub_groups import GroupShares, usable_shares


@pytest.mark.parametrize(
    ("entries", "groups", "shares"),
    [
        ({"g": "s"}, ["g", "other"], ["s"]),
        ({"g": "s", "h": "s", "i": "t"}, ["g", "h", "i"], ["s", "t"]),
        ({"team-*": "{group}"}, ["team-a", "team-b", "teams"], ["team-a", "team-b"]),
        ({"org:team-*": "t.{rest}"}, ["org:team-a", "team-b"], ["t.a"]),
        ({"*": "{group}"}, ["a"], ["a"]),
        ({"/teams/*/edit": "{rest}"}, ["/teams/x/edit", "/teams/x/read"], ["x"]),
        ({"team-*": "{group}", "team-a": "special"}, ["team-a"], ["special"]),
        ({"team-a*": "first", "team-*": "second"}, ["team-ab", "team-b"], ["first", "second"]),
        ({"a.c": "s"}, ["abc"], []),
        ({"a.*": "s"}, ["abc"], []),
        ({"team-*": "all"}, ["team-a", "team-b"], ["all"]),
        ({}, ["g"], []),
    ],
)
def test_the_shares_of_a_member(
    entries: dict[str, str], groups: list[str], shares: list[str]
) -> None:
    assert GroupShares(entries).shares(groups) == (shares, [])


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"team1": "team 1"}, "'team1' has the share 'team 1'"),
        ({"team1": ""}, "'team1' has the share ''"),
        ({"team1": "../x"}, "'../x'"),
        ({"team1": 1}, "'team1' has the share 1"),
        ({1: "team1"}, "1 is no name of a group"),
        ({"": "team1"}, "'' is no name of a group"),
        ({"a*b*": "{group}"}, "'a*b*' has more than one *"),
        ({"team-*": "{grp}"}, "'{grp}'"),
        ({"team1": "x{rest}"}, "there is no * in the group's name"),
        ({"good": "good", "bad": "b@d"}, "'bad' has the share 'b@d'"),
    ],
)
def test_a_wrong_entry_is_named(entries: dict[Any, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        GroupShares(entries)


@pytest.mark.parametrize(
    ("entries", "several"),
    [
        ({}, False),
        ({"g": "s", "h": "s", "team-*": "s"}, False),
        ({"g": "s", "h": "t"}, True),
        ({"team-*": "{group}"}, True),
        ({"team-*": "t-{rest}"}, True),
        ({"g": "{group}"}, False),
        ({"g": "{group}", "h": "{group}"}, True),
    ],
)
def test_whether_somebody_may_have_several_shares(entries: dict[str, str], several: bool) -> None:
    assert GroupShares(entries).several == several


def test_a_group_whose_name_makes_no_share_is_passed_over_and_named() -> None:
    shares, problems = GroupShares({"*": "{group}"}).shares(["Mathematik", "Übung 1"])
    assert shares == ["Mathematik"]
    [problem] = problems
    assert "'Übung 1'" in problem
    assert "Name a share for it" in problem


def test_what_is_in_a_groups_name_is_not_filled_in_again() -> None:
    entries = {"*": "{group}"}
    assert GroupShares(entries).shares(["{rest}"])[0] == []


@pytest.mark.parametrize(
    ("given", "shares", "problem"),
    [
        (["a", "b", "a"], ["a", "b"], ""),
        ({"a"}, ["a"], ""),
        ((share for share in ["x"]), ["x"], ""),
        ([], [], ""),
        ("team1", [], "'team1', which is no list"),
        (None, [], "None, which is no list"),
        (["a", "b c"], ["a"], "'b c', which is no name"),
        (["a", 1, ["b"]], ["a"], "1, which is no name"),
    ],
)
def test_what_a_function_returns(given: Any, shares: list[str], problem: str) -> None:
    usable, problems = usable_shares(given)
    assert usable == shares
    assert problem in (problems or [""])[0]
    assert bool(problems) == bool(problem)
