"""The door: the one module that lets the CRDT library read foreign bytes.

Whatever comes from a browser, from a transport, from a note beside a file or with a query is bytes
of somebody else. The library panics, overruns its stack or takes all memory on some of them, so
they are walked over first (`update_walk`, `places`), and its panics and errors become one error.

Bytes that this process has made (a seed, what a document's observer is handed) need no check.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

import pycrdt
from pycrdt import Awareness, Doc

from .completeness import Known, Waiting
from .conflicts import Followers, Work, in_order, waiting
from .errors import DocumentBroken, ForeignBytes, Untried
from .places import Places
from .update_walk import Block, Blocks, Deleted, Id, cut, read_awareness, read_state, read_update

EMPTY_UPDATE = b"\x00\x00"
MERGED_AT_ONCE = 50
NOTHING = b"\x00"
"""The state vector of an empty document."""
UNTRIED_MAX_S = 0.15
"""So long the library may take, at worst, with what has not been tried in another process."""
_LITTLE_S = 1e-4
"""What takes it less at worst is not tried, whatever has come before."""
_REMEMBERED = 1000
_PANICKED = "the CRDT library has failed on this update before"

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_refused: OrderedDict[bytes, str] = OrderedDict()
"""Digests of updates that the library is not given again in this process, and why, the latest
last."""


class _Weighed(NamedTuple):
    """An update that was weighed last."""

    blocks: Sequence[Block]
    followers: Followers
    work: Work


class Door:
    """What comes into one document: it knows where that has its items.

    Attributes:
        broken: whether the library has panicked in the document, which is not touched any more.
        limited: whether it refuses what has to be tried first.
        untried_s: so long, at worst, the library takes to merge what was not tried.
    """

    def __init__(self, state: Callable[[], bytes] | None = None, *, limited: bool = False) -> None:
        """
        Args:
            state: returns the document's state vector. Without it only what has passed here is
                taken to be in the document.
            limited: whether it refuses what has to be tried first.
        """
        self.broken = False
        self.known = Known(state)
        self.untried_s = 0.0
        self.limited = limited
        self._places = Places()
        self._followers = Followers(self._places.parent_of)
        self._tried: set[bytes] = set()
        self._weighed: _Weighed | None = None

    def sift(
        self, update: bytes, blocks: Sequence[Block] | None = None, *, weighed: bool = False
    ) -> tuple[bytes, Id | None]:
        """Make sure that a foreign update can be applied to the document, and return what of it can
        be applied now, which is then expected to be. The library is never given what would have to
        wait for something else.

        Args:
            update: the update.
            blocks: its blocks, if it was read already.
            weighed: whether it was made sure that it need not be tried, or was.

        Returns:
            The update, or the part of it that builds on nothing that the document has not; and the
            first item that it lacks, None if that is all of it.

        Raises:
            ForeignBytes: saying what is wrong with it.
            Untried: if it has to be tried first.
            DocumentBroken: if nothing is applied to the document any more.
        """
        if blocks is None:
            blocks = read_update(update)
        tried = self._look(update, blocks, weighed=weighed)
        reached = self.known.reach(blocks)
        if reached.lacks is not None:
            # Those of updates that became one may be parts of the blocks that are in it now.
            blocks = read_update(update)
            reached = self.known.reach(blocks)
        if reached.lacks is not None:
            taken = reached.taken
            blocks = [b for b in blocks if b.clock + b.length <= taken.get(b.client, 0)]
            update = cut(update, taken)
        self._let_in(blocks, tried)
        self.known.note(reached.ends)
        return update, reached.lacks

    def take(
        self, doc: Doc[Any], update: bytes, blocks: Sequence[Block] | None = None
    ) -> Id | None:
        """Apply what of a foreign update can be applied now; return the first item that it lacks.

        Raises:
            ForeignBytes: if it may not come in, or the library refuses it.
            Untried: if it has to be tried first.
            DocumentBroken: if the library has panicked, now or before.
        """
        part, lacks = self.sift(update, blocks)
        if part != EMPTY_UPDATE:
            self.apply(doc, part)
        return lacks

    def check(self, update: bytes, blocks: Sequence[Block] | None = None) -> None:
        """Make sure that a foreign update can be applied to the document, which is then expected.

        Args:
            update: the update.
            blocks: its blocks, if it was read already.

        Raises:
            ForeignBytes: saying what is wrong with it.
            Untried: if it has to be tried first.
            DocumentBroken: if nothing is applied to the document any more.
        """
        if blocks is None:
            blocks = read_update(update)
        self._let_in(blocks, self._look(update, blocks))

    def _look(self, update: bytes, blocks: Sequence[Block], *, weighed: bool = False) -> bool:
        """Whether the update was tried; raises what `check` raises without noting anything."""
        if self.broken:
            raise DocumentBroken("the CRDT library has failed in this document before")
        if _refused and (reason := _refused.get(_digest(update))) is not None:
            raise ForeignBytes(reason)
        if self._tried and _digest(update) in self._tried:
            return True
        if self.limited and not weighed and self.is_dear(blocks):
            raise Untried("how long the CRDT library takes with it has to be tried first")
        return False

    def _let_in(self, blocks: Sequence[Block], tried: bool) -> None:
        followers = self._followers
        work = self._note(blocks, self._places.admit(blocks))
        if not tried and any(work):
            self.untried_s += work.seconds(followers.pieces, followers.longest)

    def is_dear(self, blocks: Sequence[Block]) -> bool:
        """Whether an update might make the library take so long that it has to be tried in another
        process first, or be refused."""
        followers = self._followers
        deleted = _deleted(blocks)
        if not deleted and followers.only_typed(blocks):
            return False
        count = len(blocks) + len(deleted)
        length = sum([block.length for block in blocks])
        most = Work(len(blocks), 2 * count, len(blocks))
        most_s = most.seconds(followers.pieces + 3 * count, followers.longest + length)
        if self.untried_s + most_s <= UNTRIED_MAX_S:
            return False
        followers = followers.copy_for(blocks, deleted)
        try:
            ordered = in_order(blocks)
        except ForeignBytes:
            return True  # one of several log entries may be why
        work = _work(followers, blocks, ordered)
        self._weighed = _Weighed(blocks, followers, work)
        spent_s = work.seconds(followers.pieces, followers.longest)
        return spent_s > _LITTLE_S and self.untried_s + spent_s > UNTRIED_MAX_S

    def allow(self, update: bytes) -> None:
        """Let an update in without its being tried."""
        if len(self._tried) > _REMEMBERED:
            self._tried.clear()
        self._tried.add(_digest(update))

    def tried(self, updates: Iterable[bytes], *, full: bool) -> None:
        """These updates, and all that is in the document, were tried and may come in; `full`: to
        merge all of that takes so long that whatever comes has to be tried."""
        for update in updates:
            self.allow(update)
        self.untried_s = UNTRIED_MAX_S if full else 0.0

    def unapplied(self) -> None:
        """What has passed since was not applied after all."""
        self.known.only(NOTHING)
        self._followers.only({})

    def learn(self, blocks: Sequence[Block]) -> None:
        """Note what the document holds that is this server's own.

        Raises:
            ForeignBytes: if nobody else would let it in.
        """
        self._note(blocks, self._places.admit(blocks))

    def _note(self, blocks: Sequence[Block], ordered: Sequence[Block]) -> Work:
        weighed, self._weighed = self._weighed, None
        # A hundred thousand fields take 0.1 s to note, but 0.01 s to take over.
        if (
            weighed is not None
            and weighed.blocks is blocks
            and self._followers.adopt(weighed.followers)
        ):
            return weighed.work
        return _work(self._followers, blocks, ordered)

    def apply(self, doc: Doc[Any], update: bytes) -> None:
        """Apply an update that was checked to the document.

        Raises:
            ForeignBytes: if the library refuses it; what it has taken before stays.
            DocumentBroken: if the library has panicked.
        """
        try:
            # The document's observers are told at the end of the transaction, and must know by
            # then.
            with doc.transaction():
                try:
                    doc.apply_update(update)
                except BaseException as error:
                    self._failed(doc, update, error)
                    raise
        except BaseException as error:  # noqa: BLE001 (raised again)
            raise_as_one(error)

    def _failed(self, doc: Doc[Any], update: bytes, error: BaseException) -> None:
        if is_panic(error):
            self.broken = True
            refuse(update, _PANICKED)
        else:
            # Not all of it is there.
            state = doc.get_state()
            self.known.only(state)
            self._followers.only(read_state(state))


def _deleted(blocks: Sequence[Block]) -> Sequence[Deleted]:
    return blocks.deleted if isinstance(blocks, Blocks) else ()


def _work(followers: Followers, blocks: Sequence[Block], ordered: Sequence[Block]) -> Work:
    """Note the blocks and the deletions of an update; return what they may give the library to
    do."""
    work = followers.note(ordered)
    cut = followers.note_deleted(_deleted(blocks))
    return Work(work.compared, work.cut + cut, waiting(blocks))


def check_update(update: bytes) -> None:
    """Make sure of a foreign update that is not applied to a document that is here already.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    Door().check(update)


