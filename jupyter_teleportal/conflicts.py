"""How long the CRDT library may take to merge an update, with no I/O and no library.

An item tells beside which other it was put, and before which. If those two lie next to each other
when it comes, it is linked in between at once. Otherwise others were put there meanwhile, by who
had not seen it, and the library goes through all that lies between them. People make few of these;
thousands that were forged, in one place, take it a time that grows with the square of their number.
The same is true of what cuts the library's blocks: all that its client has made later is moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .update_walk import Block, Id

_Left = Id | tuple[str | Id, bytes]
"""An item, or the beginning of a shared type, or of one of its keys."""

COMPARE_S = 0.15e-6
"""The most that the library takes to pass one block, in seconds."""
MOVE_S = 0.1e-9
"""The same, to move one block."""


class Work(NamedTuple):
    """What an update gives the library to do.

    Attributes:
        compared: so many items may have to be compared with others.
        cut: so many times a block may have to be cut.
    """

    compared: int
    cut: int

    def seconds(self, blocks: int) -> float:
        """The longest that it can take in a document of so many blocks."""
        return (self.compared * COMPARE_S + self.cut * MOVE_S) * blocks


class Followers:
    """What was put last behind each item of a document: what comes next there has to have been put
    before it, or is compared with others. Where that is not known, it is taken to be compared.

    Attributes:
        blocks: how many blocks were noted.
    """

    def __init__(self, parent_of: Callable[[Id], str | Id | None]) -> None:
        """
        Args:
            parent_of: returns the shared type in which an item lies, other than under a key; None
                if that is not known.
        """
        self._parent_of = parent_of
        self.blocks = 0
        self._ends: dict[int, int] = {}
        # The items that do not follow on the one before of their client.
        self._starts: set[Id] = set()
        # None: of several, it is not known which lies next to it.
        self._latest: dict[_Left, Id | None] = {}

    def copy(self) -> Followers:
        """The same, in which to note what may come."""
        other = Followers(self._parent_of)
        other.blocks = self.blocks
        other._ends, other._latest = self._ends.copy(), self._latest.copy()
        other._starts = self._starts.copy()
        return other

    def only_typed(self, blocks: Sequence[Block]) -> bool:
        """Whether each block follows on an item of its client behind which there is nothing."""
        ends, latest = self._ends, self._latest
        return all(
            block.left == (block.client, block.clock - 1)
            and block.left not in latest
            and ends.get(block.client, 0) <= block.clock
            for block in blocks
        )

    def note(self, blocks: Sequence[Block]) -> Work:
        """Note the blocks of an update, in an order in which each builds on those before.

        Returns:
            What they may give the library to do.
        """
        compared = cut = 0
        ends, latest, starts = self._ends, self._latest, self._starts
        for client, clock, length, _, left, right, parent, key in blocks:
            start, end = clock, ends.get(client, 0)
            if start < end:
                if start + length <= end:
                    continue
                start, length, left, parent = end, start + length - end, (client, end - 1), None
            self.blocks += 1
            ends[client] = start + length
            if left is not None:
                follows_on = left[0] == client and left[1] == start - 1
                if left not in latest:
                    if follows_on:
                        continue
                    after = left[0], left[1] + 1
                    known = ends.get(left[0], 0)
                    starts.add((client, start))
                    if after[1] == known or after in starts:
                        latest[left] = client, start
                        continue
                    cut += 1
                    there: Id | None = after if after[1] < known else None
                else:
                    there = latest[left]
                    if not follows_on:
                        starts.add((client, start))
                at: _Left | None = left
            else:
                starts.add((client, start))
                if right is not None:
                    lies_in = self._parent_of(right)
                    at = None if lies_in is None else (lies_in, b"")
                    there = None if at is None else latest.get(at)
                elif parent is None:
                    continue  # it was collected
                else:
                    at = parent, key
                    if at not in latest:
                        # What was in the document before may not be known.
                        is_known = parent.__class__ is tuple and parent[1] < ends.get(parent[0], 0)
                        latest[at] = (client, start) if is_known else None
                        continue
                    there = None
            if there is not None and right == there:
                assert at is not None
                latest[at] = client, start
                continue
            if at is not None:
                latest[at] = None
            compared += 1
        return Work(compared, cut)

    def only(self, ends: Mapping[int, int]) -> None:
        """The document has each client's items up to these, and nothing else that was noted."""
        self._ends = {c: min(end, ends[c]) for c, end in self._ends.items() if c in ends}
        kept = self._ends
        self._starts = {item for item in self._starts if item[1] < kept.get(item[0], 0)}


def in_order(blocks: Sequence[Block]) -> Sequence[Block]:
    """The blocks of an update, those first that others refer to, otherwise those of the highest
    client, as in the updates that Yjs makes. An update has them client by client."""
    if not blocks or blocks[0].client == blocks[-1].client:
        return blocks
    clients = [block.client for block in blocks]
    if clients != sorted(clients, reverse=True):
        blocks = sorted(blocks, key=lambda block: -block.client)
    return blocks if all(map(is_by_itself, blocks)) else list(_in_order(blocks))


def _in_order(blocks: Sequence[Block]) -> Iterable[Block]:
    waiting: dict[int, deque[Block]] = {}
    ends: dict[int, int] = {}
    for block in blocks:
        waiting.setdefault(block.client, deque()).append(block)
        ends[block.client] = block.clock + block.length
    for first in list(waiting):
        # Whose blocks are wanted, up to which; no more of them, which may refer to those that
        # have not gone yet.
        wanted = {first: ends[first]}
        while wanted:
            client, last = next(reversed(wanted.items()))
            mine = waiting[client]
            if not mine or mine[0].clock > last:
                del wanted[client]
                continue
            block = mine[0]
            for item in (block.left, block.right, block.parent):
                # One that waits for itself, in a circle, goes first.
                if (
                    isinstance(item, tuple)
                    and item[0] not in wanted
                    and item[1] < ends.get(item[0], 0)
                    and (theirs := waiting[item[0]])
                    and item[1] >= theirs[0].clock
                ):
                    wanted[item[0]] = item[1]
                    break
            else:
                yield mine.popleft()


def is_by_itself(block: Block) -> bool:
    """Whether a block refers to none of another client."""
    client, _, _, _, left, right, parent, _ = block
    return (
        (left is None or left[0] == client)
        and (right is None or right[0] == client)
        and (parent.__class__ is not tuple or parent[0] == client)
    )
