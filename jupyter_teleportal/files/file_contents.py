"""What a document's file holds, as a document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.content import SeedContent, seed
from ..core.document_file import DocumentFile, FileState
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop


class FileContents:
    """What one document's file holds."""

    def __init__(
        self,
        link: RoomLink,
        file_type: str,
        file: DocumentFile,
        *,
        tell: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            link: the room's link.
            file_type: the contents type.
            file: the document's file.
            tell: tells the users what happened to the file: a level and a message.
        """
        self._link = link
        self._file_type = file_type
        self._file = file
        self._tell = tell
        self._loaded: tuple[str, SeedContent] | None = None

    async def load(self) -> tuple[SeedContent, FileState]:
        """The file's content, and its state; asked again for the same file it is not read again,
        until `forget`."""
        if self._loaded is not None:
            state = await self._file.stat()
            if state.hash == self._loaded[0]:
                return self._loaded[1], state
        found, state = await self.read()
        self._loaded = state.hash, found
        if found.flaws:
            message = (
                "The file holds what no shared notebook can, which is repaired with the next "
                f"save: {found.flaws}"
            )
            room = self._link.scope.room
            if self._link.replica.complain(f"repaired {room}", f"Room {room}: {message}"):
                self._tell("WARNING", message)
        return found, state

    async def read(self) -> tuple[SeedContent, FileState]:
        """The same, read anew."""
        content, state = await self._file.load()
        return await self.seeded(content, state.size), state

    async def seeded(self, content: Any, size: int | None = None) -> SeedContent:
        """The document that begins with this content, of which `size` says how much it is."""
        if size is None:
            size = self._link.live.content_bytes
        return await off_loop(size, self._seed, content)

    def _seed(self, content: Any) -> SeedContent:
        found = seed(self._file_type, content)
        _ = found.digest  # everybody asks for it
        return found

    def forget(self) -> None:
        """What was loaded is not needed any more."""
        self._loaded = None
