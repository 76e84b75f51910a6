"""Replicas with one document open, each with its link, saver, lease and heartbeat, over one hub.

A replica can be killed, stopped, started, frozen and cut off, its calls refused, their replies
and its messages lost, delayed and repeated. The file lies in a folder: it can be renamed, the disk
be full, a replica's account be one that may not write there; another program can write the file,
also what the document holds already, and put another one where it was. The document is a text or a
notebook; clients send whatever bytes, and what the hub holds is forged, or of another kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from pycrdt import Awareness
from rooms.sites import ROOM, Disk, File

from jupyter_teleportal.core.content import make_document
from jupyter_teleportal.core.crdt import Door
from jupyter_teleportal.core.document_file import FileState
from jupyter_teleportal.core.envelopes import decode_payload
from jupyter_teleportal.core.errors import (
    CodecError,
    FileGone,
    SaveFailed,
    TransportRefused,
    TransportUnavailable,
)
from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.core.shares import SharedPath, Shares
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.files.document_link import DocumentLink
from jupyter_teleportal.files.path_claims import Look
from jupyter_teleportal.files.remembered_ids import Memory
from jupyter_teleportal.jupyter.file_ids import FileRegistry
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.base import Listener, TransportState
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport

from .clients import Served
from .contents import KINDS, Kind

TIMING = Timing()
PATH = "file"
FILE_ID = SharedPath(ROOM.share, PATH).default_file_id()
SAVE_DELAY_S = 1.0
LATENCY_S = 0.001
SLOW_S = 0.4
WATCH_S = 1.0
SILENCE_S = 6.0
RECONNECT_S = 0.3


class Wrong(AssertionError):
    """Something happened that must not."""


class SimulatedTransport(MemorySyncTransport):
    """A memory transport with a process and a network around it that can fail."""

    def __init__(self, hub: MemoryHub, log: logging.Logger) -> None:
        super().__init__(hub, log=log)
        self.dead = False
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.refusals = 0
        self.lost_replies = 0
        self.lost_messages = 0
        self.repeated_messages = 0
        self.slow = False

    async def alive(self) -> None:
        """Go on when this process runs; never, if it is dead."""
        await self.thawed.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def _reach(self) -> None:
        await self.alive()
        await asyncio.sleep(SLOW_S if self.slow else LATENCY_S)
        await self.alive()
        if self.refusals > 0:
            self.refusals -= 1
            raise TransportRefused("refused")
        await super()._reach()

    async def _answered(self) -> None:
        await asyncio.sleep(SLOW_S if self.slow else LATENCY_S)
        await self.alive()
        if self.lost_replies > 0:
            self.lost_replies -= 1
            raise TransportUnavailable("the answer is lost")

    def _deliver(self, scope: Scope, listener: Listener, message: bytes) -> None:
        if self.lost_messages > 0:
            self.lost_messages -= 1
            return
        times = 1
        if self.repeated_messages > 0:
            self.repeated_messages -= 1
            times = 2
        loop = asyncio.get_running_loop()
        for number in range(times):
            # A repeated one comes late, so that it is out of order too.
            delay = (SLOW_S if self.slow else LATENCY_S) + number * SLOW_S
            loop.call_later(delay, self._arrive, scope, listener, message)

    def _arrive(self, scope: Scope, listener: Listener, message: bytes) -> None:
        if self.dead:
            return
        if self.thawed.is_set():
            super()._deliver(scope, listener, message)
        else:
            # It waits in the socket.
            loop = asyncio.get_running_loop()
            loop.call_later(SLOW_S, self._arrive, scope, listener, message)


def _with_reply(name: str) -> Any:
    call = getattr(MemorySyncTransport, name)

    async def answered(self: SimulatedTransport, *arguments: Any, **keywords: Any) -> Any:
        result = await call(self, *arguments, **keywords)
        await self._answered()
        return result

    return answered


for _name in ("seed_log", "append_log", "read_log", "compact_log", "hold_lease", "mark_saved"):
    setattr(SimulatedTransport, _name, _with_reply(_name))
for _name in ("read_map", "write_map", "heartbeat", "read_history", "trim_history"):
    setattr(SimulatedTransport, _name, _with_reply(_name))


@dataclass
class Folder:
    """A folder that all replicas see.

    Attributes:
        kind: what the document is.
        files: by their paths.
        notes: what lies beside them, by the path that it is about.
        full: nothing can be written.
        denied: the replicas whose account may not write.
    """

    kind: Kind = KINDS["text"]
    files: dict[str, Disk] = field(default_factory=dict)
    notes: defaultdict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    copies: list[Any] = field(default_factory=list)
    full: bool = False
    denied: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.files[PATH] = Disk(self.kind.holding("<seed>"))

    def write(self, name: str) -> None:
        """Raise what a write by this replica does."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if name in self.denied:
            raise PermissionError(errno.EACCES, "Permission denied")


