"""A document's file, as whoever saves it needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class FileState:
    """What is known of a file without its content."""

    hash: str
    last_modified: str
    writable: bool
    size: int = 0
    """In bytes; 0 where it is not known."""


class DocumentFile(Protocol):
    """A document's file, as the saver needs it. Every method may raise what the contents manager
    raises, and `FileGone` where there is no file."""

    @property
    def path(self) -> str: ...

    async def stat(self) -> FileState: ...

    async def load(self) -> tuple[Any, FileState]: ...

    def taken_over(self) -> None:
        """What was loaded or written last is this document's file, by which it is known."""
        ...

    async def may_be_elsewhere(self) -> bool:
        """Whether another server may yet say that the document was renamed during an outage, and
        what is at its path now is another one's file."""
        ...

    async def write(self, content: Any, over: FileState | None) -> FileState:
        """Write the file, whole or not at all.

        Args:
            content: what it is to hold.
            over: what is there; None if there is no file, so that one is made.

        Raises:
            FileChanged: if it is not `over` any more.
        """
        ...

    async def finish(self) -> bool:
        """Finish what a saver has begun to write and died over; return whether there was such."""
        ...

    async def is_cut_off(self) -> bool:
        """Whether a saver has died while it wrote the file, and what is missing is nowhere."""
        ...

    async def take_path(self) -> None:
        """The document was deleted: let it be at its path again, for all servers.

        Raises:
            SaveFailed: if another document is there.
        """
        ...

    async def keep_copy(self, content: Any) -> str:
        """Write `content` to a new file beside this one and return its path."""
        ...

    async def write_note(self, note: bytes) -> str | None:
        """Leave `note` where whoever reads the file finds it, beside the notes that are there;
        return its name, None where there is no such place.

        Raises:
            OSError: if it cannot be left, or `NOTES_MAX` are there.
        """
        ...

    async def read_notes(self) -> dict[str, bytes | Exception]:
        """What lies there as notes, by name, or why it cannot be read."""
        ...

    async def remove_note(self, name: str) -> None: ...
