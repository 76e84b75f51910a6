"""How Jupyter's contents manager reads and writes shared files: whole, and off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakSet

import nbformat
from jupyter_server.services.contents.fileio import AsyncFileManagerMixin, FileManagerMixin
from nbformat.sign import SQLiteSignatureStore
from tornado.web import HTTPError

from ..core.cell_ids import name_cells
from ..core.errors import FileChanged, LeavesShare, SaveFailed
from ..core.stepwise import StepwiseDecoder
from ..files import note_files
from ..files.open_folders import Place
from ..files.share_folders import ShareFolders, is_as_saved_over, is_copying, is_making, is_saving
from ..files.signatures import QueuedSignatures
from ..files.whole_files import reading_whole, writing, writing_in_place
from .spare_checkpoints import share_new_folder, spare_checkpoints

_UNTYPED: Any = nbformat
_WITH_IDS = (4, 5)
"""The first format whose cells have ids."""
_IN_THREAD: Any = FileManagerMixin
"""The same methods, which wait where they are called."""


_waiting: WeakSet[Any] = WeakSet()


def waits_for_writers(manager: Any) -> bool:
    """Whether the contents manager waits for a server that writes into a shared file, in the thread
    in which it reads that."""
    return manager in _waiting


def take_over_files(
    manager: Any, folders: ShareFolders | None, log: logging.Logger
) -> Callable[[], None]:
    """Let the contents manager replace shared files as a whole, in a thread, read them in one, and
    sign them in another; and never outside the folder of their share.

    A manager that does not keep files in a folder, or does so in a way of its own, is left as it
    is.

    Args:
        manager: the server's contents manager.
        folders: which files are shared, and where they are.
        log: is told of signatures that cannot be stored.

    Returns:
        What to call when the server stops.
    """
    if folders is None or getattr(manager, "atomic_writing", None) is None:
        return lambda: None

    def find(os_path: str) -> Place | None:
        with _told():
            return folders.find(os_path)

    _write_in_place(manager, find)
    reads_whole = _read_in_place(manager, find)
    _copy_in_place(manager.checkpoints, folders)
    spare_checkpoints(manager, folders.shared, log)
    _take_notes_along(manager, folders, log)
    if _InThreads(manager, folders.shared).install() and reads_whole:
        _waiting.add(manager)
    return _sign_in_thread(manager, log)


Find = Callable[[str], Place | None]
"""Returns the place of a shared file, given its path for the operating system."""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell Jupyter's errors where it expects them."""
    try:
        yield
    except SaveFailed as error:
        raise HTTPError(409, str(error)) from error
    except LeavesShare as error:
        raise HTTPError(403, str(error)) from error


def _write_in_place(manager: Any, find: Find) -> None:
    """Jupyter writes over what others read, and through links."""
    write = manager.atomic_writing

    @contextlib.contextmanager
    def atomic_writing(os_path: str, *args: Any, **keywords: Any) -> Iterator[Any]:
        place, making = find(os_path), is_making()
        if place is None:
            opened = write(os_path, *args, **keywords)
        elif manager.use_atomic_writing:
            # A save by REST, such as of a new file that a whole class opens, replaces what is
            # there, as ever.
            opened = writing(
                place,
                *args,
                **keywords,
                may_be_new=not is_saving(),
                may_be_there=making is None,
                unchanged=is_saving() or making is not None,
                like=is_copying(),
                access=making and making.access,
            )
        else:
            opened = writing_in_place(
                place,
                *args,
                **keywords,
                may_be_new=not is_saving(),
                may_be_there=making is None,
            )
        with manager.perm_to_403(os_path), _told(), opened as file:
            # The loader's own comparison is with what any room, or the watch, has looked at last.
            if not is_as_saved_over(os_path):
                raise FileChanged("the file was changed in the very moment of saving")
            yield file

    manager.atomic_writing = atomic_writing


