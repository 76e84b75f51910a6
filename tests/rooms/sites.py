"""Servers with one document open, in one process: a memory hub, and a file in memory."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pycrdt import Awareness

from jupyter_teleportal.core.content import make_document
from jupyter_teleportal.core.document_file import FileState
from jupyter_teleportal.core.errors import FileChanged, FileGone, SaveFailed
from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.files.document_link import DocumentLink
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport

TIMING = Timing(
    heartbeat_interval_s=0.1,
    dead_after_s=0.6,
    lease_ttl_s=0.8,
    lease_margin_s=0.1,
    save_ceiling_s=1.0,
    save_reply_timeout_s=3,
    stop_timeout_s=1,
)
ROOM = Scope("share", "room")


@dataclass
class Disk:
    """One file on a folder that all replicas see."""

    content: Any
    written: list[str] = field(default_factory=list)
    copies: list[Any] = field(default_factory=list)
    writable: bool = True
    gone: bool = False
    """Whether the file was deleted."""
    problem: str | Exception = ""
    """Why nothing can be written."""
    taken: str = ""
    """Why a document that was deleted cannot be at its path again."""
    strangers: bool = False
    """Another program's, which is no document."""
    notes: dict[str, bytes] = field(default_factory=dict)
    cut_off: Any = None
    """What a server was writing into the file when it died; it can be read."""
    others: list[Any] = field(default_factory=list)
    """What another program writes, one after the other, each right before a server writes."""
    half: bool = False
    """Whether a server died while it was writing into the file, and nobody knows what."""

    @property
    def whole(self) -> Any:
        """What is read, whatever the file holds."""
        return self.content if self.cut_off is None else self.cut_off

    @property
    def note(self) -> bytes | None:
        """The one that was left last."""
        return next(reversed(self.notes.values()), None)

    @note.setter
    def note(self, note: bytes) -> None:
        self.notes = {"of another": note}

    def state(self) -> FileState:
        if self.gone:
            raise FileGone("the file was deleted")
        text = json.dumps(self.whole, sort_keys=True)
        found = hashlib.sha256(text.encode()).hexdigest()
        return FileState(found, str(len(text)), self.writable, len(text))


class File:
    """The file as one replica sees it."""

    path = "file"

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.name = name

    async def stat(self) -> FileState:
        return self.disk.state()

    async def load(self) -> tuple[Any, FileState]:
        state = self.disk.state()
        return copy.deepcopy(self.disk.whole), state

    def taken_over(self) -> None:
        """It has no other path."""

    async def may_be_elsewhere(self) -> bool:
        return False

    async def write(self, content: Any, over: FileState | None) -> FileState:
        await asyncio.sleep(0)
        if self.disk.problem:
            problem = self.disk.problem
            raise problem if isinstance(problem, Exception) else OSError(problem)
        if self.disk.others:
            self.disk.content = self.disk.others.pop(0)
        if over is None:
            assert self.disk.gone, "only what was deleted is made anew"
            self.disk.gone = False
        elif over.hash != self.disk.state().hash:
            raise FileChanged("the file was changed in the very moment of saving")
        self.disk.content, self.disk.cut_off = copy.deepcopy(content), None
        self.disk.half = False
        self.disk.written.append(self.name)
        return self.disk.state()

    async def finish(self) -> bool:
        finished = self.disk.cut_off is not None
        self.disk.content, self.disk.cut_off = self.disk.whole, None
        return finished

    async def is_cut_off(self) -> bool:
        return self.disk.half

    async def take_path(self) -> None:
        if self.disk.taken:
            raise SaveFailed(self.disk.taken)

    async def keep_copy(self, content: Any) -> str:
        self.disk.copies.append(content)
        return "copy"

    async def write_note(self, note: bytes) -> str | None:
        name = next(str(number) for number in range(100) if str(number) not in self.disk.notes)
        self.disk.notes[name] = note
        return name

    async def read_notes(self) -> dict[str, bytes | Exception]:
        return dict(self.disk.notes)

    async def remove_note(self, name: str) -> None:
        self.disk.notes.pop(name, None)


class Server:
    """One replica with the document open."""

    def __init__(
        self, hub: MemoryHub, disk: Disk, name: str, file_type: str, **timing: float
    ) -> None:
        self.name = name
        self.transport = MemorySyncTransport(hub)
        self.replica = Replica(self.transport, timing=replace(TIMING, **timing))
        self.document = make_document(file_type)
        self.told: list[tuple[str, str]] = []
        self.link = DocumentLink(
            self.replica,
            ROOM,
            self.document,
            file_type,
            File(disk, name),
            awareness=Awareness(self.document.ydoc),
            broadcast=lambda message: None,
            writable=disk.writable,
            save_delay_s=0.05,
            tell=lambda level, message: self.told.append((level, message)),
        )

    @property
    def text(self) -> str:
        return str(self.document.get())

    def write(self, text: str) -> None:
        """Type at the end."""
        self.document._ysource += text

    @property
    def saves(self) -> bool:
        return self.link.saver.may_save

    async def die(self) -> None:
        """Be gone without a word."""
        self.transport.disconnect()
        if self.replica._beating is not None:
            self.replica._beating.cancel()
        if self.link.saving.task is not None:
            self.link.saving.task.cancel()
        self.link.room.background.tasks.clear()


Start = Callable[..., Awaitable[Server]]


def same(*servers: Server) -> Callable[[], bool]:
    return lambda: all(server.document.get() == servers[0].document.get() for server in servers)
