"""Files that are never seen half written, whoever reads them and whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import secrets
import time
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ..core.access import Access
from ..core.errors import FileChanged, LeavesShare
from .file_access import (
    has_mark,
    is_marked,
    mark_of_other,
    mark_written,
    may_have_written,
    share_anew,
    share_copy,
    take_place_of,
)
from .open_folders import Folder, Place, name_beside, open_folder, place_of, reading

READ_TRIES = 50
"""So often a file is read again that somebody writes at the same time, if nothing comes of it."""
READ_PAUSE_S = 0.02
READ_MOST_S = 30.0
"""So long a reader waits for a writer that goes on."""
AWAITED_MAX = 10_000
_awaited: dict[tuple[int, int], bytes] = {}
"""The marks of files, by device and number, that were waited for in vain."""
_CHANGED = "the file was changed in the very moment of saving"
_MADE = "the file was made anew in the very moment of saving"
_GONE = "the file was renamed or removed in the very moment of saving"
_STAYS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EBUSY, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}
)
"""What cannot be replaced: another's file in a sticky folder, one that something is mounted at, and
a folder."""


class NotPutBack(OSError):
    """The file is incomplete; what it should hold lies beside it, if there is room."""


@contextlib.contextmanager
def writing(
    path: str | Place,
    text: bool = True,
    encoding: str = "utf-8",
    *,
    may_be_new: bool = True,
    may_be_there: bool = True,
    unchanged: bool = True,
    like: Place | None = None,
    access: Access | None = None,
) -> Iterator[IO[Any]]:
    """A file object for the new content of the file at `path`.

    The content goes to a file beside it. When the context ends without an error and the content is
    on the disk, that takes the file's place (``rename(2)``, atomic within a filesystem), if it can
    be what the file was to everybody. Otherwise it is copied into the file, and stays beside it
    until that is done, where `reading_whole` finds it. Whoever is frozen meanwhile finds out when
    it wakes: what was changed since the context began stays.

    Args:
        path: the file, or a symbolic link to it, or its place.
        text: whether str is written, with ``\\n`` at the ends of lines, or bytes.
        encoding: the text's.
        may_be_new: whether the file may not be there yet.
        may_be_there: whether it may be there already.
        unchanged: whether what somebody else has written meanwhile stays.
        like: the file of which this is a copy, which the same people may read and write.
        access: for whom a file that is not there is to be; else, what the umask leaves.

    Raises:
        OSError: if it cannot be written; the file is then as it was.
        FileChanged: if the file was changed meanwhile; it is then as it was changed. If it has to
            be there, and is not: somebody has renamed it. If it may not be there, and is.
        LeavesShare: if a link was put in the way of a place.
    """
    place = path if isinstance(path, Place) else place_of(path)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder(place))
        seen = _version(folder, place.name)
        if seen is None and not may_be_new:
            raise FileChanged(_GONE)
        if seen is not None and not may_be_there:
            raise FileChanged(_MADE)
        if seen is not None:
            os.close(folder.open_regular(place.name, os.O_RDWR))  # what may not be written stays
        aside = name_beside(place.name, ".", f".{secrets.token_hex(4)}.new")
        # Until it is known who may read it, nobody may.
        mode = 0o666 if seen is None and like is None and access is None else 0o600
        try:
            descriptor = folder.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except PermissionError:
            if seen is None:
                raise
            in_place = writing_in_place(
                place, text, encoding, may_be_new=False, unchanged=unchanged
            )
            yield stack.enter_context(in_place)
            return
        stack.callback(os.close, descriptor)
        try:
            with _opened(os.dup(descriptor), text, encoding) as file:
                yield file
            os.fsync(descriptor)
            if seen is None and access is not None:
                share_anew(access, descriptor)
            fits = _dress(folder, place, descriptor, like)
            if unchanged and _version(folder, place.name) != seen:
                raise FileChanged(_CHANGED)
            if not fits or not _replaced(folder, place.name, aside):
                _copy_over(folder, place, descriptor, aside)
        except NotPutBack:
            raise
        except BaseException:
            _unlink(folder, aside)
            raise
        _unlink(folder, _spare(place.name))
        _unlink(folder, _left(place.name))


@contextlib.contextmanager
def writing_in_place(
    place: Place,
    text: bool = True,
    encoding: str = "utf-8",
    *,
    may_be_new: bool = True,
    may_be_there: bool = True,
    unchanged: bool = False,
) -> Iterator[IO[Any]]:
    """A file object for the new content of the file at `place`, where nothing can, or may, be kept
    beside it: the content is written into the file when the context ends without an error.

    Args:
        place: the file's.
        text: whether str is written, with ``\\n`` at the ends of lines, or bytes.
        encoding: the text's.
        may_be_new: whether the file may not be there yet.
        may_be_there: whether it may be there already.
        unchanged: whether what somebody else has written meanwhile stays.

    Raises:
        OSError: if it cannot be written; what was there is put back.
        FileChanged: if it has to be there, and is not, or the other way round, or was changed
            meanwhile.
        LeavesShare: if a link was put in the way.
    """
    with open_folder(place) as folder:
        try:
            flags = (os.O_CREAT if may_be_new else 0) | (0 if may_be_there else os.O_EXCL)
            descriptor = folder.open_regular(place.name, os.O_RDWR | flags)
        except FileNotFoundError:
            raise FileChanged(_GONE) from None
        except FileExistsError:
            raise FileChanged(_MADE) from None
        try:
            seen = _version(folder, place.name)
            content = io.BytesIO()
            if text:
                wrapped = io.TextIOWrapper(content, encoding, newline="\n", write_through=True)
                yield wrapped
                wrapped.detach()
            else:
                yield content
            if unchanged and _version(folder, place.name) != seen:
                raise FileChanged(_CHANGED)
            _overwrite(descriptor, content.getbuffer())
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reading_whole(place: Place) -> Iterator[IO[bytes]]:
    """The content of the file at `place`, for reading bytes: whole, also while a server writes into
    it, or after one has died there.

    A thread may wait for a server that writes and keeps nothing beside the file, once for each
    time of writing. The event loop does not; see `await_writer`.

    Raises:
        LeavesShare: if a link has been put in the way.
        OSError: if it cannot be opened, or is no regular file.
    """
    patience = _Patience()
    while True:
        found = _look(place)
        if found.whole is not None or (found.mark is None and found.steady):
            break
        if found.mark is not None and (_awaited.get(found.file) == found.mark or _is_on_loop()):
            break
        if not patience.lasts(found):
            _give_up(found)
            break
    yield io.BytesIO(found.content if found.whole is None else found.whole)


def await_writer(place: Place) -> None:
    """Wait, in a thread, while a server writes into the file at `place`, if there is one."""
    with contextlib.suppress(OSError, LeavesShare):
        with reading(place) as file:
            if not has_mark(file.fileno()):
                return
        with reading_whole(place):
            pass


def finish(place: Place, *, died: bool = False) -> bool | None:
    """Finish what a server has begun to write into the file at `place` and died over. Only its
    saver may call this.

    Args:
        place: the file's.
        died: whether a server without this extension, which says nowhere that it writes, is known
            to have died over it. What it was replacing lies beside the file then, and is put back.

    Returns:
        Whether there was something to finish; None, if a server without this extension may be
        writing the file.

    Raises:
        OSError: if it cannot be read or written.
        FileChanged: if it is changed meanwhile.
        LeavesShare: if a link has been put in the way.
    """
    try:
        found = _look(place)
    except FileNotFoundError:
        return False
    whole = found.whole
    if found.mark is None:
        _forget_writer(place, found.content)
    if whole is None:
        return False
    if whole == found.content:
        # It died after that.
        with open_folder(place) as folder:
            _unlink(folder, _spare(place.name))
        return False
    with reading(place) as file:
        if not died and not is_marked(file.fileno(), whole):
            return None
    with writing(place, text=False, may_be_new=False) as file:
        file.write(whole)
    return True


def is_cut_off(place: Place) -> bool:
    """Whether a server has died while it wrote into the file at `place`, and what it was writing is
    not beside it.

    Raises:
        OSError: if it cannot be read.
        LeavesShare: if a link has been put in the way.
    """
    patience = _Patience()
    while True:
        try:
            found = _look(place)
        except FileNotFoundError:
            return False
        if found.mark is None or found.whole is not None:
            return False
        if not patience.lasts(found):
            return True


class _Found(NamedTuple):
    """What a look at a file has found.

    Attributes:
        file: its device and number.
        version: as of `_version`, before the look.
        steady: whether that is still so after it.
        content: what it held.
        mark: that of what is being written into it.
        whole: what it would hold if that had been done, if it is known.
    """

    file: tuple[int, int]
    version: tuple[int, ...] | None
    steady: bool
    content: bytes
    mark: bytes | None
    whole: bytes | None


class _Patience:
    """How long a file is waited for into which somebody writes."""

    def __init__(self) -> None:
        self._end = time.monotonic() + READ_MOST_S
        self._version: tuple[int, ...] | None = None
        self._tries = 0

    def lasts(self, found: _Found) -> bool:
        """Wait a moment after this look at the file; return whether another one makes sense."""
        if found.mark is not None and found.version != self._version:
            self._version, self._tries = found.version, 0  # it goes on
        self._tries += 1
        if self._tries > READ_TRIES or time.monotonic() > self._end:
            return False
        if found.mark is not None:
            time.sleep(READ_PAUSE_S)
        return True


def _look(place: Place) -> _Found:
    with open_folder(place) as folder:
        before = _version(folder, place.name)
        with reading(place) as file:
            content: bytes = file.read()
            mark = mark_of_other(file.fileno(), content)
            there = os.fstat(file.fileno())
        whole = _whole(folder, place, content)
        steady = before == _version(folder, place.name)
    file_id = there.st_dev, there.st_ino
    if mark is None:
        _awaited.pop(file_id, None)
    return _Found(file_id, before, steady, content, mark, whole)


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _give_up(found: _Found) -> None:
    if found.mark is not None:
        if len(_awaited) >= AWAITED_MAX:
            _awaited.clear()
        _awaited[found.file] = found.mark


def _forget_writer(place: Place, content: bytes) -> None:
    """Take away the mark of a server that died when it had written this."""
    with contextlib.suppress(OSError), reading(place) as file:
        if has_mark(file.fileno()) and is_marked(file.fileno(), content):
            mark_written(file.fileno(), None)


def _spare(name: str) -> str:
    """The name of the new content while it is copied into the file: where Jupyter looks, too."""
    return name_beside(name, ".~", "")


def _left(name: str) -> str:
    """The name of the new content that could not be written, where the spare's is taken: one for
    each account, which replaces no other's."""
    account = os.geteuid() if hasattr(os, "geteuid") else 0
    return name_beside(name, ".", f".{account}.new")


