"""Reads the entries of a log, in a thread if they are many, and tries what takes long to merge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pycrdt import Doc

from ..core.crdt import NOTHING, UNTRIED_MAX_S, Door, refuse
from ..core.envelopes import inflated_within
from ..core.log_decoding import Decoded, admitted, decoded_log
from ..core.update_walk import Blocks, read_state
from ..core.values import LogRead
from .threads import WALK_HERE_BYTES
from .trial import FROM_LOG_MAX_S, TOO_LONG, Trials, Verdict, tried

BLOCKS_AT_ONCE = 50_000
WEIGHED_HERE = 1000
"""So many blocks are weighed on the event loop."""

_Result = TypeVar("_Result")


async def read_entries(
    read: LogRead, doc: Doc[Any], door: Door, trials: Trials, *, fresh: bool
) -> tuple[list[Decoded], Door | None]:
    """Return what of a log may come into a document, and what is wrong with the rest.

    Args:
        read: what was read of the log.
        doc: the document.
        door: the document's door.
        trials: tries what takes long to merge.
        fresh: whether the entries are the first that come into the document.

    Returns:
        The entries, or as many as are taken in at once; and the door that they have passed, if
        they are the first that come into the document.
    """
    state = doc.get_state() if fresh else NOTHING

    def decode() -> list[Decoded]:
        return decoded_log(read, BLOCKS_AT_ONCE if read.contiguous else None)

    def admit(entries: Sequence[Decoded]) -> tuple[list[Decoded], Door]:
        new = Door()
        new.known.note(read_state(state))
        return admitted(entries, new), new

    def decode_and_admit() -> tuple[list[Decoded], list[Decoded], Door]:
        entries = decode()
        return entries, *admit(entries)

    if fresh:
        entries, found, new = await _off_loop(read, decode_and_admit)
        if new.untried_s > UNTRIED_MAX_S:
            verdict = await _try(entries, found, doc, trials)
            found, new = await asyncio.to_thread(admit, entries)
            new.tried((), full=verdict.full)
        return found, new
    entries = await _off_loop(read, decode)
    blocks = Blocks.together([entry.blocks for entry in entries])
    if len(blocks) < WEIGHED_HERE:
        dear = door.is_dear(blocks)
    else:
        dear = await asyncio.to_thread(door.is_dear, blocks)
    if dear and not door.broken:
        state = doc.get_state()
        found, _ = await asyncio.to_thread(admit, entries)
        verdict = await _try(entries, found, doc, trials)
        door.tried((entry.update for entry in entries), full=verdict.full)
    return entries, None


async def _off_loop(read: LogRead, work: Callable[[], _Result]) -> _Result:
    if inflated_within(read.payloads, WALK_HERE_BYTES) is not None:
        return work()
    return await asyncio.to_thread(work)


async def _try(
    entries: Sequence[Decoded], admitted: Sequence[Decoded], doc: Doc[Any], trials: Trials
) -> Verdict:
    """Try entries, of which those that lack nothing were `admitted` in this order, in parts. What
    takes too long is refused from now on."""
    may_come_in = [one for one in admitted if one.error is None and one.lacks is None]
    held = doc.get_update()

    def all_of_it() -> list[Any]:
        return [tried(update) for update in (held, *(one.update for one in may_come_in))]

    first, *others = await asyncio.to_thread(all_of_it)
    try:
        verdict = await trials.run(first, others, FROM_LOG_MAX_S)
    except OSError:
        # Where nothing can be tried, people work on all the same.
        return Verdict(frozenset(), 0.0)
    whole = {entry.offset: entry.update for entry in entries}
    for number in verdict.refused:
        refuse(whole[may_come_in[number].offset], TOO_LONG)
    return verdict
