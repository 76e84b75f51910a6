"""Where the items of a document lie, with no I/O and no library.

The CRDT library takes an update's word for it. Items that lie in two shared types at once make its
lists endless; shared types within each other make it recurse until its stack overruns, and each
update may add one level to what came before. So each document's room remembers in which shared
type its items lie. Most follow on one in the same, so what is remembered is a run of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from .conflicts import in_order, is_by_itself
from .errors import ForeignBytes
from .update_walk import Block, Id

MAX_NESTING = 200
"""Levels of shared types within each other. Notebooks have five; at some thousand the library
overruns its stack."""
_MAX_STEPS = 64


class _Beside(NamedTuple):
    """The place of an item that has not come."""

    client: int
    clock: int


class _In(NamedTuple):
    """A place: a shared type, by name or by its item, and whether under its keys."""

    parent: str | Id
    keyed: bool


_Place = _In | _Beside


class _Runs:
    """One client's items: from each of `starts` on they are in the place beside it, up to `end`.
    None: they have not come, or do not tell."""

    __slots__ = ("end", "places", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.places: list[_Place | None] = []
        self.end = 0

    def at(self, clock: int) -> _Place | None:
        if clock >= self.end:
            return None
        return self.places[bisect_right(self.starts, clock) - 1]

    def append(self, start: int, end: int, place: _Place) -> None:
        """Note items that begin where those that are known end, or later."""
        if start > self.end:
            self.starts.append(self.end)
            self.places.append(None)
        if not self.places or self.places[-1] != place:
            self.starts.append(start)
            self.places.append(place)
        self.end = end

    def fill(self, start: int, end: int, place: _Place) -> None:
        """Note items before `end` that had not come."""
        after = self.at(end)
        first, last = bisect_left(self.starts, start), bisect_left(self.starts, end)
        goes_on = end < self.end and not (last < len(self.starts) and self.starts[last] == end)
        self.starts[first:last] = [start, end] if goes_on else [start]
        self.places[first:last] = [place, after] if goes_on else [place]

    def between(self, start: int, end: int) -> Iterable[tuple[int, int, _Place | None]]:
        """The runs between two clocks, the first of which is before the end."""
        index = bisect_right(self.starts, start) - 1
        found: list[tuple[int, int, _Place | None]] = []
        while start < min(end, self.end):
            following = self.starts[index + 1] if index + 1 < len(self.starts) else self.end
            stop = min(end, following)
            found.append((start, stop, self.places[index]))
            start, index = stop, index + 1
        if start < end:
            found.append((start, end, None))
        return found


class _Undo:
    """How to take back what was noted."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], object]] = []
        self._appended: set[int] = set()

    def appending(self, runs: _Runs) -> None:
        """Runs are about to be appended to; whatever else is done to them has its own step."""
        if id(runs) not in self._appended:
            self._appended.add(id(runs))
            self.steps.append(partial(_cut, runs, len(runs.starts), runs.end))

    def filling(self, runs: _Runs) -> None:
        self.steps.append(partial(_restore, runs, list(runs.starts), list(runs.places)))

    def run(self) -> None:
        for step in reversed(self.steps):
            step()


def _cut(runs: _Runs, count: int, end: int) -> None:
    del runs.starts[count:], runs.places[count:]
    runs.end = end


def _restore(runs: _Runs, starts: list[int], places: list[_Place | None]) -> None:
    runs.starts[:], runs.places[:] = starts, places


class _Awaited(NamedTuple):
    """What is known of an item that has not come: the place that it has to be in, if anything is,
    and how many levels of shared types wait to lie below it."""

    place: _Place | None = None
    levels: int = 0


