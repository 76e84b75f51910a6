"""Files that are never seen half written, whoever reads them and whoever dies."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import SaveFailed


def replaceable(path: str) -> bool:
    """Whether the file at `path` can be replaced by another one without anything of it being lost
    but its content: its owner, its other names and whoever may write it stay."""
    target = Path(os.path.realpath(path))
    if not os.access(target.parent, os.W_OK):
        return False
    try:
        known = target.stat()
    except FileNotFoundError:
        return True
    owned = os.geteuid() in (0, known.st_uid)
    return owned and known.st_nlink == 1 and os.access(target, os.W_OK)


@contextlib.contextmanager
def replacing(path: str, text: bool = True, encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """A file object for the new content of the file at `path`.

    The content goes to a file beside it, which takes its place when the context ends without an
    error and the content is on the disk (``rename(2)``, atomic within a filesystem). Whoever is
    frozen meanwhile finds out when it wakes: what was changed since the context began stays.

    Args:
        path: the file, or a symbolic link to it.
        text: whether str is written, with ``\\n`` at the ends of lines, or bytes.
        encoding: the text's.

    Raises:
        OSError: if it cannot be written; the file is then as it was.
        SaveFailed: if the file was changed meanwhile; it is then as it was changed.
    """
    target = Path(os.path.realpath(path))
    seen = _version(target)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    # Not by `tempfile`, whose files nobody else may read: a new file's mode is the umask's affair.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with _opened(descriptor, text, encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            _keep_attributes(target, aside)
        if _version(target) != seen:
            raise SaveFailed("the file was changed in the very moment of saving")
        os.replace(aside, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        raise


def _version(path: Path) -> tuple[int, ...] | None:
    """What is another when the file has been written or replaced; None if there is no file."""
    try:
        known = path.stat()
    except FileNotFoundError:
        return None
    return known.st_ino, known.st_mtime_ns, known.st_size


def _opened(descriptor: int, text: bool, encoding: str) -> IO[Any]:
    if text:
        return open(descriptor, "w", encoding=encoding, newline="\n")
    return open(descriptor, "wb")


def _keep_attributes(old: Path, new: Path) -> None:
    known = old.stat()
    with contextlib.suppress(PermissionError):
        os.chown(new, known.st_uid, known.st_gid)
    # The mode and, on Linux, the extended attributes, among them access control lists.
    shutil.copymode(old, new)
    with contextlib.suppress(OSError, AttributeError):
        for name in os.listxattr(old):
            os.setxattr(new, name, os.getxattr(old, name))
