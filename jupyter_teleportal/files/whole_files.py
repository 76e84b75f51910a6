"""Files that are never seen half written, whoever reads them and whoever dies."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import IO, Any

from ..core.errors import SaveFailed
from .open_folders import Folder, Place, name_beside, open_folder, place_of

_GONE = "the file was renamed or removed in the very moment of saving"


def replaceable(path: str | Place) -> bool:
    """Whether the file at `path` can be replaced by another one without anything of it being lost
    but its content: its owner, its other names and whoever may write it stay."""
    place = path if isinstance(path, Place) else place_of(path)
    try:
        with open_folder(place) as folder:
            if not folder.writable:
                return False
            known = folder.stat(place.name)
    except FileNotFoundError:
        return True
    # Where users have no numbers, a file has no owner to lose.
    user = os.geteuid() if hasattr(os, "geteuid") else known.st_uid
    owned = user in (0, known.st_uid)
    return owned and known.st_nlink == 1 and os.access(place.path, os.W_OK)


@contextlib.contextmanager
def replacing(
    path: str | Place,
    text: bool = True,
    encoding: str = "utf-8",
    *,
    may_be_new: bool = True,
    unchanged: bool = True,
) -> Iterator[IO[Any]]:
    """A file object for the new content of the file at `path`.

    The content goes to a file beside it, which takes its place when the context ends without an
    error and the content is on the disk (``rename(2)``, atomic within a filesystem). Whoever is
    frozen meanwhile finds out when it wakes: what was changed since the context began stays.

    Args:
        path: the file, or a symbolic link to it, or its place.
        text: whether str is written, with ``\\n`` at the ends of lines, or bytes.
        encoding: the text's.
        may_be_new: whether the file may not be there yet.
        unchanged: whether what somebody else has written meanwhile stays.

    Raises:
        OSError: if it cannot be written; the file is then as it was.
        SaveFailed: if the file was changed meanwhile; it is then as it was changed. If it has to be
            there, and is not: somebody has renamed it.
        LeavesShare: if a link was put in the way of a place.
    """
    place = path if isinstance(path, Place) else place_of(path)
    with open_folder(place) as folder:
        seen = _version(folder, place.name)
        if seen is None and not may_be_new:
            raise SaveFailed(_GONE)
        aside = name_beside(place.name, ".", f".{secrets.token_hex(4)}.new")
        # Not by `tempfile`, whose files nobody else may read: a new file's mode is the umask's
        # affair.
        descriptor = folder.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with _opened(descriptor, text, encoding) as file:
                yield file
                file.flush()
                os.fsync(descriptor)
                with contextlib.suppress(FileNotFoundError):
                    _keep_attributes(folder, place.name, descriptor)
            if unchanged and _version(folder, place.name) != seen:
                raise SaveFailed("the file was changed in the very moment of saving")
            folder.replace(place.name, aside)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(aside)
            raise


@contextlib.contextmanager
def writing_in_place(
    place: Place,
    text: bool = True,
    encoding: str = "utf-8",
    *,
    backup: bool = True,
    may_be_new: bool = True,
) -> Iterator[IO[Any]]:
    """A file object that writes into the file at `place` itself, for files that cannot be
    replaced.

    Args:
        place: the file's.
        text: whether str is written, with ``\\n`` at the ends of lines, or bytes.
        encoding: the text's.
        backup: whether a copy of what is there is kept beside it until the new content is on the
            disk, under the name under which Jupyter looks for one.
        may_be_new: whether the file may not be there yet.

    Raises:
        OSError: if it cannot be written; what was there is put back.
        SaveFailed: if it has to be there, and is not.
        LeavesShare: if a link was put in the way.
    """
    with open_folder(place) as folder:
        try:
            descriptor = folder.open(place.name, os.O_RDWR | (os.O_CREAT if may_be_new else 0))
        except FileNotFoundError:
            raise SaveFailed(_GONE) from None
        aside = name_beside(place.name, ".~", "")
        try:
            with open(descriptor, "rb", closefd=False) as there:
                known = there.read()
            if kept := bool(backup and known and folder.writable):
                with contextlib.suppress(FileNotFoundError):
                    folder.unlink(aside)
                with open(folder.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as copy:
                    copy.write(known)
            try:
                with _opened(_emptied(descriptor), text, encoding) as file:
                    yield file
                    file.flush()
                    os.fsync(descriptor)
            except BaseException:
                with open(_emptied(descriptor), "wb") as back:
                    back.write(known)
                raise
            if kept:
                with contextlib.suppress(FileNotFoundError):
                    folder.unlink(aside)
        finally:
            os.close(descriptor)


def _emptied(descriptor: int) -> int:
    """Another descriptor of the same file, of which nothing is left."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    return os.dup(descriptor)


def _version(folder: Folder, name: str) -> tuple[int, ...] | None:
    """What is another when the file has been written or replaced; None if there is no file."""
    try:
        known = folder.stat(name)
    except FileNotFoundError:
        return None
    return known.st_ino, known.st_mtime_ns, known.st_size


def _opened(descriptor: int, text: bool, encoding: str) -> IO[Any]:
    if text:
        return open(descriptor, "w", encoding=encoding, newline="\n")
    return open(descriptor, "wb")


def _keep_attributes(folder: Folder, old: str, new: int) -> None:
    known = folder.stat(old)
    with contextlib.suppress(PermissionError, AttributeError):
        os.chown(new, known.st_uid, known.st_gid)
    # The mode and, on Linux, the extended attributes, among them access control lists.
    if os.chmod in os.supports_fd:
        os.chmod(new, stat.S_IMODE(known.st_mode))
    with contextlib.suppress(OSError, AttributeError):
        source = folder.open(old, os.O_RDONLY)
        try:
            for name in os.listxattr(source):
                os.setxattr(new, name, os.getxattr(source, name))
        finally:
            os.close(source)
