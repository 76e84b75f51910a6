"""Where the files of shares really are: below the real folder of their share, or nowhere."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from ..core.access import Access
from ..core.errors import LeavesShare
from ..core.shares import SharedPath, Shares
from .open_folders import Place, place_within


class Making(NamedTuple):
    """A document's file is written that is not there.

    Attributes:
        access: for whom it was when it was there, if that is known.
    """

    access: Access | None = None


_working_for: ContextVar[str | None] = ContextVar("working_for", default=None)
_saving: ContextVar[datetime.datetime | None] = ContextVar("saving", default=None)
_making: ContextVar[Making | None] = ContextVar("making", default=None)
_copying: ContextVar[Place | None] = ContextVar("copying", default=None)


@contextlib.contextmanager
def working_for(
    share: str,
    *,
    saving: datetime.datetime | None = None,
    making: Making | None = None,
    copying: Place | None = None,
) -> Iterator[None]:
    """What is read and written in this context is read and written for a room of `share`, so that
    nothing outside that share may be; `saving`: what is written is a file that is there, and was
    last modified then; `making`: one that is not there; `copying`: it is a copy of the file there,
    for the same people."""
    worked, saved = _working_for.set(share), _saving.set(saving)
    made, copied = _making.set(making), _copying.set(copying)
    try:
        yield
    finally:
        _working_for.reset(worked)
        _saving.reset(saved)
        _making.reset(made)
        _copying.reset(copied)


def is_saving() -> bool:
    """Whether what is written now is a document's file that is there."""
    return _saving.get() is not None


def is_as_saved_over(os_path: str) -> bool:
    """Whether the file that is written now, if it is one that is there, has not been modified since
    it was compared with its document."""
    compared = _saving.get()
    if compared is None:
        return True
    # A link counts by itself, as the contents manager has it.
    now = datetime.datetime.fromtimestamp(os.lstat(os_path).st_mtime, datetime.timezone.utc)
    return abs(now - compared) < datetime.timedelta(microseconds=10)


def is_making() -> Making | None:
    """What is known of a document's file that is not there, if that is what is written now."""
    return _making.get()


def is_copying() -> Place | None:
    """The file of which what is written now is a copy."""
    return _copying.get()


class ShareFolders:
    """The folders of a server's shares, as the operating system sees them.

    A share's folder may itself be a link or a mount. It is resolved once: whoever can replace that
    link later, such as a member of a share that this one lies in, gains nothing by it.
    """

    def __init__(self, shares: Shares, root: str, os_path: Callable[[str], str]) -> None:
        """
        Args:
            shares: the shares.
            root: the folder that the server serves.
            os_path: returns the path, for the operating system, of an API path.
        """
        self._shares = shares
        self._root = root
        self._os_path = os_path
        self._real: dict[str, str] = {}

    def place(self, shared: SharedPath) -> Place:
        """Where the file of a shared document really is, or would be.

        Raises:
            LeavesShare: if that is not in the share's own folder, or is in that of a share inside
                it.
        """
        root = self.real_folder(shared.share)
        real = os.path.realpath(self._os_path(self._shares.api_path(shared)))
        place = place_within(root, real)
        if place is None or any(
            place_within(inner, real) is not None
            for share in self._shares
            if place_within(root, inner := self.real_folder(share)) is not None
        ):
            raise LeavesShare(
                f"{self._shares.api_path(shared)!r} leads, by a link, out of the folder of share "
                f"{shared.share!r}; what lies elsewhere is not shared"
            )
        return place

    def holds(self, shared: SharedPath) -> bool:
        """Whether the file of a shared document lies in its share's real folder."""
        if not shared.path:
            return True
        try:
            self.place(shared)
        except LeavesShare:
            return False
        return True

    def shared(self, os_path: str) -> bool:
        """Whether the path `os_path` is one of a share, wherever it may lead."""
        return self._located(os_path) is not None

    def find(self, os_path: str) -> Place | None:
        """The place of the file at `os_path` if it is shared. None if it is not, or lies elsewhere
        and nobody works for a room.

        Raises:
            LeavesShare: if this is done for a room, and the file is not one of its share.
        """
        shared, share = self._located(os_path), _working_for.get()
        if share is not None and (shared is None or shared.share != share):
            raise LeavesShare(f"{os_path} is not in share {share!r}")
        if shared is None:
            return None
        try:
            return self.place(shared)
        except LeavesShare:
            if share is not None:
                raise
            return None

    def _located(self, os_path: str) -> SharedPath | None:
        return self._shares.locate(os.path.relpath(os_path, self._root).replace(os.sep, "/"))

    def real_folder(self, share: str) -> str:
        """The real path of a share's folder."""
        known = self._real.get(share)
        if known is None:
            known = os.path.realpath(self._os_path(self._shares.folder(share)))
            if os.path.isdir(known):
                self._real[share] = known
        return known


def folders_of(manager: Any, shares: Shares) -> ShareFolders | None:
    """The shares' folders as this contents manager has them; None if it keeps no files in
    folders."""
    os_path = getattr(manager, "_get_os_path", None)
    root = getattr(manager, "root_dir", None)
    if os_path is None or root is None:
        return None
    return ShareFolders(shares, os.path.abspath(root), os_path)
