"""What savers tell each other beside the file while they cannot do so through the transport.

A note holds the saver's document as it is about to be in the file. A successor finds there the
edits that it lacks, as edits: taken from the file as text they would be there twice when the
saver comes back. Each is left beside all others, before the file is written, and those that the
same server has left before go after that: whatever the file holds, one of them says so.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..core.content import SeedContent, document_of
from ..core.document_file import DocumentFile
from ..core.envelopes import decode_note, encode_note
from ..core.errors import reason_of
from ..core.merging import edit_between
from ..core.reading import read
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop


class Notes:
    """The notes beside one document's file."""

    def __init__(self, link: RoomLink, file_type: str, file: DocumentFile) -> None:
        """
        Args:
            link: the room's link, which tells of what goes wrong.
            file_type: the contents type.
            file: the document's file.
        """
        self._link = link
        self._file_type = file_type
        self._file = file
        self._left: tuple[str, bytes] | None = None
        """What is noted of the file as it is about to be written."""
        self._earlier: list[tuple[str, bytes]] = []
        """What this replica has noted of it before."""

    async def leave(self, lineage: str, base: Any, update: bytes) -> bool:
        """Note a document that is about to be written. What goes wrong is told, and the file need
        not wait for it.

        Args:
            lineage: the document's.
            base: the content that its edits are to be told from; None if that is not known.
            update: the document.

        Returns:
            Whether it is noted.
        """
        self._left = None
        note = await off_loop(len(update), encode_note, lineage, base, update)
        try:
            name = await self._file.write_note(note)
        except Exception as error:  # noqa: BLE001 (the file must not wait for it)
            self._link.complain(
                "A note for the other servers cannot be left beside the file, so they take this "
                f"save for another program's: {reason_of(error)}"
            )
            return False
        if name is not None:
            self._left = name, note
        return name is not None

    async def written(self) -> None:
        """The file holds what was noted."""
        if self._left is not None:
            earlier, self._earlier = self._earlier, [self._left]
            await self._remove_own(earlier)

    async def take_back(self) -> None:
        """The file was not written after all."""
        if self._left is not None:
            left, self._left = self._left, None
            await self._remove_own([left])

    async def _remove_own(self, left: list[tuple[str, bytes]]) -> None:
        if left:
            there = await self._read()
            for name, note in left:
                # Another server may have taken it over, and yet another one have left its own.
                if there.get(name) == note:
                    await self.remove(name)

    async def found(self) -> dict[str, SeedContent]:
        """The documents that are noted beside the file, by the notes' names."""
        found = {}
        for name, note in (await self._read()).items():
            if (document := await self._document(note)) is not None:
                found[name] = document
        return found

    async def _read(self) -> dict[str, bytes]:
        try:
            there = await self._file.read_notes()
        except Exception as error:  # noqa: BLE001 (anybody can put anything there)
            self._pass_over(error)
            return {}
        found = {}
        for name, note in there.items():
            if isinstance(note, bytes):
                found[name] = note
            else:
                self._pass_over(note)
        return found

    async def _document(self, note: bytes) -> SeedContent | None:
        try:
            lineage, base, update = await asyncio.to_thread(decode_note, note)
            content = await off_loop(
                len(update), lambda: read(document_of(self._file_type, update))
            )
            if base is not None:
                # Edits have to be told from it sooner or later.
                await off_loop(len(note), edit_between, self._file_type, [], base, content)
        except Exception as error:  # noqa: BLE001 (whoever can write to the folder has written it)
            self._pass_over(error)
            return None
        return SeedContent(lineage, update, content, base)

    def _pass_over(self, error: Exception) -> None:
        self._link.complain(f"The note beside {self._file.path} is passed over: {reason_of(error)}")

    async def remove(self, name: str) -> None:
        """Remove a note whose edits are where they belong."""
        try:
            await self._file.remove_note(name)
        except Exception as error:  # noqa: BLE001 (the save is noted all the same)
            self._link.complain(
                f"The note beside {self._file.path} is left behind: {reason_of(error)}"
            )
