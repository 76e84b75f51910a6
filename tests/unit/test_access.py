"""Who may do what with a file that has come to belong to somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.core.access import (
    GROUP,
    MASK,
    NAMED_GROUP,
    OTHER,
    OWNER,
    USER,
    Access,
    Entry,
    decode_list,
    encode_list,
    may,
    owned_by,
)

bits = st.integers(0, 7)
people = st.integers(1, 5)
teams = st.integers(11, 14)


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    owner, group, mode = draw(people), draw(teams), draw(st.integers(0, 0o777))
    users = draw(st.dictionaries(people, bits, max_size=3))
    groups = draw(st.dictionaries(teams, bits, max_size=3))
    if not users and not groups:
        return Access(owner, group, mode)
    entries = (
        Entry(OWNER, mode >> 6),
        *(Entry(USER, each, id) for id, each in sorted(users.items())),
        Entry(GROUP, draw(bits)),
        *(Entry(NAMED_GROUP, each, id) for id, each in sorted(groups.items())),
        Entry(MASK, mode >> 3 & 7),
        Entry(OTHER, mode & 7),
    )
    return Access(owner, group, mode, entries)


def rights(access: Access, user: int, groups: frozenset[int]) -> set[int]:
    """Which permissions, alone and together, a user has."""
    return {wanted for wanted in range(8) if may(access, user, groups, wanted)}


@given(accesses(), people, teams, people, st.frozensets(teams), st.booleans())
def test_nobody_gains_or_loses_a_right(
    access: Access, owner: int, group: int, user: int, groups: frozenset[int], known: bool
) -> None:
    copy = owned_by(access, owner, group, lambda _: groups if known else None)
    before, after = rights(access, user, groups), rights(copy, user, groups)
    assert (copy.owner, copy.group) == (owner, group)
    assert decode_list(encode_list(copy.entries)) == copy.entries
    assert copy.mode >> 6 == access.mode >> 6
    if user == owner:
        return
    if user == access.owner:
        assert before <= after
    elif group == access.group:
        assert before == after
    else:
        # Two entries may be for one group; together they are one now.
        assert after & {1, 2, 4} <= before
        if not access.entries and not (access.mode & 7) & ~(access.mode >> 3 & 7):
            assert before == after


def test_no_list_is_made_where_none_is_needed() -> None:
    access = Access(1, 11, 0o664)
    assert owned_by(access, 2, 11, lambda _: frozenset({11})) == Access(2, 11, 0o664)
    assert owned_by(access, 1, 11, lambda _: None) == access
    assert owned_by(Access(0, 11, 0o664), 2, 11, lambda _: None) == Access(2, 11, 0o664)
    assert owned_by(access, 2, 11, lambda _: None).entries == (
        Entry(OWNER, 6),
        Entry(USER, 6, 1),
        Entry(GROUP, 6),
        Entry(MASK, 6),
        Entry(OTHER, 4),
    )


@pytest.mark.parametrize("value", [b"", b"\1\0\0\0", b"\2\0\0\0\1"])
def test_a_list_in_an_unknown_form(value: bytes) -> None:
    with pytest.raises(ValueError, match="unknown form"):
        decode_list(value)
