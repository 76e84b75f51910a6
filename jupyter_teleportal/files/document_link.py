"""The link of a document: a room that has a file."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Awareness

from ..core.content import digest, observe, without_undo
from ..core.document_file import DocumentFile
from ..core.reading import read
from ..core.values import Scope
from ..sync.cluster import Replica
from ..sync.room_link import RoomLink
from .document_content import DocumentContent
from .document_saving import DocumentSaving
from .saver import Saver
from .telling import Teller


class DocumentLink(RoomLink):
    """Couples a document's room to the transport, and to its file by a `Saver`."""

    def __init__(
        self,
        replica: Replica,
        scope: Scope,
        document: YBaseDoc,
        file_type: str,
        file: DocumentFile,
        *,
        awareness: Awareness,
        broadcast: Callable[[bytes], None],
        writable: bool,
        save_delay_s: float | None,
        tell: Callable[[str, str], None],
    ) -> None:
        super().__init__(
            replica,
            scope,
            document.ydoc,
            awareness=awareness,
            broadcast=broadcast,
            writable=writable,
        )
        self.document = document
        self.file = file
        self._awareness = awareness
        self._teller = Teller(self, tell)
        self._tell = tell
        self.saver = Saver(
            self,
            document,
            file_type,
            file,
            delay_s=save_delay_s,
            autosaves=self._autosaves,
            teller=self._teller,
        )
        self.reconciler = self.saver.reconciler
        self.content = DocumentContent(self, document, file_type, file, self.saver, tell=tell)
        self.saving = DocumentSaving(self, document, file, self.saver, teller=self._teller)
        self.save_requests = self.saving.requests
        self.room.content, self.room.saver = self.content, self.saving
        without_undo(document)
        # This takes the place of upstream's observers, which save on every replica.
        observe(document, self.saver.changed, self.saving.state_changed)

    async def give_way(self) -> None:
        """The file is another document's: what it does not hold is kept for that one, and nothing
        more of this one is shared or saved. Whoever writes in it has to be stopped at once.

        Raises:
            SaveFailed: if what the file does not hold can be kept nowhere; then it goes on.
        """
        async with self.saver.between_saves():
            await self.reconciler.keep_unsaved()
            self.saver.ended()
            self.replicator.writable = False

    async def removed(self, keep: Callable[[Any], Awaitable[str]]) -> None:
        """This server has lost the document's share for good: nothing more of it is shared, or
        saved to its folder. What the file does not hold is kept.

        Args:
            keep: writes a content to where its user still may, and returns the path.
        """
        self.saver.ended()
        self.replicator.writable = False
        saved = kept = ""
        # Where it cannot be read, nothing is known to be saved.
        with contextlib.suppress(Exception):
            saved = (await self.reconciler.contents.load())[0].digest
        content = read(self.document)
        if digest(content) != saved:
            try:
                kept = f"; what was not saved is in {await keep(content)}"
            except Exception as error:  # noqa: BLE001 (what the contents manager raises)
                kept = f"; what was not saved could not be kept: {error}"
        message = f"You are no longer a member of {self.scope.share}{kept}"
        self.log.warning("%s: %s", self.file.path, message)
        self._tell("ERROR", message)

    def _autosaves(self) -> bool:
        states = [state for state in self._awareness.states.values() if state]
        return not states or any(state.get("autosave", True) for state in states)
