"""Jupyter's checkpoints of shared files: nothing fails for want of one, and members share them."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from tornado.web import HTTPError

from ..files.file_access import share_folder
from ..files.open_folders import READ, Place, open_folder

_in_save: ContextVar[bool] = ContextVar("in_save", default=False)


def spare_checkpoints(manager: Any, is_shared: Callable[[str], bool], log: logging.Logger) -> None:
    """Let shared files be saved, renamed and deleted also where their checkpoints cannot be.

    The contents manager makes a notebook's first checkpoint when the notebook has been written
    already: if that fails, because another account has made the folder of checkpoints, or the disk
    is full, a save would count as failed, and what it has written as somebody else's.

    Args:
        manager: the server's contents manager.
        is_shared: whether the file at a path, for the operating system, is shared.
        log: is told of each file without a checkpoint, once.
    """
    told: set[str] = set()

    @contextlib.contextmanager
    def spared(path: str) -> Iterator[None]:
        try:
            yield
        except (HTTPError, OSError) as error:
            if path not in told:
                told.add(path)
                log.warning("%s: its checkpoint cannot be kept up to date: %s", path, error)
        else:
            told.discard(path)

    def applies(path: str) -> bool:
        with contextlib.suppress(HTTPError):
            return is_shared(manager._get_os_path(path.strip("/")))
        return False

    def spare(owner: Any, name: str, *, only_in_save: bool = False, instead: Any = None) -> None:
        do = getattr(owner, name)

        def whole(path: str) -> bool:
            return (only_in_save and not _in_save.get()) or not applies(path)

        async def in_turn(path: str, *more: str) -> Any:
            if whole(path):
                return await do(path, *more)
            with spared(path):
                return await do(path, *more)
            return instead

        def at_once(path: str, *more: str) -> Any:
            if whole(path):
                return do(path, *more)
            with spared(path):
                return do(path, *more)
            return instead

        setattr(owner, name, in_turn if inspect.iscoroutinefunction(do) else at_once)

    _note_saves(manager)
    # Where none can be listed, none is made.
    spare(manager.checkpoints, "list_checkpoints", only_in_save=True, instead=[{}])
    spare(manager, "create_checkpoint", only_in_save=True)
    spare(manager.checkpoints, "rename_all_checkpoints")
    spare(manager.checkpoints, "delete_all_checkpoints")


def _note_saves(manager: Any) -> None:
    save = manager.save

    @contextlib.contextmanager
    def noted() -> Iterator[None]:
        token = _in_save.set(True)
        try:
            yield
        finally:
            _in_save.reset(token)

    async def in_turn(*args: Any, **keywords: Any) -> Any:
        with noted():
            return await save(*args, **keywords)

    def at_once(*args: Any, **keywords: Any) -> Any:
        with noted():
            return save(*args, **keywords)

    manager.save = in_turn if inspect.iscoroutinefunction(save) else at_once


def share_new_folder(place: Place) -> None:
    """If the folder of `place` has just been made by this account, let everybody use it who may use
    the folder that it lies in; whatever the account's umask is."""
    if not place.folders or not hasattr(os, "fchown"):
        return
    *outer, name = place.folders
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        parent = stack.enter_context(open_folder(Place(place.root, tuple(outer), name)))
        known = parent.open(os.curdir, READ | os.O_DIRECTORY)
        stack.callback(os.close, known)
        new = parent.open(name, READ | os.O_DIRECTORY)
        stack.callback(os.close, new)
        if not os.listdir(new) and os.fstat(new).st_uid == os.geteuid():
            share_folder(known, new)
