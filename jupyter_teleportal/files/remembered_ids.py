"""What a server remembers of documents' ids, for a start while the transport is away."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.document_ids import Changes
from .open_folders import place_of, reading
from .whole_files import writing

VERSION = 1
MOST_BYTES = 64 * 1024 * 1024
TOLD = 4


class Memory:
    """A file for each share, in a folder of this user alone."""

    def __init__(self, folder: Path, real_folder: Callable[[str], str]) -> None:
        """
        Args:
            folder: where the files are, one for each share.
            real_folder: returns the real path of a share's folder, which tells it from others of
                the same name.
        """
        self._folder = folder
        self._real_folder = real_folder

    def load(self, share: str) -> tuple[Any, Any, list[list[Any]]]:
        """What was saved, as it stands in the file: the maps ``files`` and ``paths``, and what the
        other servers have not been told.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is not what this version has saved.
        """
        try:
            with reading(place_of(str(self._path(share)))) as file:
                raw = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return {}, {}, []
        if len(raw) > MOST_BYTES:
            raise ValueError(f"{self._path(share)} is larger than {MOST_BYTES} bytes")
        try:
            found = json.loads(raw)
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']}")
            untold = found["untold"]
            if not all(len(told) == TOLD for told in untold):
                raise ValueError("what is untold is incomplete")
            return found["files"], found["paths"], untold
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{self._path(share)} cannot be read ({error!r}); it is written anew"
            ) from error

    def save(
        self, share: str, files: Changes, paths: Changes, untold: Sequence[tuple[Any, ...]]
    ) -> None:
        """
        Args:
            share: the share.
            files, paths: its maps, as far as they do not follow from paths.
            untold: renames and deletions of which the other servers do not know: where from and
                where to, and what they have changed in the maps.

        Raises:
            OSError: if it cannot be saved.
        """
        path = self._path(share)
        known: dict[str, Any] = {"version": VERSION, "files": files, "paths": paths}
        text = json.dumps({**known, "untold": untold})
        if too_much := len(text) > MOST_BYTES:
            # What the others have not been told is nowhere else.
            text = json.dumps({**known, "files": {}, "paths": {}, "untold": untold})
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        with writing(str(path), unchanged=False) as file:
            file.write(text)
        if too_much:
            raise OSError(errno.EFBIG, f"it is more than {MOST_BYTES} bytes", str(path))

    def _path(self, share: str) -> Path:
        name = hashlib.sha256(f"{share}\0{self._real_folder(share)}".encode()).hexdigest()[:16]
        return self._folder / f"documents-{name}.json"