def _content(place: Place) -> bytes:
    with reading(place) as file:
        content: bytes = file.read()
    return content


def _whole(folder: Folder, place: Place, content: bytes) -> bytes | None:
    """What the file would hold if writing into it had been done; None if nobody writes into it."""
    try:
        spare = folder.stat(_spare(place.name))
        if spare.st_size < len(content) or spare.st_nlink != 1:
            return None
        whole = _content(place.beside(_spare(place.name)))
        if not whole.startswith(content):
            return None
        known = folder.open_regular(place.name)
        try:
            trusted = may_have_written(folder.stat(os.curdir), known, spare, whole)
        finally:
            os.close(known)
    except (OSError, LeavesShare):
        return None
    return whole if trusted else None


def _dress(folder: Folder, place: Place, new: int, like: Place | None) -> bool:
    """Give the new file what the file that it replaces has; return whether it may replace it."""
    with contextlib.ExitStack() as stack:
        try:
            if like is not None:
                folder = stack.enter_context(open_folder(like))
            known = folder.open_regular((like or place).name)
        except FileNotFoundError:
            return True
        stack.callback(os.close, known)
        if like is not None:
            share_copy(known, new)
        elif os.fstat(known).st_nlink != 1 or not take_place_of(known, new):
            share_copy(known, new)
            return False
    return True


