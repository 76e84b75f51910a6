"""Which id the document at a path has, as one server knows it, with no I/O.

The id of a shared document follows from its share and path, so that every server names a room
alike without asking anybody, also while the transport is away. What does not follow is kept in
two maps of the share: ``files`` says which paths have another id than that (after a rename, and
where a document was deleted or moved away, because a new file at an old path is a new document),
``paths`` says where the document with an id is now.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from .shares import SharedPath, clean_path, is_within

Changes = dict[str, str | None]


@dataclass(frozen=True)
class Claim:
    """A document is said to have been renamed, or with `new` None to have been deleted.

    Attributes:
        share: its share.
        file_id: its id.
        old: its path, as far as this server knows.
        new: its path, as is said.
        files: what else changes with it in the map ``files``.
        paths: what else changes with it in the map ``paths``.
        replaced: it was said to have been deleted while this server was away, so that another file
            may be at its path by now.
    """

    share: str
    file_id: str
    old: str
    new: str | None
    files: dict[str, str | None] = field(default_factory=dict, compare=False)
    paths: dict[str, str | None] = field(default_factory=dict, compare=False)
    replaced: bool = False


class FileIds:
    """The ids and paths of one share's documents, with no I/O."""

    def __init__(self, share: str) -> None:
        self.share = share
        self.exceptions: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self.unconfirmed: set[str] = set()
        """Documents that were opened, or are remembered, while the transport could not be asked."""
        self.version = 0
        """Goes up with each change of the maps."""
        self.last_paths: dict[str, str] = {}
        """Where documents that were deleted had been."""

    def id_at(self, path: str) -> str:
        """The id that the document at `path` has, or will have."""
        return self.exceptions.get(path) or self._default_id(path)

    def is_guess(self, path: str) -> bool:
        """Whether nothing is known of the document at `path` but the path."""
        return path not in self.exceptions and self._default_id(path) not in self.paths

    def _default_id(self, path: str) -> str:
        return SharedPath(self.share, path).default_file_id()

    def index(self, path: str) -> str:
        """The id of the document at `path`, which is known from now on."""
        file_id = self.id_at(path)
        self.paths.setdefault(file_id, path)
        return file_id

    def path_of(self, file_id: str) -> str | None:
        return self.paths.get(file_id)

    def moved(self, old: str, new: str) -> tuple[Changes, Changes]:
        """Note that all that is known in the file or folder `old` is now in `new`; return what
        changed in the maps ``files`` and ``paths``."""
        return self.follow(self._within(old), old, new)

    def deleted(self, gone: str) -> tuple[Changes, Changes]:
        """Note that all that is known in the file or folder `gone` is no more; return what
        changed in the maps. The ids that end are those whose path is None."""
        return self.follow(self._within(gone), gone, None)

    def follow(
        self, documents: Mapping[str, str], old: str, new: str | None
    ) -> tuple[Changes, Changes]:
        """Note that documents in the file or folder `old` are in `new` now, or with None no more;
        return what changed in the maps.

        Args:
            documents: their paths, by their ids.
        """
        files: Changes = {}
        paths: Changes = {}
        for file_id, path in documents.items():
            paths[file_id] = None
            if new is not None:
                target = clean_path(new + path[len(old) :])
                paths[file_id], files[target] = target, file_id
            # Another of them may be there now.
            files.setdefault(path, str(uuid.uuid4()))
        self.update(files, paths)
        return files, paths

    def moved_back(self, old: str, new: str, documents: Changes) -> None:
        """Note that what was moved from `old` to `new` is in `old` again.

        Args:
            documents: where these came to be by that, by their ids.
        """
        files: Changes = {}
        paths: Changes = {}
        for file_id, path in documents.items():
            if path is not None and self.paths.get(file_id) == path:
                was = clean_path(old + path[len(new) :])
                paths[file_id], files[path] = was, None
                files[was] = None if self._default_id(was) == file_id else file_id
        self.update(files, paths)

    def _within(self, folder: str) -> dict[str, str]:
        return {i: path for i, path in self.paths.items() if is_within(path, folder)}

    def ended(self, files: Mapping[str, str | None], paths: Mapping[str, str | None]) -> list[str]:
        """The documents known here that have ended meanwhile, by the maps as they are in the
        transport after an absence."""
        return [
            file_id
            for file_id, path in self.paths.items()
            if file_id not in paths and files.get(path, file_id) != file_id
        ]

    def split(
        self, files: Changes, paths: Changes, *, replaced: bool = False
    ) -> tuple[Changes, Changes, list[Claim]]:
        """Part what others say of the maps into changes that contradict nothing known here, and
        claims that documents known here are not where they were."""
        at = {path: file_id for file_id, path in self.paths.items()} if files else {}
        claimed: dict[str, tuple[str, str | None]] = {}
        for file_id, new in paths.items():
            old = self.paths.get(file_id)
            if old is not None and old != new:
                claimed[file_id] = old, new
        for taken, by in files.items():
            there = at.get(taken)
            if there is not None and there != by and there not in claimed:
                claimed[there] = taken, None
        left, claims = dict(files), []
        for file_id, (old, new) in claimed.items():
            going = {
                path: left.pop(path)
                for path in (old, new)
                if path is not None and path in left and (path == old or left[path] == file_id)
            }
            coming: Changes = {i: p for i, p in paths.items() if p == old and i not in claimed}
            claims.append(Claim(self.share, file_id, old, new, going, coming, replaced))
        waiting = {*claimed, *(file_id for claim in claims for file_id in claim.paths)}
        return left, {i: p for i, p in paths.items() if i not in waiting}, claims

    def update(self, files: Changes, paths: Changes) -> None:
        """Take over changes of the maps."""
        for mine, theirs in ((self.exceptions, files), (self.paths, paths)):
            for key, value in theirs.items():
                if mine.get(key) == value:
                    continue
                self.version += 1
                if value is None:
                    gone = mine.pop(key)
                    if mine is self.paths:
                        self.last_paths[key] = gone
                else:
                    mine[key] = value
                    if mine is self.paths:
                        self.last_paths.pop(key, None)

    def remembered(self) -> tuple[Changes, Changes]:
        """What does not follow from shares and paths, for a start without the transport: what is
        in ``files``, and which of these documents are there."""
        paths: Changes = {i: p for p, i in self.exceptions.items() if self.paths.get(i) == p}
        return dict(self.exceptions), paths

    def remember(self, files: Changes, paths: Changes) -> None:
        """Take over what was `remembered`, until the transport says whether it is still so."""
        self.update(files, paths)
        self.unconfirmed.update(paths)

    def give_way(self, files: Changes, paths: Changes) -> dict[str, str]:
        """Let go of what the transport, which can be asked again, does not confirm.

        Args:
            files: the map as it is in the transport.
            paths: those of the documents known here that are in the other.

        Returns:
            The documents in whose place others are, by their ids, and the ids of those.
        """
        for said in self.exceptions.keys() - files.keys():
            if self.exceptions[said] in self.unconfirmed:
                self.update({said: None}, {})
        displaced = {}
        for file_id in self.unconfirmed - paths.keys():
            path = self.paths.get(file_id)
            if path is not None and (other := files.get(path) or self._default_id(path)) != file_id:
                displaced[file_id] = other
                self.update({}, {file_id: None, other: path})
        self.unconfirmed.clear()
        return displaced
