"""What other servers say of where documents are now, believed once the folder shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from enum import Enum, auto

from ..core.document_ids import Claim
from ..transports.base import loop_time

BELIEVED_WITHIN_S = 60.0
"""So long it may take until a network file system shows a server what another one has done."""
DOUBTED_AFTER_S = 3.0
"""So long it usually takes at most."""


Missing = Callable[[str, str, Collection[str]], Awaitable[set[str]]]


class Look(Enum):
    """What is at a path where a document was."""

    GONE = auto()
    THERE = auto()
    """The document's file, as this server knew it, or as another one has noted beside it."""
    OTHER = auto()
    """A file that this server does not know."""
    CLOSED = auto()
    """A file, of a document that nobody has open on this server."""


class Claims:
    """Claims that the folder does not show yet: looked at again and again for a while.

    There is at most one for each document, the last one.
    """

    def __init__(
        self,
        look: Callable[[str, str, str], Awaitable[Look]],
        believe: Callable[[Claim], object],
        doubt: Callable[[Claim], object],
        missing: Missing | None = None,
    ) -> None:
        """
        Args:
            look: returns what is at a path, given the share, the document's id and the path.
            believe: is called with a claim that the folder shows.
            doubt: is called with a claim that the folder has not shown for `DOUBTED_AFTER_S`. It
                is believed later if the folder shows it within `BELIEVED_WITHIN_S`.
            missing: returns those of some paths in a folder where nothing is, given the share; by
                default each is looked at by itself.
        """
        self.look = look
        self._missing = missing
        self._believe = believe
        self._doubt = doubt
        self._open: dict[tuple[str, str], tuple[Claim, float]] = {}
        self._doubted: set[tuple[str, str]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def gone(self, share: str, folder: str, documents: Mapping[str, str]) -> dict[str, str]:
        """Those of these documents that are not in a folder any more.

        Args:
            share: the folder's.
            folder: the folder.
            documents: their paths in it, by their ids.
        """
        if self._missing is None:
            return {
                file_id: path
                for file_id, path in documents.items()
                if await self.look(share, file_id, path) is Look.GONE
            }
        missing = await self._missing(share, folder, documents.values())
        return {file_id: path for file_id, path in documents.items() if path in missing}

    def add(self, claims: Iterable[Claim]) -> None:
        """Look whether these are true; a claim about the same document before is forgotten."""
        for claim in claims:
            key = claim.share, claim.file_id
            known = self._open.get(key)
            if known is None or known[0] != claim:
                self._open[key] = claim, loop_time()
        if self._open and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_for_a_while(), name="teleportal-claims")

    def drop(self, share: str, file_ids: Iterable[str]) -> None:
        """Forget what others say about these documents."""
        for file_id in file_ids:
            self._open.pop((share, file_id), None)
            self._doubted.discard((share, file_id))

    def about(self, share: str, path: str) -> bool:
        """Whether a document is said to be at a path by now."""
        return any(claim.share == share and claim.new == path for claim, _ in self._open.values())

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def look_once(self) -> None:
        """Look at all claims now, and believe those that the folder shows."""
        for key, (claim, since) in list(self._open.items()):
            true = await self._is_true(claim)
            if self._open.get(key) != (claim, since):
                continue  # another one has come meanwhile
            age_s = loop_time() - since
            if true or age_s > BELIEVED_WITHIN_S:
                del self._open[key]
                self._doubted.discard(key)
                if true:
                    self._believe(claim)
            elif age_s > DOUBTED_AFTER_S and key not in self._doubted:
                self._doubted.add(key)
                self._doubt(claim)

    async def _look_for_a_while(self) -> None:
        while self._open:
            await self.look_once()
            if self._open:
                youngest = max(since for _, since in self._open.values())
                await asyncio.sleep(0.1 if loop_time() - youngest < 1 else 1)

    async def _is_true(self, claim: Claim) -> bool:
        old = await self.look(claim.share, claim.file_id, claim.old)
        if old is Look.THERE:
            return False
        may_be_new = old is Look.GONE or claim.replaced
        if claim.new is None:
            # Asked for before the other server could say which document was renamed to there.
            is_anothers = old is Look.CLOSED and claim.files.get(claim.old) is not None
            return may_be_new or is_anothers
        new = await self.look(claim.share, claim.file_id, claim.new)
        return new is Look.THERE or (new is not Look.GONE and may_be_new)
