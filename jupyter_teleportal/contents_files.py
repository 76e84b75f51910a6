"""How Jupyter's contents manager writes shared files: whole, and not on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from jupyter_server.services.contents.fileio import AsyncFileManagerMixin, FileManagerMixin
from nbformat.sign import SQLiteSignatureStore
from tornado.web import HTTPError

from .errors import SaveFailed
from .shares import Shares
from .signatures import QueuedSignatures
from .whole_files import replaceable, replacing

_WRITERS = "_save_notebook", "_save_file"


def take_over_files(manager: Any, shares: Shares, log: logging.Logger) -> Callable[[], None]:
    """Let the contents manager replace shared files as a whole, in a thread, and sign in another.

    A manager that does not write files in a folder, or does so in a way of its own, is left as it
    is.

    Args:
        manager: the server's contents manager.
        shares: which files are shared.
        log: is told of signatures that cannot be stored.

    Returns:
        What to call when the server stops.
    """
    if getattr(manager, "atomic_writing", None) is None:
        return lambda: None

    def is_shared(os_path: str) -> bool:
        api_path = os.path.relpath(os_path, manager.root_dir).replace(os.sep, "/")
        return shares.locate(api_path) is not None

    _replace_whole(manager, is_shared)
    for name in _WRITERS:
        if getattr(type(manager), name, None) is getattr(AsyncFileManagerMixin, name):
            _write_in_thread(manager, name, is_shared)
    return _sign_in_thread(manager, log)


def _replace_whole(manager: Any, is_shared: Callable[[str], bool]) -> None:
    """Jupyter writes in place, and others read."""
    write_in_place = manager.atomic_writing

    @contextlib.contextmanager
    def atomic_writing(os_path: str, *args: Any, **keywords: Any) -> Iterator[Any]:
        if is_shared(os_path) and manager.use_atomic_writing and replaceable(os_path):
            try:
                with manager.perm_to_403(os_path), replacing(os_path, *args, **keywords) as file:
                    yield file
            except SaveFailed as error:
                raise HTTPError(409, str(error)) from error
        else:
            with write_in_place(os_path, *args, **keywords) as file:
                yield file

    manager.atomic_writing = atomic_writing


def _write_in_thread(manager: Any, name: str, is_shared: Callable[[str], bool]) -> None:
    """Jupyter makes the content in a thread, and waits for the disk on the event loop."""
    write, write_and_wait = getattr(manager, name), getattr(FileManagerMixin, name)

    async def save(os_path: str, *args: Any, **keywords: Any) -> None:
        if is_shared(os_path):
            await asyncio.to_thread(write_and_wait, manager, os_path, *args, **keywords)
        else:
            await write(os_path, *args, **keywords)

    setattr(manager, name, save)


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
