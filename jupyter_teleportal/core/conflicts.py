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

from .errors import ForeignBytes
from .update_walk import Block, Deleted, Id

_Left = Id | tuple[str | Id, bytes]
"""An item, or the beginning of a shared type, or of one of its keys."""

COMPARE_S = 0.25e-6
"""The most that the library takes to pass one block, in seconds."""
MOVE_S = 0.1e-9
"""The same, to move one block."""
PASS_S = 2e-9
"""The same, to pass one character of the block that it cuts."""
WAIT_S = 1e-9
"""The same, times the clients whose blocks may wait for each other's, for each of them."""
FEW_CUTS = 4
"""To try an update takes longer than to pass a long text so many times, as for a click into it."""
MAX_WAITING = 20_000
"""Clients whose blocks wait for each other's in one update. At 90,000 the library overruns its
stack."""


class Work(NamedTuple):
    """What an update gives the library to do.

    Attributes:
        compared: so many items may have to be compared with others.
        cut: so many times a block may have to be cut.
        waiting: of so many clients, blocks may have to wait for others'.
    """

    compared: int
    cut: int
    waiting: int = 0

    def seconds(self, pieces: int, longest: int) -> float:
        """The longest that it can take.

        Args:
            pieces: how many blocks the library has in the document.
            longest: how many items the longest of them has.
        """
        of_cuts = self.cut * MOVE_S * pieces + max(0, self.cut - FEW_CUTS) * PASS_S * longest
        return self.compared * COMPARE_S * pieces + of_cuts + self.waiting**2 * WAIT_S