def _replaced(folder: Folder, name: str, by: str) -> bool:
    try:
        folder.replace(name, by)
    except OSError as error:
        if error.errno not in _STAYS:
            raise
        return False
    return True


def _copy_over(folder: Folder, place: Place, new: int, aside: str) -> None:
    target = folder.open_regular(place.name, os.O_RDWR)
    try:
        with open(os.dup(new), "rb") as file:
            file.seek(0)
            content = file.read()
        # Then what lies beside it is the only whole content, and stays until there is another.
        cut_off = _is_cut_off_here(folder, place)
        spare = _spare(place.name)
        # Somebody else's, which was left there, may refuse: then there is none.
        kept = spare if _replaced(folder, spare, aside) else aside
        try:
            _overwrite(target, content)
        except BaseException as error:
            if not cut_off and not isinstance(error, NotPutBack):
                _unlink(folder, kept)
                raise
            if kept == aside:
                with contextlib.suppress(OSError):
                    folder.replace(_left(place.name), aside)
            if isinstance(error, OSError):
                raise NotPutBack(*error.args) from error
            raise
        _unlink(folder, kept)
    finally:
        os.close(target)


def _is_cut_off_here(folder: Folder, place: Place) -> bool:
    """Whether the file is incomplete, after an attempt that failed, and what it should hold lies
    beside it."""
    try:
        folder.stat(_left(place.name))
    except OSError:
        return _whole(folder, place, _content(place)) is not None
    return True


def _overwrite(descriptor: int, content: bytes | memoryview) -> None:
    """Write into an open file, as quickly as can be.

    Raises:
        NotPutBack: if neither that nor putting back what was there is possible.
        OSError: if it is not possible.
    """
    with open(os.dup(descriptor), "rb") as there:
        there.seek(0)
        known = there.read()
    mark_written(descriptor, content)
    try:
        _put(descriptor, content)
    except BaseException as error:
        mark_written(descriptor, known)
        try:
            _put(descriptor, known)
        except OSError:
            mark_written(descriptor, content)
            raise NotPutBack(*error.args) from error
        mark_written(descriptor, None)
        raise
    mark_written(descriptor, None)


def _put(descriptor: int, content: bytes | memoryview) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _unlink(folder: Folder, name: str) -> None:
    """Remove a file, if that can be: what depends on it has been done."""
    with contextlib.suppress(OSError, LeavesShare):
        folder.unlink(name)


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
