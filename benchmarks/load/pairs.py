"""Documents with a writer on one server and readers on another."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycrdt import Array, Doc

from .client import Client, Opening
from .door import Entrance, Scene
from .edits import clock_of
from .notebooks import as_update, write_file

POLL_SECONDS = 0.01
ENOUGH = 0.95
"""A document that has this share of its bytes is taken for whole: servers encode it anew."""


class TimedOut(Exception):
    """Something that was waited for did not come; the text says what."""


async def until(
    condition: Callable[[], bool], timeout: float, what: str, poll: float = POLL_SECONDS
) -> None:
    """Wait until `condition` holds.

    Args:
        timeout: seconds to wait at most.
        what: what is waited for, for the error.

    Raises:
        TimedOut: if it does not.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {timeout:g} s in vain for {what}")
        await asyncio.sleep(poll)


@dataclass
class Pair:
    """A document with one writer on A, and readers on B."""

    document: str
    author: int
    writer: Client
    readers: list[Client]

    @property
    def reader(self) -> Client:
        return self.readers[0]

    @property
    def written(self) -> int:
        assert self.writer.pen is not None
        return self.writer.pen.written

    @property
    def arrived(self) -> int:
        """So many edits have reached every reader."""
        return min(reader.seen for reader in self.readers)

    @property
    def in_flight(self) -> int:
        return self.written - self.arrived

    def close(self) -> None:
        for client in (self.writer, *self.readers):
            client.close()


def document_name(scene: Scene, stem: str) -> str:
    return f"{stem}.ipynb" if scene.folder is not None else stem


def author_ids(seed: int) -> Callable[[], int]:
    """Return a function that gives client ids as Yjs does: 32 random bits."""
    chance = random.Random(seed)
    return lambda: chance.getrandbits(32) | 1 << 31


def place(scene: Scene, stem: str, size: int = 0) -> str:
    """Make a notebook of `size` bytes, if it is a file; return its document's name."""
    document = document_name(scene, stem)
    if scene.folder is not None:
        write_file(Path(scene.folder) / document, size)
    return document


async def open_writer(
    scene: Scene, document: str, author: int, timeout: float, size: int = 0
) -> tuple[Client, Opening]:
    """Open a document on A to write in it; bring its content where it is no file.

    Raises:
        ConnectionError: if the server does not let the client in.
        asyncio.TimeoutError: after `timeout` seconds.
    """
    writer = Client(scene.here, document)
    opening = await writer.open(timeout)
    if scene.folder is None:
        writer.content = as_update(size)
        if scene.keeps_documents:
            writer.send_update(writer.content)
            await _has_taken(scene, document, len(writer.content), timeout)
    writer.take_pen(author)
    writer.forget()
    return writer, opening


async def _has_taken(scene: Scene, document: str, size: int, timeout: float) -> None:
    """Wait until server A gives a document of `size` bytes to whoever comes."""
    late = Client(scene.here, document)
    try:
        await late.open(timeout, at_least=round(ENOUGH * size))
    finally:
        late.close()


async def open_reader(
    entrance: Entrance, document: str, author: int, timeout: float, at_least: int = 0
) -> tuple[Client, Opening]:
    """Open a document to count what its author writes.

    Args:
        at_least: bytes that the document has.

    Raises:
        ConnectionError: if the server does not let the client in.
        asyncio.TimeoutError: after `timeout` seconds.
    """
    reader = Client(entrance, document)
    reader.watch(author)
    opening = await reader.open(timeout, at_least)
    reader.forget()
    return reader, opening


async def open_pair(
    scene: Scene, stem: str, author: int, timeout: float, *, readers: int = 1, size: int = 0
) -> Pair:
    """Make a document, and open it on A to write and on B to read."""
    document = place(scene, stem, size)
    writer, _ = await open_writer(scene, document, author, timeout, size)
    opened = await asyncio.gather(
        *(open_reader(scene.there, document, author, timeout) for _ in range(readers))
    )
    return Pair(document, author, writer, [reader for reader, _ in opened])


async def settle(pairs: Sequence[Pair], timeout: float) -> None:
    """Wait until everything that was written has arrived.

    Raises:
        TimedOut: saying how much has not.
    """

    def missing() -> int:
        return sum(pair.in_flight for pair in pairs)

    try:
        await until(lambda: not missing(), timeout, "the last edits")
    except TimedOut as error:
        total = sum(pair.written for pair in pairs)
        raise TimedOut(f"{error}: {missing()} of {total} are not there") from None


async def check(scene: Scene, pairs: Sequence[Pair], timeout: float) -> list[str]:
    """Compare what somebody who comes now gets, on every server, with what was written.

    Returns:
        What is wrong, in words.
    """
    wrong: list[str] = []
    for pair in pairs:
        for client in (pair.writer, *pair.readers):
            if client.lost is not None:
                wrong.append(f"{pair.document}: a connection was lost: {client.lost}")
            if client.counter is not None and client.counter.gaps:
                wrong.append(f"{pair.document}: {client.counter.gaps} edits came out of order")
        if not scene.keeps_documents:
            continue
        for number, entrance in enumerate(scene.entrances):
            where = f"{pair.document} on server {'ABCDEFGH'[number]}"
            late = Client(entrance, pair.document)
            try:
                await late.open(timeout)
                wrong += [f"{where} {text}" for text in _compare(late.content, pair)]
            except (OSError, asyncio.TimeoutError) as error:
                wrong.append(f"{where} cannot be opened any more: {error!r}")
            finally:
                late.close()
    return wrong


def _compare(content: bytes, pair: Pair) -> list[str]:
    doc: Doc[Any] = Doc()
    doc.apply_update(content)
    clock = clock_of(doc.get_state(), pair.author)
    if clock != pair.written:
        return [f"holds {clock} of {pair.written} edits"]
    cells = doc.get("cells", type=Array)
    length = len(str(cells[0]["source"])) if len(cells) else 0
    return [] if length == pair.written else [f"shows {length} of {pair.written} characters"]
