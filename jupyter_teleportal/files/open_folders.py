"""Files reached by open folders, step by step, so that a link put in the way leads nowhere.

A `Place` is found once, by following all links. What is done there is done relative to handles
that were opened without following any, so that whoever swaps a folder or file for a link between
the finding and the doing gets an error instead of somebody else's file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..core.errors import LeavesShare

NAME_MAX_BYTES = 255
_BY_HANDLE = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A folder that may be passed need not be one that may be listed.
_FOLDER = (
    getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
)
# Somebody may have put a pipe there, which nobody writes to.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
# Windows changes the ends of lines otherwise.
_AS_IT_IS = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Place:
    """Where a file really is, or would be.

    Attributes:
        root: the real path of the folder that must not be left.
        folders: the folders below it that lead to the file.
        name: the file's.
    """

    root: str
    folders: tuple[str, ...]
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.folders, self.name)

    def beside(self, name: str) -> Place:
        """The place of another file in the same folder."""
        return Place(self.root, self.folders, name)


def place_within(root: str, real_path: str) -> Place | None:
    """The place of the file with this real path, None if it is not below `root`."""
    inside = os.path.relpath(real_path, root)
    parts = inside.split(os.sep)
    if inside == os.curdir or parts[0] == os.pardir or os.path.isabs(inside):
        return None
    return Place(root, tuple(parts[:-1]), parts[-1])


def place_of(path: str) -> Place:
    """The place of a file that may be wherever `path` leads now."""
    root, name = os.path.split(os.path.realpath(path))
    return Place(root, (), name)


class Folder:
    """An open folder, whose files are reached without following links."""

    def __init__(self, path: str, handle: int | None) -> None:
        self.path = path
        self._handle = handle

    def _at(self, name: str) -> tuple[str, dict[str, Any]]:
        if self._handle is not None:
            return name, {"dir_fd": self._handle}
        if os.path.realpath(self.path) != self.path:
            raise _led_away(self.path)
        return os.path.join(self.path, name), {}

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """Open a file and return its descriptor.

        Raises:
            LeavesShare: if it is a link.
            OSError: as `os.open` does.
        """
        where, at = self._at(name)
        try:
            return os.open(where, flags | _AS_IT_IS, mode, **at)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _led_away(os.path.join(self.path, name)) from error
            raise

    def open_regular(self, name: str, flags: int = READ) -> int:
        """Open a file, without waiting for anybody, and return its descriptor.

        Raises:
            LeavesShare: if it is a link.
            OSError: as `os.open` does, or if it is no regular file.
        """
        descriptor = self.open(name, flags)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", os.path.join(self.path, name))

    def stat(self, name: str) -> os.stat_result:
        """What is known of the file, or of the link that is in its place."""
        where, at = self._at(name)
        return os.stat(where, follow_symlinks=False, **at)

    def replace(self, name: str, by: str) -> None:
        """Let the file `by` take the place of `name`, whatever that is."""
        if self._handle is not None:
            os.replace(by, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        else:
            os.replace(self._at(by)[0], self._at(name)[0])

    def unlink(self, name: str) -> None:
        where, at = self._at(name)
        os.unlink(where, **at)

    @property
    def writable(self) -> bool:
        """Whether files may be made in it."""
        if self._handle is None:
            return os.access(self.path, os.W_OK)
        return os.access(os.curdir, os.W_OK, dir_fd=self._handle)


@contextlib.contextmanager
def open_folder(place: Place) -> Iterator[Folder]:
    """The folder of the file at `place`.

    Raises:
        LeavesShare: if it is reached by a link, which was not so when the place was found.
        OSError: if it cannot be opened.
    """
    path = os.path.join(place.root, *place.folders)
    if not _BY_HANDLE:
        yield Folder(path, None)
        return
    handle = os.open(place.root, _FOLDER | _NO_FOLLOW)
    try:
        for folder in place.folders:
            try:
                inner = os.open(folder, _FOLDER | _NO_FOLLOW, dir_fd=handle)
            except OSError as error:
                # A link that is no folder is what Linux calls it.
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise _led_away(path) from error
                raise
            os.close(handle)
            handle = inner
        yield Folder(path, handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def reading(place: Place) -> Iterator[Any]:
    """The file at `place`, open for reading bytes.

    Raises:
        LeavesShare: if a link has been put in the way.
        OSError: if it cannot be opened, or is no regular file.
    """
    with open_folder(place) as folder:
        descriptor = folder.open_regular(place.name)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def name_beside(name: str, before: str, after: str) -> str:
    """The name `before` + `name` + `after`, as file systems take it: where that is too long, the
    end of `name` gives way to a digest of it, which is the same on every server."""
    whole = f"{before}{name}{after}"
    if len(os.fsencode(whole)) <= NAME_MAX_BYTES:
        return whole
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    room = NAME_MAX_BYTES - len(os.fsencode(f"{before}{mark}{after}"))
    short = os.fsencode(name)[:room].decode(errors="ignore")
    return f"{before}{short}{mark}{after}"


def _led_away(path: str) -> LeavesShare:
    return LeavesShare(f"{path} is reached by a link that was put there just now")