class Remembered(Memory):
    """What a replica remembers of ids when it starts again."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}
        self.paths: dict[str, Any] = {}
        self.untold: list[Any] = []

    def load(self, share: str) -> tuple[Any, Any, list[Any]]:
        return self.files, self.paths, self.untold

    def save(self, share: str, files: Any, paths: Any, untold: Any) -> None:
        self.files, self.paths, self.untold = copy.deepcopy((files, paths, untold))


class SimulatedFile(File):
    """The file as one replica sees it, which stops with its process."""

    def __init__(self, site: Site) -> None:
        self.name = site.name
        self._site = site
        self._seen: Any = None
        self._known: Any = None

    @property
    def path(self) -> str:  # type: ignore[override]
        path = self._site.registry.api_path(FILE_ID)
        if path is None:
            raise FileGone("no path is known")
        return path

    @property
    def disk(self) -> Disk:  # type: ignore[override]
        there = self._site.folder.files.get(self.path)
        if there is None:
            raise FileGone(f"{self.path} is not there")
        return there

    def is_at(self, path: str) -> bool:
        """Whether the document's file, as this replica knew it, is there."""
        there = self._site.folder.files.get(path)
        return there is not None and self._known == (id(there), there.content)

    def notice(self) -> None:
        self._seen = id(self.disk), copy.deepcopy(self.disk.content)

    def taken_over(self) -> None:
        self._known = self._seen

    async def may_be_elsewhere(self) -> bool:
        return self._site.registry.is_catching_up and not self.is_at(self.path)

    async def stat(self) -> FileState:
        await self._site.transport.alive()
        return await super().stat()

    async def load(self) -> tuple[Any, FileState]:
        await self._site.transport.alive()
        self.notice()
        return await super().load()

    async def write(self, content: Any, over: FileState | None) -> FileState:
        # Between the last look at the lease and here nothing is waited for, so a process that is
        # frozen right here is all that remains, and that is what the documents concede.
        if self._site.transport.dead:
            await self._site.transport.alive()
        self._site.folder.write(self.name)
        if over is not None:
            state = await super().write(content, over)
        else:
            there = self._site.folder.files.setdefault(self.path, Disk(content))
            if there.content is not content:
                raise SaveFailed("another file is there")
            state = there.state()
        self.notice()
        return state

    async def take_path(self) -> None:
        await self._site.registry.take_path(FILE_ID)

    async def keep_copy(self, content: Any) -> str:
        await self._site.transport.alive()
        self._site.folder.write(self.name)
        self._site.folder.copies.append(content)
        return "copy"

    @property
    def _notes(self) -> dict[str, bytes]:
        return self._site.folder.notes[self.path]

    async def write_note(self, note: bytes) -> str | None:
        if self._site.transport.dead:
            return None
        self._site.folder.write(self.name)
        name = next(str(number) for number in range(100) if str(number) not in self._notes)
        self._notes[name] = note
        return name

    async def read_notes(self) -> dict[str, bytes | Exception]:
        return dict(self._notes)

    async def remove_note(self, name: str) -> None:
        self._notes.pop(name, None)