def apply(doc: Doc[Any], update: bytes) -> None:
    """Apply an update that was checked.

    Raises:
        ForeignBytes: if the library refuses it; what it has taken before stays.
        DocumentBroken: if the library has panicked. `doc` must not be touched again.
    """
    try:
        guarded(doc.apply_update, update)
    except DocumentBroken:
        refuse(update, _PANICKED)
        raise


def document(*updates: bytes, doc: Doc[Any] | None = None) -> Doc[Any]:
    """Return a document that holds these foreign updates; `doc`, if it is given. What the library
    refuses of an update that may come in is left out, as in a room, and what lacks something.

    Raises:
        ForeignBytes: if one of them may not come in, or the library has panicked.
    """
    made: Doc[Any] = Doc() if doc is None else doc
    door = Door(made.get_state)
    sieve = Sieve(door)
    for update in updates:
        for part in sieve.put(update):
            _apply_as_far_as_possible(made, door, part)
    return made


def folded(updates: Iterable[bytes]) -> bytes | None:
    """Return one update that stands for all of these foreign ones that may come in, without what
    was deleted among them; None if there are none.

    What lacks something is in it too, so that it can be folded together with what comes later; but
    not if what was forged makes it one that may not come in.

    Raises:
        DocumentBroken: if the library has panicked.
    """
    together: Doc[Any] = Doc()
    door = Door(together.get_state)
    sieve = Sieve(door)
    for update in updates:
        with contextlib.suppress(ForeignBytes):
            for part in sieve.put(update):
                _apply_as_far_as_possible(together, door, part)
    whole, state = together.get_update(), together.get_state()
    try:
        found = merge([whole, *(beyond(update, state) for update in sieve.left())])
        Door().sift(found)
    except ForeignBytes:
        found = whole
    return None if found == EMPTY_UPDATE else found


