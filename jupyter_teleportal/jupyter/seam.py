"""The seam: with `room_handlers` all that knows the insides of jupyter_server_ydoc and of YRoom.

It takes over the rooms of shared documents and leaves all others as they are. What it relies on
is checked in `compatibility` before.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import posixpath
import secrets
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.utils import ensure_async
from jupyter_server_ydoc.loaders import FileLoader
from jupyter_server_ydoc.rooms import DocumentRoom, TransientRoom
from jupyter_server_ydoc.utils import LogLevel, decode_file_path, encode_file_path
from pycrdt import Channel
from pycrdt.websocket import YRoom
from tornado.web import HTTPError

from ..clients.fanout import Fanout
from ..clients.guard import ClientGuard, user_of
from ..clients.serving import take_over
from ..clients.tornado_sockets import FrameWriter
from ..core.client_limits import ClientLimits
from ..core.crdt import Door
from ..core.envelopes import SaveRequest
from ..core.errors import DocumentBroken, FileGone, ForeignBytes, SaveFailed, TransportError
from ..core.messages import sync_message
from ..core.shares import SharedPath, Shares
from ..core.update_walk import STEP2
from ..core.values import Scope
from ..files.document_link import DocumentLink
from ..files.path_claims import Look
from ..files.remembered_ids import Memory
from ..files.saver import RETRY_S
from ..files.share_folders import folders_of
from ..files.watching import FileWatch
from ..sync.cluster import Replica
from ..sync.history import RedisYStore
from .admission import Admissions, identity_of
from .collecting import ShortCollections
from .contents_files import take_over_files
from .file_ids import FileRegistry
from .loaded_file import LoadedFile
from .occupancy import Occupancy
from .plain_rooms import PlainRooms
from .presence import PresenceLink
from .room_handlers import SETTINGS_KEY, install_handlers, seams_in_use, upstream_handlers
from .upstream_rooms import (
    ask_to_reload,
    before_stop,
    close_client,
    drop_client,
    empty_document,
    refuses,
    resync_client,
    save_to_disc,
    tell_users,
    whole_start,
)

GLOBAL_AWARENESS = "JupyterLab:globalAwareness"
BROKEN = 1012
"""A close code at which JupyterLab connects again, and shows nothing: the service restarts."""
DISPLACED = "This file is another document. Your edits go there: close this tab and reopen it."
REFUSED_MAX = 20
"""So many messages of one client are passed over before it is disconnected."""


class Seam:
    """Couples the rooms of one Jupyter server to a replica.

    `ydoc` is jupyter_server_ydoc's extension app, `ready` waits until the replica is started. What
    belongs to upstream is typed `Any` here: its methods are replaced one object at a time.
    """

    def __init__(
        self,
        replica: Replica,
        shares: Shares,
        registry: FileRegistry,
        ydoc: Any,
        *,
        ready: Callable[[], Awaitable[None]],
        limits: ClientLimits | None = None,
    ) -> None:
        self.replica = replica
        self.shares = shares
        self.registry = registry
        self._server: Any = ydoc.ywebsocket_server
        self._ready = ready
        limits = limits or ClientLimits()
        self.guard = ClientGuard(replica, limits, close_client)
        self.occupancy = Occupancy(
            replica, limits, self._server, lasting=frozenset((GLOBAL_AWARENESS,))
        )
        self.plain_rooms = PlainRooms(self.replica.trials, self.complain_of_client)
        self._settings: dict[str, Any] = ydoc.serverapp.web_app.settings
        self._sessions: set[str] = set()
        self._serving: asyncio.Task[None] | None = None
        poll_interval_s = ydoc.file_poll_interval
        self._watch = FileWatch(poll_interval_s) if poll_interval_s else None
        self._close_files: Callable[[], None] = lambda: None
        self._collections = ShortCollections()
        self._data = Path(jupyter_data_dir()) / "teleportal"
        registry.folders = folders_of(self._settings["contents_manager"], shares)
        self.admissions = Admissions(replica, resync=resync_client)
        registry.look_with(self._look, self._missing)
        if registry.folders is not None:
            registry.remember_in(Memory(self._data, registry.folders.real_folder))
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._refused: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        registry.on_deletion(self._on_deletion)
        registry.on_displacement(self._on_displacement)
        registry.on_return(self._on_return)
        registry.ask_whether_open(lambda file_id: file_id in ydoc.file_loaders)
        replica.on_session(self._on_session)
        self._lost: set[str] = set()
        replica.on_granted(self._on_granted)
        self._on_session(replica.session)

    def install(self) -> None:
        """Take over the rooms that are started from now on."""
        start_room = self._server.start_room

        async def start_linked_room(room: YRoom) -> None:
            if not room.started.is_set():
                await self._ready()
                self._prepare_room(room)
                begun = whole_start(room)
                await start_room(room)
                await begun.wait()
            else:
                await start_room(room)

        self._server.start_room = start_linked_room
        self._settings[SETTINGS_KEY] = self
        seams_in_use.add(self)
        # In the shared folder the record would be one more file that nobody asked for.
        if not self._settings.get("collaborative_session_store_path"):
            path = str(self._data / "sessions.json")
            self._settings["collaborative_session_store_path"] = path
        install_handlers()
        self._close_files = take_over_files(
            self._settings["contents_manager"], self.registry.folders, self.replica.log
        )
        self._collections.start()

    def close(self) -> None:
        """Let go of what `install` has begun."""
        self.admissions.close()
        self._close_files()
        self._collections.stop()

    # -- sessions --------------------------------------------------------------------------

    def _on_session(self, session: str) -> None:
        """The cluster has a session id. Clients that hold one from before it was known hold
        documents of this server, so they may go on."""
        self._sessions.add(upstream_handlers.SERVER_SESSION)
        self._sessions.add(session)
        upstream_handlers.SERVER_SESSION = session

    def knows_session(self, session: str) -> bool:
        return session in self._sessions

    # -- rooms -----------------------------------------------------------------------------

    def identity(self, room_id: str) -> SharedPath | None:
        """The shared document that the room is about, None if it is about none."""
        if room_id.count(":") < 2:
            return None
        return self.registry.find(decode_file_path(room_id)[2])

    async def before_session(self, api_path: str) -> None:
        """A client is about to be told a file id: see that every server can find its path."""
        await self._ready()
        shared = self.registry.locate(api_path)
        if shared is not None and shared.share in self._lost:
            raise HTTPError(403, no_member(shared.share))
        await self._register(api_path, shared)

    async def _register(self, api_path: str, shared: SharedPath | None) -> None:
        """Let every server find a shared document by its id."""
        if shared is not None and self.replica.connected:
            contents = self._settings["contents_manager"]
            exists = await ensure_async(contents.file_exists(api_path))
            await self.registry.register(shared, exists=exists)

    async def before_room(self, room_id: str) -> bool:
        """A client is about to open a room: see that its path is known, and return whether it can
        be opened."""
        await self._ready()
        shared = self.identity(room_id)
        if shared is not None and shared.share in self._lost:
            raise HTTPError(403, no_member(shared.share))
        if (closing := self._closing.get(room_id)) is not None:
            await asyncio.wait({closing})
        # Upstream's first connections each start the server, and all but one of them in vain.
        if self._serving is None and not self._server.started.is_set():
            self._serving = asyncio.create_task(self._server.start())
        await self._server.started.wait()
        if room_id.count(":") < 2:
            return True
        file_id = decode_file_path(room_id)[2]
        path = self._settings["file_id_manager"].get_path(file_id)
        if path is not None:
            await self._register(path, shared)
            return True
        if self.replica.connected:
            await self.registry.resolve(file_id)
            self.replica.settle("unknown_documents")
            return True
        self.replica.complain(
            "unknown_documents",
            "A browser asks for a document whose path only Redis knows, which is away; the "
            "browser goes on trying",
        )
        return False

    def refused(self, client: Any, room_id: str, error: Exception) -> None:
        """A client's message is passed over; one that sends such messages again and again is
        disconnected."""
        self.complain_of_client(room_id, error)
        count = self._refused[client] = self._refused.get(client, 0) + 1
        if count == REFUSED_MAX:
            self.guard.disconnect(client, f"has sent {count} messages that are passed over")

    def complain_of_client(self, room_id: str, error: Exception) -> None:
        """A client's message is passed over."""
        self.replica.complain(
            f"client_messages {room_id}",
            f"Room {room_id}: what a browser sends cannot be read and is passed over: {error}",
        )

    def _complain_of_names(self, room_id: str, client: Any, lie: str) -> None:
        known = identity_of(client)
        name = user_of(client) if known is None else known.username
        self.replica.log.debug("Room %s: a browser of %s is corrected: %s", room_id, name, lie)
        self.replica.complain(
            f"forged_names {room_id}",
            f"Room {room_id}: a browser of {name} shows another's name or moves another's cursor; "
            "the others see the name that this server has authenticated",
        )

    def _prepare_room(self, room: YRoom) -> None:
        if isinstance(room, DocumentRoom):
            shared = self.identity(room.room_id)
            if shared is not None:
                self._prepare_document_room(room, shared)
            else:
                self.plain_rooms.add(room)
        elif isinstance(room, TransientRoom) and room.room_id == GLOBAL_AWARENESS:
            fanout = self._fanout(room)
            link = PresenceLink(
                self.replica, self.shares, self.registry, room.awareness, fanout.broadcast
            )
            presence_door = Door(room.ydoc.get_state, limited=True)
            take_over(
                room,
                fanout,
                lambda: link.awareness,
                answer=lambda state: [sync_message(STEP2, room.ydoc.get_update(state))],
                guard=self.guard,
                trials=self.replica.trials,
                door=lambda: presence_door,
                identify=identity_of,
                forged=partial(self._complain_of_names, room.room_id),
            )
            before_stop(room, link.aclose)
        else:
            self.plain_rooms.add(room)

    def _fanout(self, room: Any) -> Fanout:
        return Fanout(
            room.clients,
            self.replica.log,
            queue_max_bytes=self.replica.timing.client_queue_max_bytes,
            turns=self.guard.turns,
            # Upstream's does not wait, so that what a client does not read gathers without a bound.
            send=FrameWriter().send,
            drop=drop_client,
            on_drop=partial(self.replica.complain, f"slow_clients {room.room_id}"),
        )

    def _prepare_document_room(self, room: Any, shared: SharedPath) -> None:
        empty_document(room)
        fanout = self._fanout(room)
        link: DocumentLink | None = None

        async def initialize() -> None:
            nonlocal link
            if room.ready:
                return
            self.registry.agreement.check(shared.share)
            link = await self._link_document(room, shared, fanout)
            room.ready = True
            room._emit(LogLevel.INFO, "initialize", "Room initialized")

        async def close() -> None:
            if self._watch is not None:
                self._watch.remove(room._file.file_id, room.room_id)
            if link is not None:
                await link.aclose()
            self._collections.look_at_all()

        def answer(state: bytes) -> list[bytes]:
            assert link is not None
            return link.live.answer(state)

        def door() -> Door:
            assert link is not None
            return link.replicator.door

        def broke(error: DocumentBroken) -> None:
            assert link is not None
            link.room.broke(error)

        def admits(size: int) -> bool:
            return link is None or link.live.admits(size, self.guard.limits.document_max_bytes)

        take_over(
            room,
            fanout,
            lambda: link.awareness if link else None,
            answer=answer,
            guard=self.guard,
            trials=self.replica.trials,
            door=door,
            broke=broke,
            admits=admits,
            entered=lambda client: self.occupancy.entered(client, room.room_id),
            left=partial(self.occupancy.clean_up_after, room),
            identify=identity_of,
            forged=partial(self._complain_of_names, room.room_id),
        )
        handle_error = room.on_message_error

        async def on_message_error(error: Exception, message: bytes, channel: Channel) -> bool:
            # Upstream's knows errors of the library.
            cause = error.__cause__ if isinstance(error, ForeignBytes) else None
            known = cause if isinstance(cause, Exception) else error
            if not await handle_error(known, message, channel):
                self.refused(channel, room.room_id, error)
            return True

        room.on_message_error = on_message_error
        room.initialize = initialize
        room.ystore = RedisYStore(
            room.room_id,
            log=self.replica.log,
            transport=self.replica.transport,
            share=shared.share,
            appends=False,
        )
        room._document_load_progressively = False
        before_stop(room, close)

    async def _link_document(self, room: Any, shared: SharedPath, fanout: Fanout) -> DocumentLink:
        file = LoadedFile(room, self.registry, shared.share)
        try:
            return await self._open_link(room, shared, fanout, file)
        except FileGone as error:
            # Upstream tells browsers of Jupyter's errors.
            raise error.__cause__ or error from None

    async def _open_link(
        self, room: Any, shared: SharedPath, fanout: Fanout, file: LoadedFile
    ) -> DocumentLink:
        writable = await file.is_writable()
        link = DocumentLink(
            self.replica,
            Scope(shared.share, room.room_id),
            room._document,
            room.file_type,
            file,
            awareness=room.awareness,
            broadcast=fanout.broadcast,
            writable=writable,
            save_delay_s=room._save_delay,
            tell=partial(tell_users, room),
        )
        link.room.on_broken = partial(self._close_broken, room)
        room._file.observe(room.room_id, link.saver.file_changed, link.saving.share_path)
        self._watch_file(room, file)
        room._save_to_disc = partial(save_to_disc, link)
        room.on_message = partial(refuses, room, WeakSet(), writable=writable)
        if not writable:
            self.replica.log.info(
                "%s is not writable here: this server follows its document", file.path
            )
        try:
            await link.open()
        except BaseException:
            await link.aclose()
            raise
        return link

    def _close_broken(self, room: Any) -> None:
        """The room's document cannot be used any more: its clients connect again, and the first of
        them opens it anew."""
        self._end_room(room, lambda client: client.close(BROKEN, "The document is opened anew"))

    def _end_room(self, room: Any, close_client: Callable[[Any], None]) -> None:
        if self._server.rooms.get(room.room_id) is not room:
            return
        del self._server.rooms[room.room_id]
        for client in list(room.clients):
            client._cleanup_delay = None  # upstream's cleaning is about rooms that are there
            close_client(client)

        async def close() -> None:
            if room.cleaner is not None:
                room.cleaner.cancel()
            try:
                await room.stop()
            finally:
                del self._closing[room.room_id]

        self._closing[room.room_id] = asyncio.create_task(close())

    def _watch_file(self, room: Any, file: LoadedFile) -> None:
        """Take the file's watching over from upstream, which asks the contents manager for each
        file by itself."""
        loader: FileLoader = room._file
        if self._watch is None or self.registry.folders is None:
            return
        if loader._watcher is not None:
            loader._watcher.cancel()
            loader._watcher = None
        subject = f"watches {room.room_id}"

        async def look_at_it() -> None:
            before = loader.last_modified
            savers = [link.saver for link in self._links(loader.file_id)]
            try:
                with file.working():
                    await loader.maybe_notify()
            except FileGone:
                for saver in savers:
                    saver.file_gone()
                self.replica.settle(subject)
                return
            for saver in savers:
                saver.file_there()
                await saver.place_taken()
            # A file that is open under two types has two rooms, of which one may have saved it.
            if before is not None and (len(savers) > 1 or await file.needs_a_closer_look(before)):
                for saver in savers:
                    await saver.file_changed()
            await file.follow_changes()
            self.replica.settle(subject)

        self._watch.add(
            loader.file_id,
            room.room_id,
            file.os_path,
            file.check_place,
            look_at_it,
            lambda error: self.replica.complain(
                subject,
                f"Room {room.room_id}: the file cannot be watched for changes, which is tried "
                f"again: {error}",
            ),
        )

    def _links(self, file_id: str) -> list[DocumentLink]:
        """The links of the document's open rooms."""
        return [
            link
            for scope, link in list(self.replica.links.items())
            if isinstance(link, DocumentLink)
            and scope.room
            and decode_file_path(scope.room)[2] == file_id
        ]

    # -- shares that are lost ----------------------------------------------------------------

    def _on_granted(self, granted: frozenset[str]) -> None:
        """The shares of this server's account are known. One that is missing was taken away from
        its user, and stays so until the server starts anew."""
        for share in set(self.shares) - granted - self._lost:
            self._lost.add(share)
            self.replica.complain(
                f"lost_shares {share}",
                f"The user of this server is no longer a member of {share}: its documents are "
                "closed here, and what was not saved is kept in copies outside its folder",
            )
            for link in list(self.replica.links.values()):
                if isinstance(link, DocumentLink) and link.scope.share == share:
                    self.replica.spawn(self._give_up(link))

    async def _give_up(self, link: DocumentLink) -> None:
        room: Any = self._server.rooms.get(link.scope.room)
        await link.removed(partial(self._keep_outside, link.file.path, room))
        why = no_member(link.scope.share)[:70]
        for channel in list(room.clients) if room is not None else ():
            ask_to_reload(channel, reason="initialization_error", errorReason=why)

    async def _keep_outside(self, path: str, room: Any, content: Any) -> str:
        """Write a content of the document that was at `path` to this server's own root."""
        stem, extension = posixpath.splitext(posixpath.basename(path))
        stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
        copy = f"{stem} (kept {stamp}){extension}"
        if self.shares.locate(copy) is not None:
            raise SaveFailed("all of this server's root belongs to the share")
        kind = room.file_type if room.file_type in ("file", "notebook") else "file"
        model = {"format": room.file_format, "type": kind, "content": content}
        await ensure_async(self._settings["contents_manager"].save(model, copy))
        return copy

    def _on_deletion(self, file_id: str) -> None:
        for link in self._links(file_id):
            link.saver.deleted()

    def _on_return(self, file_id: str) -> None:
        for link in self._links(file_id):
            link.saver.returned()

    def _on_displacement(self, file_id: str, other: str) -> None:
        path = self.registry.api_path(other)
        for link in self._links(file_id):
            if (room_id := link.scope.room) and path and isinstance(link.file, LoadedFile):
                link.file.stay_at(path)
                self.replica.spawn(self._hand_over(link, room_id, other))

    async def _hand_over(self, link: DocumentLink, room_id: str, other: str) -> None:
        """The file of a document that was opened while the transport was away is another
        document's: its tabs are asked to open that one."""
        room: Any = self._server.rooms.get(room_id)
        while True:
            try:
                await link.give_way()
                break
            except SaveFailed as error:
                self.replica.complain(
                    f"saves {room_id}",
                    f"Room {room_id}: its file is another document's, and what was written here "
                    f"cannot be given to that one yet: {error}",
                )
                await asyncio.sleep(RETRY_S)
            if self._server.rooms.get(room_id) is not room:
                return
        if room is not None:
            self._end_room(room, partial(ask_to_reload, reason="displaced", errorReason=DISPLACED))
        await link.saving.let_log_expire()
        file_format, file_type, _ = decode_file_path(room_id)
        scope = Scope(link.scope.share, encode_file_path(file_format, file_type, other))
        try:
            # Whoever saves that document finds what was written here.
            request = SaveRequest(self.replica.id, secrets.token_hex(8))
            await self.replica.transport.publish(scope, request.encode())
        except TransportError as error:
            self.replica.log.info("%s: it is taken over with the next save: %s", scope.room, error)

    async def _look(self, share: str, file_id: str, path: str) -> Look:
        """What is where the document was, as this server sees it now."""
        api_path = self.shares.api_path(SharedPath(share, path))
        contents, folders = self._settings["contents_manager"], self.registry.folders
        if folders is not None:
            there = await asyncio.to_thread(os.path.lexists, contents._get_os_path(api_path))
        else:
            there = await ensure_async(contents.file_exists(api_path))
        if not there:
            return Look.GONE
        known = [
            await link.file.is_at(api_path, link.replicator.lineage)
            for link in self._links(file_id)
            if isinstance(link.file, LoadedFile)
        ]
        if not known:
            return Look.CLOSED
        return Look.THERE if any(known) else Look.OTHER

    async def _missing(self, share: str, folder: str, paths: Collection[str]) -> set[str]:
        """Those of these paths in a folder where nothing is, as this server sees it now."""
        contents, folders = self._settings["contents_manager"], self.registry.folders

        def api_path(path: str) -> str:
            return self.shares.api_path(SharedPath(share, path))

        def is_there(path: str) -> bool:
            return os.path.lexists(contents._get_os_path(api_path(path)))

        def look() -> set[str]:
            return {path for path in paths if not is_there(path)} if is_there(folder) else {*paths}

        if folders is not None:
            return await asyncio.to_thread(look)
        return {
            path for path in paths if not await ensure_async(contents.file_exists(api_path(path)))
        }

    # -- status ----------------------------------------------------------------------------

    def room_clients(self, room_id: str) -> int:
        """How many clients the room has on this server."""
        room = self._server.rooms.get(room_id)
        return 0 if room is None else len(room.clients)

    def room_path(self, room_id: str) -> str | None:
        """The API path of the room's document."""
        return self.registry.api_path(decode_file_path(room_id)[2])


def no_member(share: str) -> str:
    """What a browser is told whose user has lost a share."""
    return f"You are no longer a member of {share}"
