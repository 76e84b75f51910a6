"""Tries in another process how long the CRDT library takes to merge updates.

The library cannot be interrupted, and keeps its process from anything else meanwhile; another
process can be ended. That one begins with what the document holds, takes one update after the other
and says how much longer each took than others of its size do. What might take long is first taken
by a copy of it, which is ended if it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeVar

from pycrdt import Doc

from ..core.conflicts import COMPARE_S, PASS_S
from ..core.crdt import Door, apply
from ..core.errors import ForeignBytes, Untried
from ..core.update_walk import read_update
from .threads import off_loop

FROM_CLIENT_MAX_S = 0.15
"""So much longer than usual the library may take for a document with what a client sends into
it."""
FROM_LOG_MAX_S = 0.3
"""The same for a log: what another server has let in, on another machine, is let in here."""

BLOCK_S = 1e-6
"""So long the library takes at most for a block that is compared with nothing."""
BYTE_S = 2e-9
COPY_S = 0.01
"""What takes it longer than this at worst is first taken by a copy."""
LITTLE_S = 0.001
"""So much longer than usual an update may take whatever others have taken."""
TIMEOUT_S = 60.0
TOO_LONG = "to merge it takes the CRDT library too long: it puts too many items at one place"
_NICENESS = 5
_REFUSED, _NO_COPY = b"-", b"!"
_START = (
    "import sys; sys.path[:] = {path!r}; from jupyter_teleportal.sync.trial import main; "
    "main(sys.stdin.buffer)"
)

_Result = TypeVar("_Result")


class Tried(NamedTuple):
    """An update to try.

    Attributes:
        update: the update, which has passed the door.
        parts: how many blocks it has, and ranges that it deletes.
    """

    update: bytes
    parts: int


def tried(update: bytes) -> Tried:
    """An update, which was checked, to try."""
    blocks = read_update(update)
    return Tried(update, len(blocks) + len(blocks.deleted))


class Verdict(NamedTuple):
    """What was found out.

    Attributes:
        refused: the numbers of the updates that should not come in.
        spent_s: how much longer what the document holds and the others take than updates of their
            size, together, in seconds of processor time.
    """

    refused: frozenset[int]
    spent_s: float

    @property
    def full(self) -> bool:
        """Whether whatever comes has to be tried from now on."""
        return self.spent_s > FROM_CLIENT_MAX_S / 2


class Trials:
    """The trials of one server, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore()

    async def through(
        self,
        door: Callable[[], Door],
        doc: Doc[Any],
        update: bytes,
        enter: Callable[[], _Result],
    ) -> _Result:
        """Bring an update through a door, and try it if it has to be tried first.

        Args:
            door: returns the document's door, which may be another one after a trial.
            doc: the document.
            update: the update.
            enter: brings it to the door.

        Returns:
            What `enter` returns.

        Raises:
            ForeignBytes: if it should not come in.
        """
        while True:
            try:
                return enter()
            except Untried:
                await self.let_in(door(), doc, update)

    async def let_in(self, door: Door, doc: Doc[Any], update: bytes) -> None:
        """Try an update that the door takes to be dear, so that it lets it in.

        Raises:
            ForeignBytes: if it should not come in.
        """
        held = doc.get_update()
        try:
            verdict = await self.run(
                await off_loop(len(held), tried, held),
                [await off_loop(len(update), tried, update)],
                FROM_CLIENT_MAX_S,
            )
        except OSError:
            # Where nothing can be tried, people work on all the same.
            verdict = Verdict(frozenset(), 0.0)
        if verdict.refused:
            raise ForeignBytes(TOO_LONG)
        door.tried([update], full=verdict.full)

    async def run(self, held: Tried, updates: Sequence[Tried], most_s: float) -> Verdict:
        """Try updates, in an order in which each builds on those before.

        Args:
            held: what the document holds.
            updates: what is to come in.
            most_s: so much longer than others of their size they may take together, in seconds of
                processor time.

        Returns:
            What was found out. What could not be tried in time is refused if it might take long.

        Raises:
            OSError: if no process can be started.
        """
        async with self._turn:
            said = await _said_of([held, *updates], most_s)
        if _NO_COPY in said:
            raise OSError("the process that tries updates cannot be copied")
        took = [None if word == _REFUSED else float(word) for word in said]
        refused = {number for number, spent in enumerate(took[1:]) if spent is None}
        parts = held.parts + sum(one.parts for one in updates)
        size = len(held.update) + sum(len(one.update) for one in updates)
        for number in range(max(0, len(took) - 1), len(updates)):
            if _worst_s(updates[number].parts, parts, size) > COPY_S:
                refused.add(number)
        spent_s = sum(spent for spent in took if spent is not None) if took else most_s
        return Verdict(frozenset(refused), spent_s)


async def _said_of(all_of_it: Sequence[Tried], most_s: float) -> list[bytes]:
    """What the other process says of each: how long it took, or that it should not come in."""
    process = await asyncio.create_subprocess_exec(
        sys.executable or "",
        "-c",
        _START.format(path=sys.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: list[bytes] = []

    async def give(into: asyncio.StreamWriter) -> None:
        shape = {"most": most_s, "of": [[len(update), parts] for update, parts in all_of_it]}
        # What ends early does not read all of it.
        with contextlib.suppress(ConnectionError):
            into.write(json.dumps(shape).encode() + b"\n")
            for one in all_of_it:
                into.write(one.update)
                await into.drain()

    async def hear(out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            said.append(line.strip())

    async def talk(into: asyncio.StreamWriter, out: asyncio.StreamReader) -> None:
        # It does not read on if nobody hears what it says.
        await asyncio.gather(give(into), hear(out))

    try:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(talk(process.stdin, process.stdout), TIMEOUT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdin.close()
        await process.wait()
    return said


def main(given: BinaryIO) -> None:
    """Take updates, and say of each in a line how much longer it took than others of its size do,
    in seconds, or `-` if it should not come in; `!` at the end if that cannot be found out."""
    os.nice(_NICENESS)
    shape = json.loads(given.readline())
    doc: Doc[Any] = Doc()
    spent = 0.0
    parts_so_far = size_so_far = 0
    for number, (size, parts) in enumerate(shape["of"]):
        update = given.read(size)
        usual = parts * BLOCK_S + size * BYTE_S
        most = max(shape["most"] - spent, LITTLE_S)
        parts_so_far += parts
        size_so_far += size
        dear = _worst_s(parts, parts_so_far, size_so_far) > COPY_S
        try:
            comes_in = not number or not dear or _copy_takes(doc, update, usual + most)
        except OSError:
            print(_NO_COPY.decode(), flush=True)
            return
        if not comes_in:
            print(_REFUSED.decode(), flush=True)
            continue
        took = max(0.0, _seconds(doc, update) - usual)
        spent += took
        print(took, flush=True)


def _worst_s(parts: int, parts_of_all: int, size_of_all: int) -> float:
    """How long the library takes at worst for so many blocks and ranges of a document."""
    return parts * (parts_of_all * COMPARE_S + size_of_all * PASS_S)


def _copy_takes(doc: Doc[Any], update: bytes, most: float) -> bool:
    """Whether a copy of this process takes the update within so many seconds."""
    copy = os.fork()
    if not copy:
        # Ends this process, also within the library.
        signal.setitimer(signal.ITIMER_PROF, most)
        _seconds(doc, update)
        os._exit(0)
    return os.waitpid(copy, 0)[1] == 0


def _seconds(doc: Doc[Any], update: bytes) -> float:
    began = time.process_time()
    with contextlib.suppress(ForeignBytes):
        apply(doc, update)
    return time.process_time() - began