def _read_in_place(manager: Any, find: Find) -> bool:
    """Jupyter reads through links. Return whether this manager does so no more."""
    read = manager.open
    if getattr(type(manager), "open", None) is not FileManagerMixin.open:
        return False

    @contextlib.contextmanager
    def opened(os_path: str, mode: str = "r", *args: Any, **keywords: Any) -> Iterator[Any]:
        place = find(os_path) if mode == "rb" else None
        if place is None:
            with read(os_path, mode, *args, **keywords) as file:
                yield file
        else:
            with manager.perm_to_403(os_path), _told(), reading_whole(place) as file:
                yield file

    manager.open = opened
    return True


def _copy_in_place(checkpoints: Any, folders: ShareFolders) -> None:
    """Jupyter copies files to checkpoints and back through links."""
    copy: Any = getattr(checkpoints, "_copy", None)
    upstream = getattr(type(checkpoints), "_copy", None)
    asynchronous = upstream is AsyncFileManagerMixin._copy
    if not asynchronous and upstream is not FileManagerMixin._copy:
        return

    def copied(source: str, target: str) -> bool:
        """Whether this was for us to do, and is done."""
        if not folders.shared(target):
            return False
        with checkpoints.perm_to_403(target), _told():
            there = folders.find(target)
            if there is None:
                raise LeavesShare(f"{target} leads, by a link, out of the folder of its share")
            known = folders.find(source)
            if known is None:
                return False
            # A file that is put back is for whom it was for, whatever its checkpoint says.
            kept = os.path.basename(os.path.dirname(target)) == checkpoints.checkpoint_dir
            like = known if kept else None
            if kept:
                share_new_folder(there)
            with (
                reading_whole(known) as file,
                writing(there, text=False, unchanged=False, like=like) as copy,
            ):
                shutil.copyfileobj(file, copy)
            return True

    def wait(source: str, target: str) -> None:
        if not copied(source, target):
            copy(source, target)

    async def in_thread(source: str, target: str) -> None:
        if not await asyncio.to_thread(copied, source, target):
            await copy(source, target)

    checkpoints._copy = in_thread if asynchronous else wait


def _sign_in_thread(manager: Any, log: logging.Logger) -> Callable[[], None]:
    notary = manager.notary
    store = notary.store
    if not isinstance(store, SQLiteSignatureStore) or store.db_file == ":memory:":
        return lambda: None
    notary.store = queued = QueuedSignatures(store, notary.store_factory, log)

    def close() -> None:
        if notary.store is queued:
            notary.store = store
        queued.close()

    return close


def _take_notes_along(manager: Any, folders: ShareFolders, log: logging.Logger) -> None:
    """What savers have noted beside a file is about that one, wherever it goes, and not about the
    next one at its path."""

    def place(path: str) -> Place | None:
        try:
            return folders.find(manager._get_os_path(path.strip("/")))
        except (HTTPError, LeavesShare):
            return None  # nothing is noted beside it

    def follow(old: Place | None, path: str | None) -> None:
        new = None if path is None else place(path)
        if old is None or old == new:
            return
        try:
            note_files.follow(old, new)
        except OSError as error:
            log.warning(
                "%s: what servers have noted beside it stays at its old path, where another file "
                "would be taken for it: %s",
                old.path,
                error,
            )

    def wait(do: Callable[..., Any]) -> Callable[..., Any]:
        def done(path: str, *to: str) -> None:
            old = place(path)
            do(path, *to)
            follow(old, *to or (None,))

        return done

    def in_thread(do: Callable[..., Any]) -> Callable[..., Any]:
        async def done(path: str, *to: str) -> None:
            old = await asyncio.to_thread(place, path)
            await do(path, *to)
            await asyncio.to_thread(follow, old, *to or (None,))

        return done

    for name in ("rename_file", "delete_file"):
        do = getattr(manager, name)
        followed = in_thread if inspect.iscoroutinefunction(do) else wait
        setattr(manager, name, followed(do))


