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
from typing import Any, NoReturn, ParamSpec, TypeVar

import pycrdt
from pycrdt import Awareness, Doc

from .completeness import Known, Waiting
from .errors import DocumentBroken, ForeignBytes
from .places import Places
from .update_walk import Block, Id, cut, read_awareness, read_state, read_update

EMPTY_UPDATE = b"\x00\x00"
MERGED_AT_ONCE = 50
NOTHING = b"\x00"
"""The state vector of an empty document."""
_PANICS_REMEMBERED = 1000

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_panicked: OrderedDict[bytes, None] = OrderedDict()
"""Digests of updates on which the library has panicked in this process, the latest last."""


class Door:
    """What comes into one document: it knows where that has its items.

    Attributes:
        broken: whether the library has panicked in the document, which is not touched any more.
    """

    def __init__(self, state: Callable[[], bytes] | None = None) -> None:
        """
        Args:
            state: returns the document's state vector. Without it only what has passed here is
                taken to be in the document.
        """
        self.broken = False
        self.known = Known(state)
        self._places = Places()

    def sift(self, update: bytes, blocks: Sequence[Block] | None = None) -> tuple[bytes, Id | None]:
        """Make sure that a foreign update can be applied to the document, and return what of it can
        be applied now, which is then expected to be. The library is never given what would have to
        wait for something else.

        Args:
            update: the update.
            blocks: its blocks, if it was read already.

        Returns:
            The update, or the part of it that builds on nothing that the document has not; and the
            first item that it lacks, None if that is all of it.

        Raises:
            ForeignBytes: saying what is wrong with it.
            DocumentBroken: if nothing is applied to the document any more.
        """
        if blocks is None:
            blocks = read_update(update)
        reached = self.known.reach(blocks)
        if reached.lacks is not None:
            # Those of updates that became one may be parts of the blocks that are in it now.
            blocks = read_update(update)
            reached = self.known.reach(blocks)
        if reached.lacks is not None:
            taken = reached.taken
            blocks = [b for b in blocks if b.clock + b.length <= taken.get(b.client, 0)]
            update = cut(update, taken)
        self.check(update, blocks)
        self.known.note(reached.ends)
        return update, reached.lacks

    def take(
        self, doc: Doc[Any], update: bytes, blocks: Sequence[Block] | None = None
    ) -> Id | None:
        """Apply what of a foreign update can be applied now; return the first item that it lacks.

        Raises:
            ForeignBytes: if it may not come in, or the library refuses it.
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
            DocumentBroken: if nothing is applied to the document any more.
        """
        if self.broken:
            raise DocumentBroken("the CRDT library has failed in this document before")
        if _panicked and _digest(update) in _panicked:
            raise ForeignBytes("the CRDT library has failed on this update before")
        self._places.admit(read_update(update) if blocks is None else blocks)

    def unapplied(self) -> None:
        """What has passed since was not applied after all."""
        self.known.only(NOTHING)

    def learn(self, blocks: Sequence[Block]) -> None:
        """Note what the document holds that is this server's own.

        Raises:
            ForeignBytes: if nobody else would let it in.
        """
        self._places.admit(blocks)

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
            _remember(update)
        else:
            # Not all of it is there.
            self.known.only(doc.get_state())


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
        _remember(update)
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


def _remember(update: bytes) -> None:
    _panicked[_digest(update)] = None
    if len(_panicked) > _PANICS_REMEMBERED:
        _panicked.popitem(last=False)


def _digest(update: bytes) -> bytes:
    return hashlib.sha256(update).digest()
