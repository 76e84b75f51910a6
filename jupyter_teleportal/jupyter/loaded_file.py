"""A document's file, read and written through upstream's file loader."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import posixpath
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from jupyter_server.utils import ensure_async
from jupyter_server_ydoc.loaders import FileLoader
from jupyter_server_ydoc.rooms import DocumentRoom
from jupyter_server_ydoc.utils import OutOfBandChanges
from tornado.web import HTTPError

from ..core.access import Access
from ..core.document_file import FileState
from ..core.envelopes import lineage_noted
from ..core.errors import FileChanged, FileGone, SaveFailed
from ..files import note_files
from ..files.file_access import access_to
from ..files.open_folders import Place, name_beside, reading
from ..files.share_folders import Making, working_for
from ..files.whole_files import await_writer, finish, is_cut_off
from ..files.writers import has_writer
from ..transports.base import loop_time
from .contents_files import waits_for_writers
from .file_ids import FileRegistry

STOPPED_S = 5.0
"""A program that writes into a file does so again within this time, or has died."""
STOPPED_LONG_AGO_S = 60.0
"""What was not changed for so long by its own time, which another machine's clock may have told, is
not watched for `STOPPED_S`: whoever opens it would wait."""
STOPPED_POLL_S = 0.2


class LoadedFile:
    """A document's file through its room's file loader; nothing of it lies outside its share."""

    def __init__(self, room: DocumentRoom, registry: FileRegistry, share: str) -> None:
        self._room = room
        self._registry = registry
        self._share = share
        self._loader: FileLoader = room._file
        self._contents: Any = room._file._contents_manager
        self._modified: Any = None
        self._seen: Any = None
        self._known: Any = None
        self._access: Access | None = None
        self._stays_at = ""

    @property
    def path(self) -> str:
        return self._stays_at or str(self._loader.path)

    def stay_at(self, path: str) -> None:
        """The file at this API path is another document's from now on."""
        self._stays_at = path

    def _place(self) -> Place | None:
        """Where the file really is; None, if the contents manager keeps no files in folders.

        Raises:
            LeavesShare: if it is not in the share's folder.
        """
        return self._registry.place(self._share, self.path)

    def os_path(self) -> str:
        """The file's path for the operating system, wherever it leads; empty, if the contents
        manager keeps no files in folders."""
        if self._registry.folders is None:
            return ""
        return str(self._contents._get_os_path(self.path.strip("/")))

    def check_place(self) -> None:
        """
        Raises:
            LeavesShare: if the file is not in the share's folder.
        """
        self._place()

    @contextlib.contextmanager
    def working(
        self, *, saving: datetime.datetime | None = None, making: Making | None = None
    ) -> Iterator[None]:
        """A context in which no file outside the share is read or written; `saving`: nor one made
        that is not there, or was modified since then; `making`: nor one replaced that is.
        Raises `LeavesShare`, `FileGone` where the file is not there, and `FileChanged` where it
        is not what it was."""
        self._place()
        try:
            with working_for(self._share, saving=saving, making=making):
                yield
        except HTTPError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise FileGone("the file was deleted") from error
            if error.status_code == HTTPStatus.CONFLICT:
                raise FileChanged(error.log_message) from error
            raise

    @property
    def _type(self) -> str:
        known = {"directory", "file", "notebook"}
        return self._room.file_type if self._room.file_type in known else "file"

    async def stat(self) -> FileState:
        await self._await_writer()
        return _state(await self._look(require_hash=True))

    async def _await_writer(self) -> None:
        """A contents manager that reads on the event loop does not wait for a server that writes
        into the file."""
        place = None if waits_for_writers(self._contents) else self._place()
        if place is not None:
            await asyncio.to_thread(await_writer, place)

    async def is_writable(self) -> bool:
        """Whether this server may write the file; of a large one that is known long before its
        hash is."""
        return bool((await self._look())["writable"])

    async def _look(self, **more: bool) -> dict[str, Any]:
        with self.working():
            model: dict[str, Any] = await ensure_async(
                self._contents.get(self.path, type=self._type, content=False, **more)
            )
        self._modified = model["last_modified"]
        return model

    async def is_at(self, path: str, lineage: str | None = None) -> bool:
        """Whether the document's file, as this server knew it, is at this API path now; or one
        beside which another server has noted edits of the `lineage`."""
        try:
            if await self._identify(path) == self._known:
                return True
            place = self._registry.place(self._share, path)
            if place is None or lineage is None:
                return False
            notes = await asyncio.to_thread(note_files.read_all, place)
            return any(isinstance(n, bytes) and lineage_noted(n) == lineage for n in notes.values())
        except Exception:  # noqa: BLE001 (what cannot be looked at is not known)
            return False

    async def _identify(self, path: str) -> Any:
        """What tells the file at an API path from others, and from itself once it is changed."""
        place = self._registry.place(self._share, path)
        if place is None:
            return (await ensure_async(self._contents.get(path, content=False)))["last_modified"]
        found = await asyncio.to_thread(os.stat, place.path)
        return found.st_dev, found.st_ino, found.st_mtime_ns

    async def _notice(self) -> None:
        try:
            self._seen = await self._identify(self.path)
            if (place := self._place()) is not None:
                self._access = await asyncio.to_thread(_access_to, place)
        except Exception:  # noqa: BLE001 (whoever needs the file meets it again)
            self._seen = None

    def taken_over(self) -> None:
        self._known = self._seen

    async def follow_changes(self) -> None:
        """Another server has changed the file; that is told apart from its having been renamed as
        long as the other servers say so at once."""
        if not self._registry.is_catching_up:
            await self._notice()
            self.taken_over()

    async def may_be_elsewhere(self) -> bool:
        return self._registry.is_catching_up and not await self.is_at(self.path)

    async def needs_a_closer_look(self, before: Any) -> bool:
        """Whether the file, which was of the time `before` when it was looked at last, may have
        been changed without upstream's noticing: it looks for later times, and at a link's own."""
        now = self._loader.last_modified
        return bool(now < before or (now == before and await asyncio.to_thread(self._is_link)))

    def _is_link(self) -> bool:
        return os.path.islink(self.os_path())

    async def load(self) -> tuple[Any, FileState]:
        while True:
            await self._await_writer()
            with self.working():
                model = await self._loader.load_content(
                    self._room.file_format, self._room.file_type
                )
            state = await self.stat()
            await self._notice()
            if self._modified == model["last_modified"]:
                return model["content"], state

    async def write(self, content: Any, over: FileState | None) -> FileState:
        if over is None:
            return await self._write_anew(content)
        if over.last_modified != str(self._modified):
            raise FileChanged("the file was changed in the very moment of saving")
        self._loader.last_modified = self._modified
        content = {
            "format": self._room.file_format,
            "type": self._room.file_type,
            "content": content,
        }
        try:
            with self.working(saving=self._modified):
                saved = await self._loader.maybe_save_content(content)
        except OutOfBandChanges as error:
            raise FileChanged("the file was changed in the very moment of saving") from error
        if saved is None:
            raise SaveFailed("the file is not writable")
        self._modified = saved["last_modified"]
        await self._notice()
        return _state(saved)

    async def _write_anew(self, content: Any) -> FileState:
        model = {"format": self._room.file_format, "type": self._type, "content": content}
        path = self.path
        folder = posixpath.dirname(path.strip("/"))
        if not await ensure_async(self._contents.dir_exists(folder)):
            raise SaveFailed(
                f"it was deleted, and so was its folder, {folder}; keep it with Save As"
            )
        with self.working(making=Making(self._access)):
            if await ensure_async(self._contents.file_exists(path)):
                raise FileChanged("the file was made anew in the very moment of saving")
            saved = await ensure_async(self._contents.save(model, path))
        state = await self.stat()
        if self._modified != saved["last_modified"]:
            raise FileChanged("the file was changed in the very moment of saving")
        self._loader.last_modified = self._modified
        await self._notice()
        return state

    async def take_path(self) -> None:
        await self._registry.take_path(self._loader.file_id)

    async def keep_copy(self, content: Any) -> str:
        folder, name = posixpath.split(self.path)
        stem, extension = posixpath.splitext(name)
        stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
        path = posixpath.join(folder, name_beside(stem, "", f" (conflict {stamp}){extension}"))
        model = {"format": self._room.file_format, "type": self._type, "content": content}
        with working_for(self._share, copying=self._place()):
            await ensure_async(self._contents.save(model, path))
        return path

    async def finish(self) -> bool:
        place = self._place()
        if place is None:
            return False
        try:
            done = await asyncio.to_thread(finish, place)
            while done is None:
                died = await _has_stopped(place)
                done = await asyncio.to_thread(finish, place, died=died)
        except FileNotFoundError:
            return False  # nor is the folder there
        return done

    async def is_cut_off(self) -> bool:
        place = self._place()
        if place is None:
            return False
        try:
            cut_off = await asyncio.to_thread(is_cut_off, place)
            return cut_off or (self._type == "notebook" and await _is_left_empty(place))
        except FileNotFoundError:
            return False  # nor is the folder there

    async def write_note(self, note: bytes) -> str | None:
        place = self._place()
        # No files lie beside one in a folder that is none.
        return None if place is None else await asyncio.to_thread(note_files.leave, place, note)

    async def read_notes(self) -> dict[str, bytes | Exception]:
        place = self._place()
        return {} if place is None else await asyncio.to_thread(note_files.read_all, place)

    async def remove_note(self, name: str) -> None:
        place = self._place()
        if place is not None:
            await asyncio.to_thread(note_files.remove, place, name)