class _InThreads:
    """What an asynchronous contents manager does with shared files on the event loop, in threads:
    waiting for the disk, and work on all of a content in one piece."""

    def __init__(self, manager: Any, is_shared: Callable[[str], bool]) -> None:
        self._manager = manager
        self._is_shared = is_shared
        # Taken by the manager right after it has the content, with nobody else in between.
        self._hashed: tuple[Any, Any] | None = None

    def install(self) -> bool:
        """Take over those of the manager's methods that are upstream's; return whether files are
        read in threads."""
        kind, upstream = type(self._manager), AsyncFileManagerMixin
        reads = False
        if getattr(kind, "_get_hash", None) is upstream._get_hash:
            self._take("_get_hash", self._get_hash)
            reads = self._take("_read_file", self._read_file)
        self._take("_read_notebook", self._read_notebook)
        for name in ("_save_notebook", "_save_file"):
            self._take(name, partial(self._save, getattr(_IN_THREAD, name)))
        return reads

    def _take(self, name: str, ours: Callable[..., Any]) -> bool:
        if getattr(type(self._manager), name, None) is not getattr(AsyncFileManagerMixin, name):
            return False
        setattr(self._manager, name, partial(ours, getattr(self._manager, name)))
        return True

    async def _read_file(
        self, read: Callable[..., Any], os_path: str, format: str | None, raw: bool = False
    ) -> Any:
        if not self._is_shared(os_path):
            return await read(os_path, format, raw)
        answer, self._hashed = await asyncio.to_thread(self._read_and_hash, os_path, format, raw)
        return answer

    def _read_and_hash(self, os_path: str, format: str | None, raw: bool) -> tuple[Any, Any]:
        answer = _IN_THREAD._read_file(self._manager, os_path, format, raw)
        if format != "byte":
            return answer, None  # not asked for the hash
        return answer, (answer[0], _IN_THREAD._get_hash(self._manager, answer[0]))

    def _get_hash(self, work_out: Callable[[bytes], Any], content: bytes) -> Any:
        hashed, self._hashed = self._hashed, None
        return hashed[1] if hashed is not None and hashed[0] is content else work_out(content)

    async def _read_notebook(
        self,
        read: Callable[..., Any],
        os_path: str,
        as_version: int = 4,
        capture_validation_error: Any = None,
        raw: bool = False,
    ) -> Any:
        if self._is_shared(os_path):
            # Whatever is wrong, upstream tells it, and mends what can be.
            with contextlib.suppress(Exception):
                notebook, data = await asyncio.to_thread(
                    self._read_stepwise, os_path, as_version, capture_validation_error
                )
                return (notebook, data) if raw else notebook
        return await read(os_path, as_version, capture_validation_error, raw)

    def _read_stepwise(self, os_path: str, as_version: int, errors: Any) -> tuple[Any, bytes]:
        text, _, data = _IN_THREAD._read_file(self._manager, os_path, "text", raw=True)
        return _notebook_in(text, as_version, errors), data

    async def _save(
        self,
        in_thread: Callable[..., Any],
        save: Callable[..., Any],
        os_path: str,
        *args: Any,
        **keywords: Any,
    ) -> None:
        if self._is_shared(os_path):
            save = partial(asyncio.to_thread, in_thread, self._manager)
        await save(os_path, *args, **keywords)


def _notebook_in(text: str, as_version: int, errors: Any) -> Any:
    """The notebook, as `nbformat.reads` reads it, but for the ids that it would make up for
    cells."""
    notebook = _UNTYPED.reader.reads(text, cls=StepwiseDecoder)
    version = _UNTYPED.reader.get_version
    has_ids = version(notebook) >= _WITH_IDS
    if has_ids:
        name_cells(notebook["cells"])
    if as_version is not _UNTYPED.NO_CONVERT:
        notebook = _UNTYPED.convert(notebook, as_version)
    if not has_ids and version(notebook) >= _WITH_IDS:
        name_cells(notebook["cells"], anew=True)
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        if isinstance(errors, dict):
            errors["ValidationError"] = error
    return notebook
