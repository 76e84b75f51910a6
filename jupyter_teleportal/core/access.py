"""Who may read and write a file: its owner, group, mode and access control list (POSIX.1e)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
"""What an entry of a list is about, as Linux numbers it, in the order in which it wants them."""
READ_WRITE, WRITE = 6, 2
_VERSION = 2
_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NOBODY = 0xFFFFFFFF
_IN_GROUP_CLASS = (USER, GROUP, NAMED_GROUP)


class Entry(NamedTuple):
    """One entry of an access control list."""

    tag: int
    permissions: int
    id: int = _NOBODY


GroupsOf = Callable[[int], frozenset[int] | None]
"""Returns the groups of a user; None if they are not known."""


@dataclass(frozen=True)
class Access:
    """Who may read and write one file.

    Attributes:
        owner: the owner's number.
        group: the group's.
        mode: its bits; with a list, those of the group are the list's mask.
        entries: the list; empty if there is none beyond the mode.
    """

    owner: int
    group: int
    mode: int
    entries: tuple[Entry, ...] = ()


def decode_list(value: bytes) -> tuple[Entry, ...]:
    """The list in the extended attribute ``system.posix_acl_access``.

    Raises:
        ValueError: if it is in a form that is not known.
    """
    if len(value) < _HEAD.size or _HEAD.unpack_from(value)[0] != _VERSION:
        raise ValueError("an access control list in an unknown form")
    try:
        return tuple(Entry(*each) for each in _ENTRY.iter_unpack(value[_HEAD.size :]))
    except struct.error as error:
        raise ValueError("an access control list in an unknown form") from error


def encode_list(entries: tuple[Entry, ...]) -> bytes:
    return _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*each) for each in entries)


def owned_by(access: Access, owner: int, group: int, groups_of: GroupsOf) -> Access:
    """The access to a copy of the file that belongs to this owner and group, such that nobody may
    do more with the copy than with the file, but for its owner, and nobody less. (Where others may
    do more with the file than its groups, members of another group may lose that.)

    Whoever loses a right with the ownership or the group keeps it by an entry of their own.

    Args:
        access: the access to the file.
        owner: who owns the copy.
        group: the group of the copy.
        groups_of: which groups the file's owner is in.
    """
    copied = replace(access, owner=owner, group=group)
    own = access.mode >> 6 & 7
    needed = {}
    # The superuser needs no permission.
    if owner != access.owner and access.owner != 0:
        groups = groups_of(access.owner)
        if group != access.group or not may(copied, access.owner, groups, own):
            needed[USER, access.owner] = own
    if group != access.group:
        needed[NAMED_GROUP, access.group] = _group_permissions(access)
    return _with_entries(copied, needed, same_group=group == access.group) if needed else copied


def _with_entries(access: Access, needed: dict[tuple[int, int], int], same_group: bool) -> Access:
    mask = _mask(access)
    found = {(each.tag, each.id): each.permissions for each in _all_entries(access)}
    found.pop((MASK, _NOBODY), None)
    # The mask is about to be wider, which must widen nothing else.
    found = {
        key: permissions & mask if key[0] in _IN_GROUP_CLASS else permissions
        for key, permissions in found.items()
    }
    if not same_group:
        # The file says nothing of the other group; but whoever is in that may be in others, too,
        # which may less.
        least = found[OTHER, _NOBODY]
        for (tag, _), permissions in found.items():
            if tag in (GROUP, NAMED_GROUP):
                least &= permissions
        found[GROUP, _NOBODY] = least
    for key, permissions in needed.items():
        found[key] = found.get(key, 0) | permissions
    mask = 0
    for key, permissions in found.items():
        if key[0] in _IN_GROUP_CLASS:
            mask |= permissions
    found[MASK, _NOBODY] = mask
    entries = tuple(Entry(tag, permissions, id) for (tag, id), permissions in sorted(found.items()))
    return replace(access, mode=access.mode & ~0o070 | mask << 3, entries=entries)


def _all_entries(access: Access) -> tuple[Entry, ...]:
    if access.entries:
        return access.entries
    bits = access.mode
    return (Entry(OWNER, bits >> 6 & 7), Entry(GROUP, bits >> 3 & 7), Entry(OTHER, bits & 7))


def _mask(access: Access) -> int:
    return next((each.permissions for each in access.entries if each.tag == MASK), 7)


def _group_permissions(access: Access) -> int:
    entries = _all_entries(access)
    return next(each.permissions for each in entries if each.tag == GROUP) & _mask(access)


def may(access: Access, user: int, groups: frozenset[int] | None, wanted: int) -> bool:
    """Whether a user in these groups has all of the `wanted` permissions; False also where that
    depends on groups that are not known (None)."""
    if user in (0, access.owner):
        return user == 0 or wanted & ~(access.mode >> 6) == 0
    mask = _mask(access)
    named, other = None, access.mode & 7
    by_group: list[int] = []
    for tag, permissions, id in _all_entries(access):
        group = access.group if tag == GROUP else id
        if tag == USER and id == user:
            named = permissions & mask
        elif tag in (GROUP, NAMED_GROUP) and (groups is None or group in groups):
            by_group.append(permissions & mask)
    if named is not None:
        return wanted & ~named == 0
    granted = [wanted & ~each == 0 for each in by_group]
    if groups is None:
        return wanted & ~other == 0 and all(granted)
    return any(granted) if granted else wanted & ~other == 0