class Followers:
    """What was put last behind each item of a document: what comes next there has to have been put
    before it, or is compared with others. Where that is not known, it is taken to be compared.

    Attributes:
        pieces: how many blocks the library may have in the document.
        longest: how many items the longest of them may have.
    """

    def __init__(self, parent_of: Callable[[Id], str | Id | None]) -> None:
        """
        Args:
            parent_of: returns the shared type in which an item lies, other than under a key; None
                if that is not known.
        """
        self._parent_of = parent_of
        self.pieces = 0
        self.longest = 0
        self._ends: dict[int, int] = {}
        # Where each client's last run of items begins, each of which follows on the one before.
        self._run_starts: dict[int, int] = {}
        # Where blocks were cut.
        self._cuts: set[Id] = set()
        # The items that do not follow on the one before of their client.
        self._starts: set[Id] = set()
        # None: of several, it is not known which lies next to it.
        self._latest: dict[_Left, Id | None] = {}
        # How often anything was noted, and how often in the original when this was copied from it.
        self._noted = 0
        self._copied_at = -1

    def copy_for(self, blocks: Sequence[Block], deleted: Sequence[Deleted]) -> Followers:
        """What of the same concerns the blocks and the deletions of an update, in which to note
        them."""
        other = Followers(self._parent_of)
        other._copied_at = self._noted
        other.pieces, other.longest = self.pieces, self.longest
        ends, latest, starts, cuts = self._ends, self._latest, self._starts, self._cuts

        def concerned(place: _Left) -> None:
            if place in latest:
                other._latest[place] = latest[place]

        def begins(item: Id) -> None:
            if item in starts:
                other._starts.add(item)
            if item in cuts:
                other._cuts.add(item)

        for client, _, _, _, left, right, parent, key in blocks:
            end = ends.get(client, 0)
            concerned((client, end - 1))
            begins((client, end))
            if left is not None:
                concerned(left)
                begins((left[0], left[1] + 1))
            if right is not None:
                begins(right)
                if left is None and (lies_in := self._parent_of(right)) is not None:
                    concerned((lies_in, b""))
            if parent is not None:
                concerned((parent, key))
            for item in ((client, 0), left, right, parent):
                if isinstance(item, tuple) and item[0] in ends:
                    other._ends[item[0]] = ends[item[0]]
                    other._run_starts[item[0]] = self._run_starts.get(item[0], 0)
        for client, start, end in deleted:
            begins((client, start))
            begins((client, end))
        return other

    def adopt(self, other: Followers) -> bool:
        """Take over what was noted in a copy that was made for one update, and give the copy up.

        Returns:
            Whether it was taken over: not if anything was noted here meanwhile.
        """
        if other._copied_at != self._noted:
            return False
        self._noted += 1
        self.pieces, self.longest = other.pieces, other.longest
        self._ends.update(other._ends)
        self._run_starts.update(other._run_starts)
        self._cuts |= other._cuts
        self._starts |= other._starts
        self._latest.update(other._latest)
        return True

    def only_typed(self, blocks: Sequence[Block]) -> bool:
        """Whether each block follows on an item of its client behind which there is nothing, and
        was put before the beginning of a block."""
        ends, latest, starts, cuts = self._ends, self._latest, self._starts, self._cuts
        return all(
            block.left == (block.client, block.clock - 1)
            and block.left not in latest
            and ends.get(block.client, 0) <= block.clock
            and (block.right is None or block.right in cuts or block.right in starts)
            for block in blocks
        )

    def note_deleted(self, deleted: Sequence[Deleted]) -> int:
        """Note what an update deletes; return how many times a block may have to be cut."""
        self._noted += 1
        cuts = self._cuts
        before = len(cuts)
        for client, start, end in deleted:
            cuts.add((client, start))
            cuts.add((client, end))
        count = len(cuts) - before
        self.pieces += count
        return count

    def note(self, blocks: Sequence[Block]) -> Work:
        """Note the blocks of an update, in an order in which each builds on those before.

        Returns:
            What they may give the library to do.
        """
        self._noted += 1
        compared = cut = 0
        ends, latest, starts, cuts = self._ends, self._latest, self._starts, self._cuts
        run_starts = self._run_starts
        for client, clock, length, _, left, right, parent, key in blocks:
            start, end = clock, ends.get(client, 0)
            if start < end:
                if start + length <= end:
                    continue
                start, length, left, parent = end, start + length - end, (client, end - 1), None
            self.pieces += 1
            ends[client] = start + length
            if left is None or left[0] != client or left[1] != start - 1:
                run_starts[client] = start
            run = start + length - run_starts.get(client, 0)
            if run > self.longest:
                self.longest = run
            if right is not None and right not in cuts and right not in starts:
                cuts.add(right)
                cut += 1
                self.pieces += 1
            item = client, start
            if left is not None:
                follows_on = left[0] == client and left[1] == start - 1
                if left not in latest:
                    if follows_on:
                        continue
                    after = left[0], left[1] + 1
                    known = ends.get(left[0], 0)
                    starts.add(item)
                    if after[1] == known or after in starts:
                        latest[left] = item
                        continue
                    if after not in cuts:
                        cuts.add(after)
                        cut += 1
                        self.pieces += 1
                    there: Id | None = after if after[1] < known else None
                else:
                    there = latest[left]
                    if not follows_on:
                        starts.add(item)
                at: _Left | None = left
            else:
                starts.add(item)
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
                        latest[at] = item if is_known else None
                        continue
                    there = None
            if there is not None and right == there:
                assert at is not None
                latest[at] = item
                continue
            if at is not None:
                latest[at] = None
            compared += 1
        return Work(compared, cut)

    def only(self, ends: Mapping[int, int]) -> None:
        """The document has each client's items up to these, and nothing else that was noted."""
        self._noted += 1
        self._ends = {c: min(end, ends[c]) for c, end in self._ends.items() if c in ends}
        kept = self._ends
        self._cuts.clear()
        self._starts = {item for item in self._starts if item[1] < kept.get(item[0], 0)}


def in_order(blocks: Sequence[Block]) -> Sequence[Block]:
    """The blocks of an update, those first that others refer to, otherwise those of the highest
    client, as in the updates that Yjs makes. An update has them client by client.

    Raises:
        ForeignBytes: if too many clients' wait for each other's.
    """
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
                # It is the last one; to find the next, Python would pass all that were deleted.
                wanted.popitem()
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
                    if len(wanted) > MAX_WAITING:
                        raise ForeignBytes(
                            f"more than {MAX_WAITING} clients' items wait for each other's"
                        )
                    break
            else:
                yield mine.popleft()


def waiting(blocks: Sequence[Block]) -> int:
    """Of how many clients blocks may have to wait for others of the update."""
    if not blocks or blocks[0].client == blocks[-1].client:
        return 0
    return len({block.client for block in blocks if not is_by_itself(block)})


def is_by_itself(block: Block) -> bool:
    """Whether a block refers to none of another client."""
    client, _, _, _, left, right, parent, _ = block
    return (
        (left is None or left[0] == client)
        and (right is None or right[0] == client)
        and (parent.__class__ is not tuple or parent[0] == client)
    )