async def _is_left_empty(place: Place) -> bool:
    """Whether the file is empty, and nobody is about to write into it. Every notebook holds
    something, so no program has meant this.

    Raises:
        SaveFailed: if a program is about to write into it.
    """
    while not (await asyncio.to_thread(os.stat, place.path)).st_size:
        if await _has_stopped(place):
            return True
    return False


async def _has_stopped(place: Place) -> bool:
    """Whether a program that was writing into the file does so no more.

    Raises:
        SaveFailed: if it has written nothing for a while, and has the file still open: who would
            replace that now would lose what it writes.
    """
    before = await asyncio.to_thread(os.stat, place.path)
    if time.time() - before.st_mtime <= STOPPED_LONG_AGO_S:
        since = loop_time()
        while loop_time() - since < STOPPED_S:
            await asyncio.sleep(STOPPED_POLL_S)
            now = await asyncio.to_thread(os.stat, place.path)
            if _version(now) != _version(before):
                return False
    if await asyncio.to_thread(has_writer, place):
        raise SaveFailed("another program is writing the file")
    return True


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _access_to(place: Place) -> Access | None:
    with reading(place) as file:
        return access_to(file.fileno())


def _state(model: dict[str, Any]) -> FileState:
    modified = str(model["last_modified"])
    found = model.get("hash") or modified
    return FileState(found, modified, bool(model["writable"]), model.get("size") or 0)
