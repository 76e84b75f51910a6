"""Which items a document has, and whether what comes builds on others, with no I/O and no library.

What an update brings may build on what has not come. The CRDT library keeps that until it comes,
and on some that were forged it never ends, or crashes. So it is given nothing that has to wait:
each client's items without a gap, and beside or within what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

from .errors import ForeignBytes
from .update_walk import Block, Id, read_state

WAITING_MAX = 1000
WAITING_MAX_BYTES = 32 * 1024 * 1024

_Thing = TypeVar("_Thing")


class Reached(NamedTuple):
    """What of an update can be taken.

    Attributes:
        ends: where each of its clients' items end with it.
        lacks: the first item that it builds on and that is not there; None if it is complete.
        taken: if it is not, where each client's part ends that can be taken.
    """

    ends: Mapping[int, int]
    lacks: Id | None = None
    taken: Mapping[int, int] = {}


class Known:
    """Where each client's items end that a document has."""

    def __init__(self, state: Callable[[], bytes] | None = None) -> None:
        """
        Args:
            state: returns the document's state vector; it is asked where something seems to be
                missing.
        """
        self.state = state
        self._ends: dict[int, int] = {}

    def has(self, item: Id) -> bool:
        """Whether an item is known to be there."""
        return item[1] < self._ends.get(item[0], 0)

    def note(self, ends: Mapping[int, int]) -> None:
        """These items are there."""
        self._ends.update(ends)

    def only(self, state: bytes) -> None:
        """The document has what is in this state vector, and nothing else that was noted."""
        self._ends = read_state(state)

    def look(self) -> None:
        """Find out what else has come into the document."""
        if self.state is not None:
            for client, end in read_state(self.state()).items():
                if end > self._ends.get(client, 0):
                    self._ends[client] = end

    def reach(self, blocks: Sequence[Block]) -> Reached:
        """Return what of an update can be taken now.

        Raises:
            ForeignBytes: if an item builds on one that comes later.
        """
        if not blocks:
            return Reached({})
        known = self._ends
        client = blocks[0].client
        if client == blocks[-1].client:
            end = known.get(client, 0)
            for whose, clock, length, _, left, right, parent, _ in blocks:
                if clock > end or whose != client:
                    break
                if left is not None and left[1] >= (
                    clock if left[0] == client else known.get(left[0], 0)
                ):
                    break
                if right is not None and right[1] >= (
                    clock if right[0] == client else known.get(right[0], 0)
                ):
                    break
                if parent.__class__ is tuple and not _is_before(parent, client, clock, known):
                    break
                if clock + length > end:
                    end = clock + length
            else:
                return Reached({client: end})
        self.look()
        return _reach_alone(blocks, self._ends) or _reach(blocks, self._ends)


def _is_before(item: Id | str | None, client: int, clock: int, ends: Mapping[int, int]) -> bool:
    assert isinstance(item, tuple)
    return item[1] < (clock if item[0] == client else ends.get(item[0], 0))


def _reach_alone(blocks: Sequence[Block], known: Mapping[int, int]) -> Reached | None:
    """What of an update can be taken, if each block builds at most on its own client's, in their
    order; None otherwise."""
    ends: dict[int, int] = {}
    for client, clock, length, _, left, right, parent, _ in blocks:
        end = ends.get(client)
        if end is None:
            end = known.get(client, 0)
        if clock > end:
            return None
        for item in (left, right, parent):
            if isinstance(item, tuple) and (item[0] != client or item[1] >= clock):
                return None
        ends[client] = max(end, clock + length)
    return Reached(ends)


def _reach(blocks: Sequence[Block], known: Mapping[int, int]) -> Reached:
    """Go through each client's blocks as far as they build on what is there, in whichever order."""
    waiting: dict[int, list[Block]] = {}
    for block in reversed(blocks):
        waiting.setdefault(block.client, []).append(block)
    ends = {client: known.get(client, 0) for client in waiting}
    taken: dict[int, int] = {}
    lacks: Id | None = None
    # Who waits for which item of a client, the first one first.
    waiters: dict[int, list[tuple[int, int]]] = {}
    ready = list(waiting)
    while ready:
        client = ready.pop()
        mine, end = waiting[client], ends[client]
        while mine:
            block = mine[-1]
            missing = (client, end) if block.clock > end else _missing(block, ends, known)
            if missing is not None:
                if missing[0] != client and missing[0] in waiting:
                    heappush(waiters.setdefault(missing[0], []), (missing[1], client))
                break
            mine.pop()
            taken[client] = block.clock + block.length
            end = ends[client] = max(end, taken[client])
        mine_wait = waiters.get(client)
        while mine_wait and mine_wait[0][0] < end:
            ready.append(heappop(mine_wait)[1])
    for client, left in waiting.items():
        if left:
            block = left[-1]
            end = ends[client]
            lacks = (client, end) if block.clock > end else _missing(block, ends, known)
            # Rather what nothing in here brings.
            if lacks is not None and not waiting.get(lacks[0]):
                break
    return Reached(ends, lacks, taken)


def _missing(block: Block, ends: Mapping[int, int], known: Mapping[int, int]) -> Id | None:
    """The first item that a block builds on and that is not there.

    Raises:
        ForeignBytes: if it builds on one of its client that comes later.
    """
    for item in (block.left, block.right, block.parent):
        if not isinstance(item, tuple):
            continue
        client, clock = item
        if client == block.client:
            if clock >= block.clock:
                raise ForeignBytes(f"item {block.clock} of client {client} builds on a later one")
        elif clock >= (ends[client] if client in ends else known.get(client, 0)):
            return item
    return None


class Waiting(dict[str, tuple[_Thing, Id, int]]):
    """What waits for items that have not come, in its order: by name, what it is, the item that it
    lacks, and its bytes. When there is too much of it, the oldest has to go.

    It is asked with each keystroke whether anything waits, which a dictionary answers by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def add(self, name: str, thing: _Thing, lacks: Id, size: int) -> list[tuple[str, _Thing, Id]]:
        """Let `thing` of `size` bytes wait until the item `lacks` is there. Return what has to go,
        with the item that it waited for."""
        self.remove(name)
        self[name] = thing, lacks, size
        self._bytes += size
        gone = []
        while len(self) > 1 and (len(self) > WAITING_MAX or self._bytes > WAITING_MAX_BYTES):
            oldest = next(iter(self))
            if (waited := self.remove(oldest)) is not None:
                gone.append((oldest, *waited))
        return gone

    def remove(self, name: str) -> tuple[_Thing, Id] | None:
        """Take out what waits under a name."""
        waits = self.pop(name, None)
        if waits is None:
            return None
        thing, lacks, size = waits
        self._bytes -= size
        return thing, lacks

    def clear(self) -> None:
        super().clear()
        self._bytes = 0

    def ready(self, known: Known) -> list[_Thing]:
        """Take out what need not wait any more."""
        names = [name for name, (_, lacks, _) in self.items() if known.has(lacks)]
        return [found[0] for name in names if (found := self.remove(name)) is not None]