class Places:
    """The places of one document's items."""

    def __init__(self) -> None:
        self._runs: dict[int, _Runs] = {}
        self._places: dict[_In, _In] = {}
        self._levels: dict[_In, int] = {}
        self._awaited: dict[int, dict[int, _Awaited]] = {}

    def admit(self, blocks: Sequence[Block]) -> Sequence[Block]:
        """Note where the items of an update lie; if it is refused, nothing of it is noted.

        Returns:
            The blocks, those first that others refer to.

        Raises:
            ForeignBytes: if shared types would lie too deep within each other, or an item in two
                places.
        """
        if self._go_on(blocks):
            return blocks
        ordered = in_order(blocks)
        undo = _Undo()
        try:
            if ordered is blocks or all(map(is_by_itself, blocks)):
                self._note_all(blocks, undo)
            else:
                for block in ordered:
                    self._note(block, undo)
        except ForeignBytes:
            undo.run()
            self._levels.clear()  # they may come from what was taken back
            raise
        return ordered

    def parent_of(self, item: Id) -> str | Id | None:
        """The shared type in which an item lies, other than under a key; None if that is not
        known."""
        try:
            place = self._of(item)
        except ForeignBytes:
            return None
        return place.parent if isinstance(place, _In) and not place.keyed else None

    def _go_on(self, blocks: Sequence[Block]) -> bool:
        """Note blocks each of which follows on the last item that their client has made, as most
        do. Return whether they are such blocks; nothing is noted otherwise."""
        if not blocks:
            return True
        client = blocks[0].client
        runs = self._runs.get(client)
        if runs is None or not runs.end or self._awaited.get(client):
            return False
        if not isinstance(runs.places[-1], _In):
            return False
        end = runs.end
        for own, start, length, is_type, left, right, _, _ in blocks:
            if (
                own != client
                or start != end
                or left != (client, start - 1)
                or right is not None
                or is_type
            ):
                return False
            end += length
        runs.end = end
        return True

    def _note_all(self, blocks: Sequence[Block], undo: _Undo) -> None:
        """Note blocks in their order: among them may be many of one client in one place, such as
        the fields of a map, and many clients that have nothing else."""
        runs: _Runs | None = None
        place = _In("", False)
        whose = 0
        for block in blocks:
            client, start, length, is_type, left, right, parent, key = block
            keyed = bool(key)
            if (
                runs is not None
                and client == whose
                and start == runs.end
                and right is None
                and not is_type
                and (
                    left == (client, start - 1)
                    if left is not None
                    else keyed == place.keyed and parent == place.parent
                )
            ):
                # It lies beside the one before, and nothing has waited for it.
                runs.end = start + length
                continue
            if (
                left is None
                and right is None
                and parent is not None
                and not is_type
                and client not in self._runs
                and not self._awaited.get(client)
            ):
                if keyed != place.keyed or parent != place.parent:
                    named = _In(parent, keyed)
                    place = self._places.setdefault(named, named)
                whose, runs = client, _Runs()
                runs.append(start, start + length, place)
                self._runs[client] = runs
                undo.steps.append(partial(self._runs.pop, client))
                continue
            self._note(block, undo)
            whose, runs = client, self._runs.get(client)
            if runs is None or runs.end != start + length or self._awaited.get(client):
                runs = None
            elif isinstance(last := runs.places[-1], _In):
                place = last
                undo.appending(runs)
            else:
                runs = None

    def _note(self, block: Block, undo: _Undo) -> None:
        client, start, length, is_type, left, right, parent, key = block
        place: _Place
        if left is not None:
            place = self._of(left)
        elif right is not None:
            place = self._of(right)
        elif parent is None:
            return  # it was collected
        else:
            named = _In(parent, bool(key))
            place = self._places.setdefault(named, named)
        runs = self._runs.get(client)
        if runs is None:
            runs = self._runs[client] = _Runs()
        end = start + length
        if start >= runs.end:
            undo.appending(runs)
            runs.append(start, end, place)
            self._arrived(client, start, end, place, undo)
        else:
            for first, last, known in runs.between(start, end):
                if known is not None:
                    self._same(known, place, undo)
                    continue
                if first >= runs.end:
                    undo.appending(runs)
                    runs.append(first, last, place)
                else:
                    undo.filling(runs)
                    runs.fill(first, last, place)
                self._arrived(client, first, last, place, undo)
        if right is not None and left is not None:
            self._same(self._of(right), place, undo)
        if is_type:
            self._limit(place, 1, undo)

    def _of(self, item: Id) -> _Place:
        """The place of an item, as far as it is known."""
        client, clock = item
        for _ in range(_MAX_STEPS):
            known = self._at((client, clock))
            if known is None:
                return _Beside(client, clock)
            if isinstance(known, _In):
                return known
            client, clock = known
        raise ForeignBytes("items lie beside each other in a circle, or nearly so")

    def _at(self, item: Id) -> _Place | None:
        runs = self._runs.get(item[0])
        return None if runs is None else runs.at(item[1])

    def _same(self, one: _Place, other: _Place, undo: _Undo) -> None:
        """Two places are the same one, or the update is refused."""
        for _ in range(_MAX_STEPS):
            if one is other:
                return
            one = self._of(one) if isinstance(one, _Beside) else one
            other = self._of(other) if isinstance(other, _Beside) else other
            if one == other:
                return
            if isinstance(other, _Beside):
                one, other = other, one
            if not isinstance(one, _Beside):
                raise ForeignBytes("an item lies in two places")
            before = self._await(one, _Awaited(place=other), undo)
            if before is None:
                return
            one = before
        raise ForeignBytes("items lie beside each other in a circle, or nearly so")

    def _limit(self, place: _Place, levels: int, undo: _Undo) -> None:
        """So many levels of shared types lie in a place; there may not be too many above."""
        passed: list[_In] = []
        while isinstance(place, _In):
            known = 1 if isinstance(place.parent, str) else self._levels.get(place)
            if known is not None:
                if known + len(passed) + levels - 1 > MAX_NESTING:
                    raise _too_deep()
                for above, there in enumerate(reversed(passed), 1):
                    self._levels[there] = known + above
                return
            passed.append(place)
            if len(passed) + levels > MAX_NESTING:
                raise _too_deep()
            assert not isinstance(place.parent, str)
            place = self._of(place.parent)
        self._await(place, _Awaited(levels=levels + len(passed)), undo)

    def _await(self, item: _Beside, more: _Awaited, undo: _Undo) -> _Place | None:
        """Note what is known of an item that has not come; return where it was known to be."""
        awaited = self._awaited.setdefault(item.client, {})
        before = awaited.get(item.clock)
        if before is None:
            undo.steps.append(partial(awaited.pop, item.clock, None))
            awaited[item.clock] = more
            return None
        undo.steps.append(partial(awaited.__setitem__, item.clock, before))
        place = before.place or more.place
        awaited[item.clock] = _Awaited(place, max(before.levels, more.levels))
        return before.place

    def _arrived(self, client: int, start: int, end: int, place: _Place, undo: _Undo) -> None:
        """Items have come that others may have waited for."""
        awaited = self._awaited.get(client)
        if not awaited:
            return
        if end - start > len(awaited):
            clocks = [clock for clock in awaited if start <= clock < end]
        else:
            clocks = [clock for clock in range(start, end) if clock in awaited]
        for clock in clocks:
            known = awaited.pop(clock)
            undo.steps.append(partial(awaited.__setitem__, clock, known))
            if known.place is not None:
                self._same(known.place, place, undo)
            if known.levels:
                self._limit(place, known.levels, undo)


def _too_deep() -> ForeignBytes:
    return ForeignBytes(f"shared types lie more than {MAX_NESTING} levels deep in each other")