def _apply_as_far_as_possible(doc: Doc[Any], door: Door, update: bytes) -> None:
    try:
        door.apply(doc, update)
    except DocumentBroken:
        raise
    except ForeignBytes:
        pass  # what a room says of it, it says when it reads it


class Sieve:
    """Puts foreign updates for one document into an order in which each builds on those before."""

    def __init__(self, door: Door) -> None:
        """
        Args:
            door: the door that they pass.
        """
        self._door = door
        self._waiting: Waiting[bytes] = Waiting()
        self._gone: list[bytes] = []
        self._count = 0

    def put(self, update: bytes) -> Iterator[bytes]:
        """Yield what can be applied now of an update and of those that have waited for it. Each
        has to be applied before the next one is asked for.

        Raises:
            ForeignBytes: if it may not come in.
        """
        yield from self._sift(update)
        while coming := self._waiting.ready(self._door.known):
            for one in coming:
                with contextlib.suppress(ForeignBytes):
                    yield from self._sift(one)

    def _sift(self, update: bytes) -> Iterator[bytes]:
        part, lacks = self._door.sift(update)
        if lacks is not None:
            self._count += 1
            gone = self._waiting.add(str(self._count), update, lacks, len(update))
            self._gone += [old for _, old, _ in gone]
        if part != EMPTY_UPDATE:
            yield part

    def left(self) -> list[bytes]:
        """The updates that lack something, whole."""
        names = [(name, self._waiting.remove(name)) for name in list(self._waiting)]
        return self._gone + [found[0] for _, found in names if found is not None]


