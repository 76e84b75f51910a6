"""What one replica knows of its document's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .content import digest
from .document_file import FileState
from .values import ZERO_OFFSET, offset_key


def offset_in(said: Mapping[str, str], field: str) -> tuple[int, int]:
    """The key of an offset that savers have said; whoever can write there can write anything."""
    try:
        return offset_key(said.get(field, ZERO_OFFSET))
    except ValueError:
        return offset_key(ZERO_OFFSET)


@dataclass
class FileKnowledge:
    """What one replica knows of its document's file."""

    disk: FileState | None = None
    """The file as it was last seen, with all of it in the document or in a copy; None if that is
    not known, so that nothing may be written."""
    content: Any = None
    """What it held then, or what the document was loaded from; None if that is not known."""
    digest: str = ""
    """The digest of that."""
    lineage: str | None = None
    """Of the document that held it."""
    written: str = ""
    """The file's hash when this replica wrote or accepted it last."""
    written_on: str | None = None
    """Where the document has become another one since: the digest of what the file had held before,
    which has to be what was saved last; empty if nobody knows. None: it is the same document."""
    vector: bytes | None = None
    """The state vector of a document that holds what was written; None if that is not known."""
    log: str | None = None
    """The log that the document followed then."""
    offset: str = ZERO_OFFSET
    """How far."""
    outage_content: Any = None
    """What the file held when an outage began; None while there is none."""

    @property
    def base(self) -> Any:
        """The content that this document's edits are told from where the log is another one: what
        the file held when that began. None if that is not known."""
        if self.outage_content is not None:
            return self.outage_content
        return self.content if self.disk is not None else None

    def loaded(self, content: Any, fingerprint: str, lineage: str | None) -> None:
        """This content, with this digest, is what the file holds."""
        self.content, self.digest, self.lineage = content, fingerprint, lineage

    def settled(
        self,
        state: FileState,
        content: Any,
        fingerprint: str,
        vector: bytes | None,
        *,
        lineage: str | None,
        log: str | None,
        offset: str,
    ) -> None:
        """The file is in this state and holds this content, all of which is in the document or in a
        copy."""
        self.disk = state
        self.written, self.written_on, self.vector = state.hash, None, vector
        self.loaded(content, fingerprint, lineage)
        self.followed(log, offset)

    def followed(self, log: str | None, offset: str) -> None:
        """The document follows this log, at least to this offset."""
        if log != self.log:
            self.log, self.offset = log, offset
        self.offset = max(self.offset, offset, key=offset_key)

    def converted(self, log_content: Any) -> None:
        """The document is another one now, of which the log holds this content. What was written to
        the file before is in it, as far as it was more than what the file had held."""
        self.written_on = digest(self.base) if self.base is not None else ""
        self.content, self.digest, self.disk = None, "", None
        self.outage_content = log_content

    def is_own(self, state: FileState, said: Mapping[str, str]) -> bool:
        """Whether the file holds what this replica has written or accepted, and the document all
        of that."""
        return state.hash == self.written and self.written_on in (None, said.get("digest"))

    def is_superseded(self, said: Mapping[str, str], log: str | None) -> bool:
        """Whether a saver has said of another save, later than what this replica has written or
        accepted."""
        if self.written_on is not None or log is None or log != self.log:
            return False
        another = said.get("hash", self.written) != self.written
        return another and offset_in(said, "offset") > offset_key(self.offset)
