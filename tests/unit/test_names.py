"""What a client may show as its name, and what becomes of what it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jupyter_teleportal.core.awareness_updates import (
    AwarenessEntry,
    awareness_entries,
    awareness_update,
)
from jupyter_teleportal.core.names import (
    Identity,
    Vetted,
    identity,
    is_honest,
    made_honest,
    same_user,
    vetted,
)

MODEL = {
    "username": "ann",
    "name": "Ann",
    "display_name": "Ann A.",
    "initials": None,
    "avatar_url": None,
    "color": None,
}
ANN = identity(MODEL, ["color"])
LAB = {**MODEL, "initials": "A", "color": "var(--jp-collaborator-color1)"}
"""What JupyterLab makes of the model."""


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"autosave": True},
        {"user": None},
        {"user": MODEL},
        {"user": LAB, "cursors": [1], "documents": ["a.ipynb"]},
        {"user": {**LAB, "avatar_url": ""}},
        {"user": {"name": "Ann", "color": "red"}},
        {"user": {**LAB, "role": "bot"}},
    ],
)
def test_an_honest_state_is_one(state: Any) -> None:
    assert is_honest(state, ANN)
    assert is_honest(state, None)


@pytest.mark.parametrize(
    "user",
    [
        {**LAB, "username": "bob"},
        {**LAB, "name": "Bob"},
        {**LAB, "display_name": "Bob"},
        {**LAB, "avatar_url": "https://example.org/bob.png"},
        {"name": "Bob"},
        {"username": ["ann"]},
        "Bob",
        ["Bob"],
        0,
    ],
)
def test_a_name_that_is_not_the_clients_own_is_replaced(user: Any) -> None:
    state = {"user": user, "cursors": [1]}
    assert not is_honest(state, ANN)
    made = made_honest(state, ANN)
    assert is_honest(made, ANN)
    assert made["cursors"] == [1]
    named = {field: made["user"][field] for field in ("username", "name", "display_name")}
    assert named == {"username": "ann", "name": "Ann", "display_name": "Ann A."}
    assert made["user"]["initials"] == "A"
    assert made["user"]["avatar_url"] is None
    if isinstance(user, dict) and "color" in user:
        assert made["user"]["color"] == user["color"]


def test_what_users_may_change_is_theirs_but_not_the_user_name() -> None:
    free = identity({**MODEL, "color": "blue"}, ["username", "name", "display_name", "color"])
    assert is_honest({"user": {**LAB, "name": "Annie", "display_name": "Annie"}}, free)
    assert not is_honest({"user": {**LAB, "username": "bob"}}, free)
    assert made_honest({"user": {**LAB, "username": "bob"}}, free)["user"]["color"] == "blue"


def test_a_color_that_the_provider_sets_is_the_clients() -> None:
    known = identity({**MODEL, "color": "blue", "initials": "AA"})
    assert not is_honest({"user": {**LAB, "initials": "AA"}}, known)
    assert not is_honest({"user": {**LAB, "color": "blue"}}, known)
    assert is_honest({"user": {**LAB, "color": "blue", "initials": "AA"}}, known)


@pytest.mark.parametrize("known", [ANN, None])
def test_a_client_does_not_say_that_it_is_on_another_server(known: Identity | None) -> None:
    state = {"user": LAB, "teleportal": {"replica": "other"}}
    assert not is_honest(state, known)
    assert made_honest(state, known) == {"user": LAB}


def test_who_is_not_known_is_the_same_user_as_others_who_are_not() -> None:
    bob = identity({**MODEL, "username": "bob"})
    assert same_user(None, None)
    assert same_user(ANN, identity({**MODEL, "name": "Annie"}))
    assert not same_user(ANN, bob)
    assert not same_user(ANN, None)


# -- updates: ann's client is 1, bob's is 2, and the room knows 3 from before ----------------------


def vet(*entries: AwarenessEntry, holder: Callable[[int, Any], str | None] | None = None) -> Vetted:
    update = awareness_update(entries)
    found = vetted(
        update,
        {entry.client: entry.state for entry in entries},
        ANN,
        is_own=lambda client: client == 1,
        clock_of={1: 5, 2: 5, 3: 5}.get,
        holder_of=holder or (lambda client, state: "bob" if client == 2 else None),
    )
    if found.update is not None:
        assert {e.client: e.state for e in awareness_entries(found.update)} == found.states
    return found


def test_honest_states_pass_as_the_very_same_bytes() -> None:
    entries = AwarenessEntry(1, 6, {"user": LAB}), AwarenessEntry(4, 1, {"user": LAB})
    for sent in (entries[:1], entries[1:], entries):
        found = vet(*sent)
        assert found.update == awareness_update(sent)
        assert not found.forged


def test_a_forged_name_is_replaced_under_the_same_clock() -> None:
    found = vet(AwarenessEntry(1, 6, {"user": {**LAB, "name": "Bob"}, "cursors": [1]}))
    assert found.update is not None
    (entry,) = awareness_entries(found.update)
    assert entry[:2] == (1, 6)
    assert entry.state == {"user": LAB, "cursors": [1]}
    assert len(found.forged) == 1
    assert "Bob" in found.forged[0]


BOBS = {"user": {"username": "bob", "name": "Bob"}, "cursors": []}


@pytest.mark.parametrize("entry", [AwarenessEntry(2, 5, BOBS), AwarenessEntry(2, 5, None)])
def test_what_a_browser_repeats_of_others_is_neither_news_nor_forgery(
    entry: AwarenessEntry,
) -> None:
    assert vet(entry) == (None, {}, [])
    own = AwarenessEntry(1, 6, {"user": LAB})
    assert vet(entry, own) == (awareness_update([own]), {1: own.state}, [])


def test_the_cursor_of_another_connection_is_not_moved() -> None:
    found = vet(AwarenessEntry(2, 9, {"user": LAB}))
    assert found.update is None
    assert "bob" in found.forged[0]
    assert vet(AwarenessEntry(2, 9, None)) == (None, {}, [])


def test_the_repeated_state_of_who_has_left_is_no_forgery() -> None:
    assert vet(AwarenessEntry(3, 5, BOBS)) == (None, {}, [])
    # A client that connects anew says what it has said before, which its new neighbours may lack.
    assert vet(AwarenessEntry(3, 5, {"user": LAB})).states == {3: {"user": LAB}}
    forged = vet(AwarenessEntry(3, 6, BOBS))
    assert forged.states[3]["user"]["name"] == "Ann"
    assert forged.forged
