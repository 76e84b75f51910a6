"""Names in awareness: what a server's own clients may show is what the server knows of them.

No I/O: `rooms` asks who a client is, and says what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .awareness_updates import MARK, AwarenessEntry, awareness_update
from .update_walk import awareness_clocks

FIELDS = ("username", "name", "display_name", "initials", "avatar_url", "color")
"""What Jupyter's identity providers say of a user."""
MADE_UP = frozenset(("initials", "color"))
"""What JupyterLab makes up where the identity provider says nothing."""


class Identity(NamedTuple):
    """Who is at the other end of a connection, as the server's identity provider says.

    Attributes:
        fields: the values of `FIELDS`.
        free: those of them that users may change as they like.
    """

    fields: Mapping[str, Any]
    free: frozenset[str]

    @property
    def username(self) -> str:
        return str(self.fields["username"])


def identity(model: Mapping[str, Any], updatable: Iterable[str] = ()) -> Identity:
    """Return the identity in what Jupyter answers to ``/api/me``, and its provider's
    `updatable_fields`."""
    fields = {field: model.get(field) for field in FIELDS}
    return Identity(fields, frozenset(updatable) - {"username"})


def is_honest(state: Any, known: Identity | None) -> bool:
    """Whether a client may show this state as its own.

    Args:
        state: the state; None where the client says goodbye.
        known: who the client is; None if nobody knows.
    """
    if not state:
        return True
    if MARK in state:
        return False
    user = state.get("user")
    if known is None or user is None:
        return True
    return isinstance(user, dict) and all(
        _agrees(known, field, user[field]) for field in FIELDS if field in user
    )


def _agrees(known: Identity, field: str, claimed: Any) -> bool:
    said = known.fields[field]
    if field in known.free or claimed == said:
        return True
    return not said and (field in MADE_UP or not claimed)


def made_honest(state: dict[str, Any], known: Identity | None) -> dict[str, Any]:
    """Return the state with the name that the server knows. The rest of it stays."""
    made = {field: value for field, value in state.items() if field != MARK}
    if is_honest(made, known) or known is None:
        return made
    user = made["user"] if isinstance(made["user"], dict) else {}
    names = dict(known.fields)
    names["initials"] = names["initials"] or str(names["display_name"] or known.username)[:1]
    if not names["color"]:
        del names["color"]
    return {**made, "user": {**user, **names}}


def same_user(one: Identity | None, other: Identity | None) -> bool:
    """Whether two connections are the same user's, as far as anybody knows."""
    if one is None or other is None:
        return one is other
    return one.username == other.username


def username_in(state: Any) -> str | None:
    """The user name that a state shows, if it shows one."""
    user = state.get("user") if isinstance(state, dict) else None
    name = user.get("username") if isinstance(user, dict) else None
    return name if isinstance(name, str) else None


class Vetted(NamedTuple):
    """What is left of an awareness update.

    Attributes:
        update: the update; None if nothing is left of it.
        states: the states in it.
        forged: what its client may not say, in words.
    """

    update: bytes | None
    states: dict[int, Any]
    forged: list[str]


def vetted(
    update: bytes,
    states: dict[int, Any],
    known: Identity | None,
    *,
    is_own: Callable[[int], bool],
    clock_of: Callable[[int], int | None],
    holder_of: Callable[[int, Any], str | None],
) -> Vetted:
    """Take what a client may not say out of an awareness update that it has sent. What a browser
    repeats of others' states, as y-websocket does, is no news and no forgery.

    Args:
        update: the update, which was read already.
        states: the states in it.
        known: who the client is; None if nobody knows.
        is_own: whether the client has shown the state under an id so far.
        clock_of: under which clock the room knows an id, if it does.
        holder_of: who shows the state under an id that is not the client's own, and would keep
            the client from showing the given one there; None if nobody would.
    """
    if all(is_own(client) and is_honest(state, known) for client, state in states.items()):
        return Vetted(update, states, [])
    clocks = awareness_clocks(update)
    taken: list[AwarenessEntry] = []
    forged: list[str] = []
    for client, state in states.items():
        honest = is_honest(state, known)
        if not is_own(client):
            seen = clock_of(client)
            is_news = seen is None or clocks[client] > seen
            holder = holder_of(client, state)
            if holder is not None:
                if is_news and state is not None:
                    forged.append(f"it moves the cursor of {holder}")
                continue
            if not is_news and not honest:
                continue
        if not honest:
            forged.append(_lie(state))
            state = made_honest(state, known)
        taken.append(AwarenessEntry(client, clocks[client], state))
    kept = {entry.client: entry.state for entry in taken}
    if kept == states:
        return Vetted(update, states, forged)
    return Vetted(awareness_update(taken) if taken else None, kept, forged)


def _lie(state: dict[str, Any]) -> str:
    if MARK in state:
        return "it says that it comes from another server"
    user = state.get("user")
    shown = user if not isinstance(user, dict) else [user.get(field) for field in FIELDS[:3]]
    return f"it claims the name {str(shown)[:80]}"
