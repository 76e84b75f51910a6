"""What a document holds at one moment, read while people go on typing in it."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_ydoc import YNotebook
from jupyter_ydoc.ybasedoc import YBaseDoc

from ..core.content import digest, document_of
from ..core.reading import read, read_stepwise
from ..core.savable import Flaws
from ..sync.room_link import RoomLink
from ..sync.threads import LARGE_BYTES, off_loop


class Snapshots:
    """What one document holds.

    Attributes:
        changes: how often that was another one.
    """

    def __init__(self, link: RoomLink, document: YBaseDoc, file_type: str) -> None:
        """
        Args:
            link: the room's link.
            document: the room's document.
            file_type: the contents type.
        """
        self.changes = 0
        self._link = link
        self._document = document
        self._file_type = file_type

    def now(self) -> Any:
        """The document's content, read at once."""
        return read(self._document)

    async def take(self) -> Any:
        """The document's content at one moment, later than the call: an edit in between would make
        it a state that never was."""
        return (await self.moment())[0]

    async def moment(self, flaws: Flaws | None = None) -> tuple[Any, bytes]:
        """The same with the document's state vector at that moment.

        Args:
            flaws: is told of what is not as it is in the document.
        """
        found = Flaws() if flaws is None else flaws
        if self._link.live.content_bytes < LARGE_BYTES:
            return read(self._document, found), self._link.doc.get_state()
        changes = self.changes
        try:
            content = await self._read_stepwise(found)
        except Exception:
            if changes == self.changes:
                raise
            # Something that was being read was deleted meanwhile.
        else:
            if changes == self.changes:
                return content, self._link.doc.get_state()
        found.clear()
        update, state = self._link.doc.get_update(), self._link.doc.get_state()
        return await self.content_of(update, found), state

    async def _read_stepwise(self, flaws: Flaws) -> Any:
        """The document's content, with the event loop going on in between."""
        if not isinstance(self._document, YNotebook):
            return await self._document.aget()
        content = None
        for found in read_stepwise(self._document, flaws):
            content = found
            await asyncio.sleep(0)
        return content

    async def content_of(self, update: bytes, flaws: Flaws | None = None) -> Any:
        """The content of a document that is given as an update."""
        return await off_loop(
            len(update), lambda: read(document_of(self._file_type, update), flaws)
        )

    async def digest(self, content: Any) -> str:
        """The digest of content like the document's."""
        return await off_loop(self._link.live.content_bytes, digest, content)
