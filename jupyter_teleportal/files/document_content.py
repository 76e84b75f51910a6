"""Where a document's content comes from, and what becomes of it where the log is another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Array, Text, XmlFragment

from ..core.content import SeedContent, apply_content, digest, document_of
from ..core.document_file import DocumentFile
from ..core.errors import DocumentBroken, FileGone, SaveFailed, TransportError, reason_of
from ..core.merging import merge
from ..core.reading import read
from ..sync.room_link import RoomLink
from ..sync.threads import off_loop
from .saver import Saver


class DocumentContent:
    """The content side of one document's room."""

    def __init__(
        self,
        link: RoomLink,
        document: YBaseDoc,
        file_type: str,
        file: DocumentFile,
        saver: Saver,
        *,
        tell: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            link: the room's link.
            document: the room's document.
            file_type: the contents type.
            file: the document's file.
            saver: the document's saver.
            tell: tells the users what happened to the file: a level ("INFO", "WARNING", "ERROR")
                and a message.
        """
        self._link = link
        self._document = document
        self._file_type = file_type
        self._file = file
        self._saver = saver
        self._reconciler = saver.reconciler
        self._tell = tell
        self._crossing: list[bytes] = []
        self._crossed: Any = None

    async def load(self) -> SeedContent:
        """Return what a new log begins with."""
        # The history goes on if it can: where the file was changed since, that is found out later.
        return await self._reconciler.history()

    def provided(self, seed: SeedContent) -> None:
        """The document begins with this seed, unless another replica comes first."""
        self._reconciler.loaded(seed)

    def log_lost(self, offset: str) -> None:
        """The log has lost the entry at `offset`, and perhaps more before it."""
        self._link.spawn(self._reconciler.records.log_lost(offset))

    async def before_put_back(self) -> None:
        """What the log has lost, or all of it, is about to be put back from here."""
        await self._reconciler.edits.restore_crossings()

    async def abandon(self, updates: tuple[bytes, ...]) -> None:
        """The log is about to be dropped, of which `updates` can be read."""
        content = read(document_of(self._file_type, *updates))
        nothing = saved = read(document_of(self._file_type))
        with contextlib.suppress(FileGone):
            saved, _ = await self._file.load()
        if content not in (nothing, saved):
            await self._keep_copy(content)

    async def before_convert(self, lineage: str, updates: tuple[bytes, ...]) -> None:
        """Bring this document's edits over to the log's, or keep it in a copy.

        Raises:
            TransportError: if it has to wait until the transport answers.
        """
        self._crossing, self._crossed = [], None
        replicator = self._link.replicator
        base, ours = self._reconciler.base, replicator.lineage
        if ours is None or not replicator.writable:
            return
        content = read(self._document)
        if base is None:
            # Which edits are this document's own cannot be told, so all of it is kept.
            size = sum(map(len, updates))
            theirs = await off_loop(size, lambda: read(document_of(self._file_type, *updates)))
            if content != theirs:
                await self._keep_copy(content)
            self._crossed = content
            return
        document = SeedContent(ours, self._link.doc.get_update(), content, base)
        self._crossing = await self._reconciler.edits.crossing(lineage, list(updates), document)
        self._crossed = content

    def convert(self, updates: tuple[bytes, ...]) -> None:
        """Make the document the log's, whose whole content is `updates`, with this one's edits.

        Raises:
            DocumentBroken: if it is neither the one nor the other document now.
        """
        live = self._link.live
        ours = read(self._document)
        # What was typed since it was brought over, or kept, nobody else has.
        base = self._crossed
        # What may fail does so before anything is changed.
        theirs = read(document_of(self._file_type, *updates))
        now = read(document_of(self._file_type, *updates, *self._crossing))
        if base is not None and digest(ours) != digest(base):
            now = merge(self._file_type, base, ours, now)
        try:
            # One transaction, so that clients see one change and never both contents at once.
            with live.becoming():
                self._clear()
                for update in updates:
                    live.apply_one(update)
                for update in self._crossing:
                    live.take_in(update)
                apply_content(self._document, now)
        except DocumentBroken:
            raise
        except Exception as error:
            # It is neither the one nor the other document now.
            self._link.replicator.door.broken = True
            raise DocumentBroken(f"it could not become the others' document: {error!r}") from error
        self._link.log.warning(
            "Room %s was opened while the transport was away; it has joined the others' document, "
            "and what was written here was merged into it",
            self._link.scope.room,
        )
        self._reconciler.copies.replaced()
        self._saver.converted(theirs)

    async def _keep_copy(self, content: Any) -> None:
        """Keep what is about to be replaced in the document or the log; once, if that is tried
        again.

        Raises:
            TransportError: if it cannot be kept; then nothing may be replaced.
        """
        try:
            copy = await self._reconciler.copies.keep(content)
        except SaveFailed as error:
            failed = (
                "What was written here cannot be kept in a copy, so it does not give way to the "
                f"others' document yet: {reason_of(error.__cause__ or error)}"
            )
            room = self._link.scope.room
            if self._link.replica.complain(f"saves {room}", f"Room {room}: {failed}"):
                self._tell("ERROR", failed)
            raise TransportError(failed) from error
        if copy.anew:
            message = (
                "What was written here while Redis was away could not be merged; it is in "
                f"{copy.path}."
            )
            self._link.log.warning("%s: %s", self._file.path, message)
            self._tell("WARNING", message)

    def _clear(self) -> None:
        """Delete this document's own sequences: merged with the log's they would stand beside
        them. Maps need no such thing, there the later of two values counts."""
        doc = self._link.doc
        for name in list(doc.keys()):
            root = doc[name]
            if isinstance(root, Array | Text):
                root.clear()
            elif isinstance(root, XmlFragment):
                del root.children[:]
