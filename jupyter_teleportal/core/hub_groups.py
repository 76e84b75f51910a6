"""Which shares a hub's groups have: what `GroupSharing.groups` says, with no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import SettingsError
from .shares import is_share_name

NAMES_ARE = 'made of 1 to 64 letters, digits, ".", "_" and "-", a letter or digit first'


class GroupShares:
    """The groups that share something: name of a group, or a pattern, to name of a share.

    A pattern has one ``*`` in it, which stands for any text. In the share's name ``{group}`` is
    the group's name, and ``{rest}`` what the ``*`` stands for. A group's own name goes before
    patterns, and of these the first that fits counts.
    """

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        """
        Raises:
            SettingsError: names the entry that cannot be used, and says how to mend it.
        """
        self._named: dict[str, str] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for group, share in entries.items():
            self._check(group, share)
            if "*" in group:
                before, after = map(re.escape, group.split("*"))
                self._patterns.append((re.compile(f"{before}(.*){after}", re.DOTALL), share))
            else:
                self._named[group] = share

    @staticmethod
    def _check(group: Any, share: Any) -> None:
        if not isinstance(group, str) or not group:
            raise SettingsError(f"{group!r} is no name of a group")
        if group.count("*") > 1:
            raise SettingsError(f"the pattern {group!r} has more than one *; write one in it")
        if not isinstance(share, str) or not is_share_name(_filled(share, "x", "x")):
            raise SettingsError(
                f"the group {group!r} has the share {share!r}, which is no name of a share: these "
                f"are {NAMES_ARE}; {{group}} in it is the group's name, and {{rest}} what the * of "
                "a pattern stands for"
            )
        if "{rest}" in share and "*" not in group:
            raise SettingsError(
                f"the group {group!r} has the share {share!r}, but there is no * in the group's "
                "name that {rest} could stand for"
            )

    @property
    def several(self) -> bool:
        """Whether somebody may have more than one share by these."""
        named = {_filled(share, group, "") for group, share in self._named.items()}
        patterns = {share for _, share in self._patterns}
        return len(named | patterns) > 1 or any("{" in share for share in patterns)

    def share(self, group: str) -> str | None:
        """Return the name of the share of `group`, None if it has none.

        Raises:
            SettingsError: if the name of this group makes no name of a share.
        """
        if group in self._named:
            return _checked(_filled(self._named[group], group, ""), group)
        for pattern, share in self._patterns:
            if match := pattern.fullmatch(group):
                return _checked(_filled(share, group, match[1]), group)
        return None

    def shares(self, groups: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the shares of a member of `groups`, and what is wrong with those that have
        none although they should."""
        shares: set[str] = set()
        problems = []
        for group in sorted(groups):
            try:
                if share := self.share(group):
                    shares.add(share)
            except SettingsError as error:
                problems.append(str(error))
        return sorted(shares), problems


def usable_shares(given: Any) -> tuple[list[str], list[str]]:
    """Return those of the shares that a function has `given` which are names of shares, and what
    is wrong with the rest."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [], [f"it returned {given!r}, which is no list of shares' names"]
    given = list(given)
    usable = {share for share in given if isinstance(share, str) and is_share_name(share)}
    return sorted(usable), [
        f"it returned {share!r}, which is no name of a share: these are {NAMES_ARE}"
        for share in given
        if not isinstance(share, str) or share not in usable
    ]


def _filled(share: str, group: str, rest: str) -> str:
    values = {"{group}": group, "{rest}": rest}
    return re.sub(r"\{(?:group|rest)\}", lambda found: values[found[0]], share)


def _checked(share: str, group: str) -> str:
    if not is_share_name(share):
        raise SettingsError(
            f"the group {group!r} shares nothing, for {share!r} is no name of a share: these are "
            f"{NAMES_ARE}. Name a share for it in GroupSharing.groups"
        )
    return share
