"""What to replace in one text to get another one, within a budget of time, with no I/O."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher

# How much of a text, and of one run of changed lines in it, is compared word by word.
_WORDWISE_MAX_CHARACTERS = 20_000
_HUNK_MAX_CHARACTERS = 4000
_LINEWISE_MAX_PAIRS = 500_000
_EDITS_MAX = 500
_WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)


def few_changes(old: str, new: str) -> list[tuple[int, int, str]]:
    """Return what to replace in `old` to get `new`: from where to where, in characters, by what;
    no more than `_EDITS_MAX`."""
    return _fewer(old, _all_changes(old, new))


def is_coarse(old: str, new: str) -> bool:
    """Whether there are so many changes that `few_changes` replaces some of what lies between
    them as well."""
    return len(_all_changes(old, new)) > _EDITS_MAX


def with_common_changes(base: str, ours: str, theirs: str) -> str:
    """Return `base` with what both sides have changed in the same way, so that to bring it to
    either of them does nothing that the other has done already.

    Where one side's run of lines is the other's with something added, all of the shorter one counts
    as common; where both have added lines at one place, those with which both begin, or end.
    """
    if ours == theirs:
        return ours
    before = base.splitlines(keepends=True)
    sides = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    found: list[str] = []
    at = 0
    for first, end, (one, other) in _changed_on_both(before, sides):
        found += before[at:first]
        found.append(_common_run(before[first:end], one, other))
        at = end
    return "".join((*found, *before[at:]))


def clash(base: str, ours: str, theirs: str) -> bool:
    """Whether both sides have changed the same lines, or lines next to each other, and not in the
    same way."""
    before = base.splitlines(keepends=True)
    sides = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    return any(one != other for *_, (one, other) in _changed_on_both(before, sides))


def _changed_on_both(
    before: list[str], sides: tuple[list[str], list[str]]
) -> Iterator[tuple[int, int, list[list[str]]]]:
    """The runs of lines that both sides have changed: from where to where before, and what is
    there on each side (as in diff3: https://www.cis.upenn.edu/~bcpierce/papers/diff3-short.pdf)."""
    hunks = sorted(
        (i1, i2, side, j1, j2)
        for side, after in enumerate(sides)
        for i1, i2, j1, j2 in _hunks(before, after)
    )
    at = 0
    while at < len(hunks):
        begin, (first, end, *_) = at, hunks[at]
        while at < len(hunks) and hunks[at][0] <= end:
            end = max(end, hunks[at][1])
            at += 1
        run = hunks[begin:at]
        there = []
        for side, after in enumerate(sides):
            own = [hunk for hunk in run if hunk[2] == side]
            if own:
                start = own[0][3] - (own[0][0] - first)
                there.append(after[start : own[-1][4] + (end - own[-1][1])])
        if len(there) == len(sides):
            yield first, end, there


def _common_run(before: list[str], one: list[str], other: list[str]) -> str:
    if one == other:
        return "".join(one)
    words = [_WORDS.findall("".join(lines)) for lines in (before, one, other)]
    shorter, longer = sorted(words[1:], key=len)
    begin, end = _common_ends(shorter, longer)
    if begin + end == len(shorter) and _kept(words[0], shorter) == _kept(words[0], longer):
        return "".join(shorter)
    if before:
        kept, texts = "".join(before), ["".join(lines) for lines in (one, other)]
        if not all(text.startswith(kept) for text in texts):
            return kept
        one, other = (text.removeprefix(kept).splitlines(keepends=True) for text in texts)
        return kept + _common_run([], one, other)
    begin, end = _common_ends(one, other)
    return "".join(one[:begin] + one[len(one) - end :])


def _common_ends(one: list[str], other: list[str]) -> tuple[int, int]:
    """With how many same parts both begin, and with how many of the others both end."""
    shortest = min(len(one), len(other))
    begin = end = 0
    while begin < shortest and one[begin] == other[begin]:
        begin += 1
    while end < shortest - begin and one[-1 - end] == other[-1 - end]:
        end += 1
    return begin, end


def _kept(before: list[str], after: list[str]) -> int:
    """How many parts are still there; below 0, and never the same for two lengths, where it takes
    too long to say."""
    if len(before) * len(after) > _LINEWISE_MAX_PAIRS:
        return -len(after)
    matcher = SequenceMatcher(a=before, b=after, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def _fewer(old: str, changes: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The same changes as `_EDITS_MAX` at most, each of which may hold several: each takes the
    longer the more there are."""
    together = -(-len(changes) // _EDITS_MAX)
    if together < 2:
        return changes
    found = []
    for first in range(0, len(changes), together):
        group = changes[first : first + together]
        parts = [group[0][2]]
        for (_, before, _), (start, _, replacement) in itertools.pairwise(group):
            parts += (old[before:start], replacement)
        found.append((group[0][0], group[-1][1], "".join(parts)))
    return found


def _all_changes(old: str, new: str) -> list[tuple[int, int, str]]:
    """What to replace in `old` to get `new`: from where to where, in characters, by what.

    Lines are compared first, then words within the lines that differ, as long as there are few of
    them: comparing takes time that grows with the square, and other rooms wait.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    offsets = _offsets(before)
    budget = _WORDWISE_MAX_CHARACTERS
    changes = []
    for i1, i2, j1, j2 in _hunks(before, after):
        start, end = offsets[i1], offsets[i2]
        hunk, replacement = old[start:end], "".join(after[j1:j2])
        size = len(hunk) + len(replacement)
        if hunk and replacement and size <= min(budget, _HUNK_MAX_CHARACTERS):
            budget -= size
            changes += [
                (start + first, start + last, words)
                for first, last, words in _word_changes(hunk, replacement)
            ]
        else:
            changes.append((start, end, replacement))
    return changes


def _hunks(before: list[str], after: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Where lines differ: from which to which before, and from which to which after.

    Between lines that are there once on both sides, in the same order, everything is compared with
    everything, as long as `_LINEWISE_MAX_PAIRS` allow it; what is left is one hunk.
    """
    budget = _LINEWISE_MAX_PAIRS
    i1 = j1 = 0
    for i2, j2 in [*_common_lines(before, after), (len(before), len(after))]:
        pairs = (i2 - i1) * (j2 - j1)
        if 0 < pairs <= budget:
            budget -= pairs
            matcher = SequenceMatcher(a=before[i1:i2], b=after[j1:j2], autojunk=False)
            for tag, a1, a2, b1, b2 in matcher.get_opcodes():
                if tag != "equal":
                    yield i1 + a1, i1 + a2, j1 + b1, j1 + b2
        elif i1 < i2 or j1 < j2:
            yield i1, i2, j1, j2
        i1, j1 = i2 + 1, j2 + 1


def _common_lines(before: list[str], after: list[str]) -> list[tuple[int, int]]:
    """Lines that stand where they stood: those that both sides begin and end with, and in between
    those that are there once on both sides, as many as are in the same order. Takes time that
    hardly grows more than the number of lines."""
    first, last = 0, 0
    shortest = min(len(before), len(after))
    while first < shortest and before[first] == after[first]:
        first += 1
    while last < shortest - first and before[-1 - last] == after[-1 - last]:
        last += 1
    i_end, j_end = len(before) - last, len(after) - last
    once_before, once_after = Counter(before[first:i_end]), Counter(after[first:j_end])
    where = {line: j for j, line in enumerate(after[first:j_end], first) if once_after[line] == 1}
    pairs = [
        (i, where[line])
        for i, line in enumerate(before[first:i_end], first)
        if once_before[line] == 1 and line in where
    ]
    begin = [(n, n) for n in range(first)]
    return [
        *begin,
        *_longest_rising(pairs),
        *zip(range(i_end, len(before)), range(j_end, len(after)), strict=True),
    ]


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of `pairs`, not necessarily side by side, in which both numbers rise; the
    first numbers do already."""
    ends: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for index, (_, j) in enumerate(pairs):
        place = bisect_left(ends, j)
        before.append(at[place - 1] if place else -1)
        ends[place : place + 1] = [j]
        at[place : place + 1] = [index]
    found = []
    index = at[-1] if at else -1
    while index >= 0:
        found.append(pairs[index])
        index = before[index]
    return found[::-1]


def _word_changes(old: str, new: str) -> list[tuple[int, int, str]]:
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    offsets = _offsets(before)
    operations = SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    return [
        (offsets[i1], offsets[i2], "".join(after[j1:j2]))
        for tag, i1, i2, j1, j2 in operations
        if tag != "equal"
    ]


def _offsets(parts: list[str]) -> list[int]:
    """Where each part begins in the whole, and where the last one ends."""
    return [0, *itertools.accumulate(map(len, parts))]
