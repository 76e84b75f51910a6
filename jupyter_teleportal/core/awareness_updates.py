"""The entries of an awareness update, one for each client, so that some can be left out or
changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from pycrdt import write_var_uint

from .update_walk import awareness_clocks, read_awareness

MARK = "teleportal"
"""The field of a state that says which replica it came from: that one's server has authenticated
the user, and answers for the name."""


class AwarenessEntry(NamedTuple):
    """One client's state, a dictionary; None where it has left."""

    client: int
    clock: int
    state: Any


def awareness_entries(update: bytes) -> list[AwarenessEntry]:
    """Return the entries of a foreign awareness update.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    states, clocks = read_awareness(update), awareness_clocks(update)
    return [AwarenessEntry(client, clocks[client], state) for client, state in states.items()]


def awareness_update(entries: Iterable[AwarenessEntry]) -> bytes:
    """Return the update that has these entries."""
    written = []
    for entry in entries:
        state = json.dumps(entry.state, separators=(",", ":")).encode()
        written += [
            write_var_uint(entry.client),
            write_var_uint(entry.clock),
            write_var_uint(len(state)),
            state,
        ]
    return b"".join([write_var_uint(len(written) // 4), *written])