def merge(updates: Sequence[bytes]) -> bytes:
    """Return one update that stands for all of these, which were checked; there is at least one.

    Raises:
        ForeignBytes: if they cannot be merged.
    """
    merged = list(updates)
    while len(merged) > 1:
        # The library takes four times as long for twice as many.
        merged = [
            merged[start]
            if start + 1 == len(merged)
            else guarded(pycrdt.merge_updates, *merged[start : start + MERGED_AT_ONCE])
            for start in range(0, len(merged), MERGED_AT_ONCE)
        ]
    return merged[0]


def state_of(update: bytes) -> bytes:
    """Return the state vector of an update that was checked.

    Raises:
        ForeignBytes: if the library cannot read it.
    """
    return guarded(pycrdt.get_state, update)


def covers(state: bytes, other: bytes) -> bool:
    """Whether a document with the state vector `state` has all items that one with `other` has.

    Raises:
        ForeignBytes: if one of them cannot be read.
    """
    clocks = read_state(state)
    return all(clocks.get(client, 0) >= clock for client, clock in read_state(other).items())


def beyond(update: bytes, state: bytes) -> bytes:
    """Return what an update that was checked has beyond a state vector that was.

    Raises:
        ForeignBytes: if the library cannot read them.
    """
    return guarded(pycrdt.get_update, update, state)


def apply_awareness(
    awareness: Awareness, update: bytes, origin: Any, states: dict[int, Any] | None = None
) -> dict[int, Any]:
    """Apply a foreign awareness update.

    Args:
        awareness: what it is applied to.
        update: the update.
        origin: what observers are told that it comes from.
        states: what is in it, if it was read already.

    Returns:
        The states in it by client, None for who has left.

    Raises:
        ForeignBytes: saying what is wrong with it.
    """
    if states is None:
        states = read_awareness(update)
    guarded(awareness.apply_awareness_update, update, origin)
    return states


def guarded(
    call: Callable[_Given, _Result], *args: _Given.args, **keywords: _Given.kwargs
) -> _Result:
    """Return what the library's `call` returns.

    Raises:
        ForeignBytes: if the library refuses what it was given.
        DocumentBroken: if it has panicked.
    """
    try:
        return call(*args, **keywords)
    except BaseException as error:  # noqa: BLE001 (raised again)
        raise_as_one(error)


def raise_as_one(error: BaseException) -> NoReturn:
    """Raise what an error means that the library has raised.

    Raises:
        ForeignBytes: if the library refuses what it was given.
        DocumentBroken: if it has panicked.
        BaseException: the error itself, if it is none of the library's.
    """
    if is_panic(error):
        raise DocumentBroken(f"the CRDT library has failed: {error}") from None
    if isinstance(error, ValueError | RuntimeError | IndexError) and not isinstance(
        error, ForeignBytes
    ):
        raise ForeignBytes(str(error)) from error
    raise error


def is_panic(error: BaseException) -> bool:
    """Whether `error` is a panic of the library, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


def refuse(update: bytes, reason: str) -> None:
    """Let nobody in this process give the library this update again."""
    _refused[_digest(update)] = reason
    if len(_refused) > _REMEMBERED:
        _refused.popitem(last=False)


def _digest(update: bytes) -> bytes:
    return hashlib.sha256(update).digest()
