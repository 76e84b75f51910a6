"""Copies beside a document's file: what is about to be replaced is kept there first."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.content import digest
from ..core.document_file import DocumentFile
from ..core.errors import SaveFailed, reason_of
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop


class Kept(NamedTuple):
    """Where something is kept."""

    path: str
    """The copy's path."""
    anew: bool
    """Whether it was not kept there before."""


class Copies:
    """The copies beside one document's file."""

    def __init__(self, link: RoomLink, file: DocumentFile) -> None:
        """
        Args:
            link: the room's link.
            file: the document's file.
        """
        self._link = link
        self._file = file
        self._kept: tuple[str, str] | None = None

    async def keep(self, content: Any) -> Kept:
        """Keep in a copy what is about to be replaced, in the document or on disk. Tried again, it
        is kept once.

        Raises:
            SaveFailed: if it cannot be kept; then nothing may be replaced.
        """
        fingerprint = await off_loop(self._link.live.content_bytes, digest, content)
        if self._kept is not None and self._kept[0] == fingerprint:
            return Kept(self._kept[1], anew=False)
        try:
            path = await self._file.keep_copy(content)
        except Exception as error:
            raise SaveFailed(
                "what would be replaced cannot be kept in a copy, so nothing is: "
                f"{reason_of(error)}"
            ) from error
        self._kept = fingerprint, path
        return Kept(path, anew=True)

    def replaced(self) -> None:
        """What was kept is replaced: it is kept anew should it come back."""
        self._kept = None