class Site:
    """One process with the document open."""

    def __init__(
        self, hub: MemoryHub, folder: Folder, name: str, memory: Remembered, log: logging.Logger
    ) -> None:
        self.name = name
        self.folder = folder
        self.memory = memory
        self.transport = SimulatedTransport(hub, log)
        self.replica = Replica(self.transport, timing=replace(TIMING), log=log)
        self.registry = FileRegistry(self.replica, Shares({"": ROOM.share}))
        self.registry.look_with(self._look)
        self.registry.remember_in(memory)
        self.registry.ask_whether_open(lambda file_id: self.open and file_id == FILE_ID)
        self.registry.on_deletion(lambda file_id: self.link.saver.deleted())
        self.registry.on_return(lambda file_id: self.link.saver.returned())
        self.kind = folder.kind
        self.document = make_document(self.kind.file_type)
        self.awareness = Awareness(self.document.ydoc)
        self.told: list[tuple[str, str]] = []
        self.link = DocumentLink(
            self.replica,
            ROOM,
            self.document,
            self.kind.file_type,
            SimulatedFile(self),
            awareness=self.awareness,
            broadcast=lambda message: None,
            writable=True,
            save_delay_s=SAVE_DELAY_S,
            tell=lambda level, message: self.told.append((level, message)),
        )
        # On a server the link is made when its transport has been there, or away, for long.
        del self.replica.links[ROOM]
        self.clients = Served(self)
        self._frozen_at = 0.0
        self.open = False
        self.away = False
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self, path: str, *, away: bool) -> None:
        """Begin to open the document that is at `path`, in the background."""
        self.away, self._opened_at = away, path
        self._opening = asyncio.create_task(self._start(), name=f"open {self.name}")

    def heal(self) -> None:
        """Reach the hub again, if it was away."""
        self.away = False
        if self.transport.state is TransportState.DEGRADED and not self.transport.dead:
            self.transport.reconnect()

    def freeze(self) -> None:
        """Stop, as with SIGSTOP."""
        self.transport.thawed.clear()
        self._frozen_at = asyncio.get_running_loop().time()

    def thaw(self) -> None:
        """Go on, and notice after a while that nothing was heard from the transport."""
        transport, loop = self.transport, asyncio.get_running_loop()
        if transport.thawed.is_set():
            return
        transport.thawed.set()
        if loop.time() - self._frozen_at > SILENCE_S:
            transport.disconnect()
            loop.call_later(RECONNECT_S, self.heal)

    async def _start(self) -> None:
        await self.replica.start()
        if self.away:
            self.transport.disconnect()
        await self.registry.start()
        if self._opened_at not in self.folder.files:
            return  # nobody can open what is not there any more
        shared = SharedPath(ROOM.share, self._opened_at)
        if self.replica.connected:
            await self.registry.register(shared)
        if (found := self.registry.index(shared)) != FILE_ID:
            raise Wrong(f"{self._opened_at} is opened as {found}")
        self.replica.links[ROOM] = self.link
        await self.link.open()
        self.open = True
        self._watching = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def _watch(self) -> None:
        """What upstream's file loader does."""
        seen = self._there()
        if seen is not None:
            self.file.notice()
            self.file.taken_over()
        while True:
            await asyncio.sleep(WATCH_S)
            await self.transport.alive()
            if (there := self._there()) != seen:
                seen = there
                self.link.saving.share_path()
                if there is None:
                    self.link.saver.file_gone()
                else:
                    self.link.saver.file_there()
                    await self.link.saver.place_taken()
                    await self.link.saver.file_changed()
                    if not self.registry.is_catching_up:
                        self.file.notice()
                        self.file.taken_over()

    @property
    def file(self) -> SimulatedFile:
        assert isinstance(self.link.file, SimulatedFile)
        return self.link.file

    def _there(self) -> Any:
        try:
            return self.file.path, self.file.disk.state()
        except FileGone:
            return None

    async def _look(self, share: str, file_id: str, path: str) -> Look:
        """As the seam does it."""
        await self.transport.alive()
        if path not in self.folder.files:
            return Look.GONE
        if not self.open or file_id != FILE_ID:
            return Look.CLOSED
        return Look.THERE if self.file.is_at(path) else Look.OTHER

    def delete(self) -> None:
        """Somebody deletes the file by this server."""
        path = self.registry.api_path(FILE_ID)
        if path in self.folder.files:
            del self.folder.files[path]
            self.folder.notes.pop(path, None)
            self.registry.delete(SharedPath(ROOM.share, path))

    def rename(self, new: str) -> None:
        """Somebody renames the file by this server, if it is where this server knows it."""
        old = self.registry.api_path(FILE_ID)
        if old in self.folder.files and new not in self.folder.files:
            self.folder.files[new] = self.folder.files.pop(old)
            self.folder.notes[new] = self.folder.notes.pop(old, {})
            self.registry.move(SharedPath(ROOM.share, old), SharedPath(ROOM.share, new))

    async def close(self) -> None:
        """Leave in good order."""
        if self._watching is not None:
            self._watching.cancel()
        await self.registry.aclose()
        await self.replica.aclose()
        # What an observer refers to is never collected.
        self.document.unobserve()

    @property
    def in_vain(self) -> bool:
        """Whether the file was not there any more when it was to be opened."""
        return self._opening is not None and self._opening.done() and not self.open

    async def opened(self) -> None:
        if self._opening is not None:
            await self._opening

    @property
    def text(self) -> str:
        return self.kind.text(self.document.get())

    def type(self, token: str, how: int) -> None:
        self.kind.type(self.document, token, how)

    def save(self) -> None:
        """Ctrl-S; whoever pressed it sees whether it was saved."""

        async def save() -> None:
            try:
                await self.link.save_requests.save_now()
            except Wrong:
                raise
            except Exception as error:  # noqa: BLE001 (shown to the user)
                self.told.append(("ERROR", str(error)))

        self.link.spawn(save())

    def kill(self) -> None:
        """Be gone without a word."""
        self.transport.dead = True
        self.transport.disconnect()
        for listeners in self.transport.hub.listeners.values():
            listeners[:] = [pair for pair in listeners if pair[0] is not self.transport]
        if self.registry._claims is not None:
            self.registry._claims.close()
        if self.link.awareness is not None:
            self.link.awareness.close()  # which says so, to nobody
        tasks = [self.replica._beating, self.link.saving.task, self._opening, self._watching]
        tasks += [*self.link.room.background.tasks, *self.replica._tasks, *self.registry._tasks]
        for task in tasks:
            if task is not None:
                task.cancel()
        self.link.live.close()
        self.document.unobserve()
        self.open = False


def text_of_log(hub: MemoryHub, kind: Kind) -> str:
    """What the log alone would give to whoever joins."""
    document = make_document(kind.file_type)
    room = hub.rooms[ROOM]
    door = Door()
    for payload in (room.checkpoint, *(entry.payload for entry in room.entries)):
        if payload is not None:
            # What cannot be read is passed over.
            with contextlib.suppress(CodecError):
                door.take(document.ydoc, decode_payload(payload))
    return kind.text(document.get())
