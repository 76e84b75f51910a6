"""The ids of shared documents, on which all servers agree, in step with the transport."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..core.document_ids import Changes, Claim, FileIds
from ..core.envelopes import Notice, decode_envelope
from ..core.errors import (
    CodecError,
    LeavesShare,
    MapTooLarge,
    SaveFailed,
    TransportError,
    TransportRefused,
    TransportUnavailable,
)
from ..core.shares import SharedPath, Shares
from ..core.values import Scope
from ..files.open_folders import Place
from ..files.path_claims import DOUBTED_AFTER_S, Claims, Look, Missing
from ..files.remembered_ids import Memory
from ..files.share_agreement import ShareAgreement
from ..files.share_folders import ShareFolders
from ..sync.cluster import Replica
from ..transports.base import MISSED, TransportState, loop_time
from .sound_maps import SoundMaps
from .untold import MESSAGE_MAX_BYTES, READ_ANEW, Told, Untold


class FileRegistry:
    """The file ids of all shares, kept in step with the other servers."""

    def __init__(self, replica: Replica, shares: Shares) -> None:
        self._replica = replica
        self._shares = shares
        self._ids = {share: FileIds(share) for share in shares}
        self._registered: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deletion_listeners: list[Callable[[str], None]] = []
        self._return_listeners: list[Callable[[str], None]] = []
        self._is_open: Callable[[str], bool] = lambda file_id: False
        self._notice_listeners: dict[str, Callable[[bytes], None]] = {}
        self._loaded: set[str] = set()
        """Shares whose maps were read since the transport came back."""
        self._unheard: set[str] = set()
        """Shares whose channel was refused."""
        self._loading = {share: asyncio.Lock() for share in shares}
        self.scope = Scope("", "files")
        self.agreement = ShareAgreement(replica, shares)
        self.folders: ShareFolders | None = None
        self._claims: Claims | None = None
        self._maps = SoundMaps(shares, self._ids, self._pass_over)
        self._untold = Untold(
            replica,
            shares,
            self._ids,
            self._maps,
            pass_over=self._pass_over,
            spawn=self._spawn,
        )
        self._caught_up_at = 0.0
        self._displacement_listeners: list[Callable[[str, str], None]] = []

    def on_deletion(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the file id of a document that was deleted, on whatever server."""
        self._deletion_listeners.append(listener)

    def on_displacement(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener` with the id of a document that was opened while the transport was away,
        and that of the document that its file turns out to be."""
        self._displacement_listeners.append(listener)

    def remember_in(self, memory: Memory) -> None:
        """Keep the ids that do not follow from paths there, and begin with what is there."""
        self._untold.remember_in(memory)

    def on_return(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the file id of a document that was deleted, and is at its path
        again, on whatever server that was said."""
        self._return_listeners.append(listener)

    def ask_whether_open(self, is_open: Callable[[str], bool]) -> None:
        """Keep in mind where deleted documents were for as long as they are open.

        Args:
            is_open: whether this server has the document with an id open.
        """
        self._is_open = is_open

    def look_with(
        self, look: Callable[[str, str, str], Awaitable[Look]], missing: Missing | None = None
    ) -> None:
        """Believe others' renames and deletions only where the folder shows them. Without this
        they are believed at once.

        Args:
            look: returns what is at a path, given the share, the document's id and the path.
            missing: returns those of some paths in a folder where nothing is, given the share.
        """
        self._claims = self._untold.claims = Claims(look, self._believe, self._doubt, missing)

    def on_other(self, share: str, listener: Callable[[bytes], None]) -> None:
        """Call `listener` with the messages on the channel of `share` that are not about files."""
        self._notice_listeners[share] = listener

    # -- what Jupyter asks, at once --------------------------------------------------------

    def locate(self, api_path: str) -> SharedPath | None:
        """The identity of the document at `api_path`, None outside every share: also where its
        path is in a share, and a link on it leads elsewhere."""
        shared = self._shares.locate(api_path)
        if shared is None or self.folders is None or self.folders.holds(shared):
            return shared
        self._replica.complain(
            f"outside_share {api_path}",
            f"{api_path}: a link on its path leads out of the folder of share {shared.share}, so "
            "it is not shared; whoever opens it has it on this server alone",
        )
        return None

    def place(self, share: str, api_path: str) -> Place | None:
        """Where the file of a document of `share` is; None, where files are in no folders.

        Raises:
            LeavesShare: if it is not, or not any more, in the share's folder.
        """
        shared = self._shares.locate(api_path)
        if shared is None or shared.share != share:
            raise LeavesShare(f"{api_path!r} is not in share {share!r}")
        return None if self.folders is None else self.folders.place(shared)

    def index(self, shared: SharedPath) -> str:
        known = self._ids[shared.share]
        file_id = known.id_at(shared.path)
        if not self._replica.connected and known.is_guess(shared.path):
            known.unconfirmed.add(file_id)
        known.index(shared.path)
        for share, ids in self._ids.items():
            if share != shared.share and ids.path_of(file_id) is not None:
                # What this server sees for itself counts.
                self._pass_over(share, f"it says where a document of share {shared.share} is")
                ids.update({}, {file_id: None})
        return file_id

    def get_id(self, shared: SharedPath) -> str | None:
        """The id of a document, None if nobody on this server has asked for it yet."""
        ids = self._ids[shared.share]
        file_id = ids.id_at(shared.path)
        return file_id if ids.path_of(file_id) is not None else None

    def find(self, file_id: str) -> SharedPath | None:
        """The identity of the document with this id, if this server knows it."""
        for share, ids in self._ids.items():
            path = ids.path_of(file_id)
            if path is not None:
                return SharedPath(share, path)
        return None

    def api_path(self, file_id: str) -> str | None:
        """Where the document with this id is; of one that was deleted, and is still open, where it
        was."""
        shared = self.find(file_id) or self._last_place(file_id)
        return None if shared is None else self._shares.api_path(shared)

    def _last_place(self, file_id: str) -> SharedPath | None:
        if self._is_open(file_id):
            for share, ids in self._ids.items():
                path = ids.last_paths.get(file_id)
                if path is not None:
                    return SharedPath(share, path)
        return None

    async def take_path(self, file_id: str) -> None:
        """Let a document that was deleted, and is open, be where it was.

        Raises:
            SaveFailed: if another document is there.
            TransportError: if that cannot be found out.
        """
        place = self._last_place(file_id)
        if place is None:
            return  # it is there already
        ids, path = self._ids[place.share], place.path
        other = ids.id_at(path)
        taken = self._is_open(other)
        if self._replica.connected and not taken:
            with contextlib.suppress(TransportRefused):  # as in an outage
                other, taken = await self._taker(place.share, path, other)
        if taken and other != file_id:
            raise SaveFailed("it was deleted, and another file is at its place now")
        files: Changes = {path: file_id}
        paths: Changes = {other: None, file_id: path} if other != file_id else {file_id: path}
        ids.update(files, paths)
        self._untold.keep(place.share)
        self._tell(self._seen(Told(place.share, path, path, files, paths)))

    async def _taker(self, share: str, path: str, known: str) -> tuple[str, bool]:
        """The id of the document at `path`, `known` as far as this server knows, and whether there
        is such a document."""
        transport, scope = self._replica.transport, Scope(share)
        files, _ = self._maps.sound(share, await transport.read_map(scope, "files", [path]), None)
        said = files.get(path) or known
        # One that is elsewhere here is not there.
        other = said if self._ids[share].path_of(said) in (None, path) else known
        return other, other in await transport.read_map(scope, "paths", [other])

    def move(self, old: SharedPath, new: SharedPath) -> str:
        """Note a rename within a share; return the file id."""
        ids = self._ids[old.share]
        ids.index(old.path)
        self._tell(self._seen(Told(old.share, old.path, new.path, *ids.moved(old.path, new.path))))
        self._untold.keep(old.share)
        return self.index(new)

    def delete(self, shared: SharedPath) -> None:
        """Note that a file or folder was deleted, or moved out of its share."""
        ids = self._ids[shared.share]
        ids.index(shared.path)
        told = self._seen(Told(shared.share, shared.path, None, *ids.deleted(shared.path)))
        self._ended(told.ended)
        self._tell(told)
        self._untold.keep(shared.share)

    def _seen(self, told: Told) -> Told:
        """What this server has seen for itself goes before what others say."""
        if self._claims is not None:
            self._claims.drop(told.share, told.paths)
        return told

    # -- in step with the others -----------------------------------------------------------

    async def start(self) -> None:
        """Learn what the shares' maps say, and follow them from now on."""
        for share in self._ids:
            await self._listen(share)
        self._replica.links[self.scope] = self
        if self._replica.connected:
            await self._load()

    async def _listen(self, share: str) -> None:
        self._unheard.discard(share)
        try:
            await self._replica.transport.subscribe(Scope(share), self._listener(share))
        except TransportError as error:
            # While the transport is away it says so itself, and subscribes when it is back.
            if self._replica.connected:
                self._unheard.add(share)
                self._replica.complain(
                    f"files {share}", f"Share {share}: renames by others come late: {error}"
                )

    async def aclose(self) -> None:
        self._replica.links.pop(self.scope, None)
        if self._claims is not None:
            self._claims.close()
        await self.flush()
        for task in self._tasks:
            task.cancel()

    async def flush(self) -> None:
        """Wait until the others can know what this server has noted so far."""
        while self._tasks:
            await asyncio.wait(list(self._tasks), timeout=2)

    async def register(self, shared: SharedPath, *, exists: bool = True) -> None:
        """Make a document's id known to every server, before a client hears of it.

        Args:
            shared: the document.
            exists: whether its file is there. For what is not there nothing is written: whoever
                asks for such would fill the transport.
        """
        await self._look_at_claims(shared)
        ids = self._ids[shared.share]
        file_id = ids.id_at(shared.path)
        if file_id in self._registered:
            return
        try:
            transport, scope = self._replica.transport, Scope(shared.share)
            if ids.path_of(file_id) is None:
                # Another document may have been renamed to there, of which this server has not
                # heard yet.
                files = await transport.read_map(scope, "files", [shared.path])
                named = files.get(shared.path, file_id)
                if named != file_id:
                    self._take(shared.share, files, {named: shared.path})
                    await self._look_at_claims(shared)
                    file_id = ids.id_at(shared.path)
            if exists:
                said = {file_id: shared.path}
                there = await transport.write_map(scope, "paths", said, keep=True)
            else:
                there = await transport.read_map(scope, "paths", [file_id])
            if there.get(file_id, shared.path) != shared.path:
                # It was renamed, and this server has not heard of it yet.
                await self._take_found(shared.share, there, shared.path)
                if self._claims is not None:
                    await self._claims.look_once()
            if exists:
                self._registered.add(file_id)
        except TransportError as error:
            self._replica.complain(
                f"files {shared.share}",
                f"Share {shared.share}: the id of a document is known here only: {error}",
            )

    async def _look_at_claims(self, shared: SharedPath) -> None:
        """Where another document is said to be at this path by now, see whether it is."""
        if self._claims is not None and self._claims.about(shared.share, shared.path):
            await self._claims.look_once()

    async def resolve(self, file_id: str) -> None:
        """Ask the others for the path of an id that another server has handed out."""
        if self.find(file_id) is not None:
            return
        for share in self._ids:
            try:
                found = await self._replica.transport.read_map(Scope(share), "paths", [file_id])
                await self._take_found(share, found)
            except TransportError as error:
                self._replica.complain(
                    f"files {share}",
                    f"Share {share}: a document's path cannot be looked up: {error}",
                )
                if isinstance(error, TransportUnavailable):
                    return

    async def _take_found(self, share: str, paths: Mapping[str, str], *more: str) -> None:
        """Take over where documents are said to be, and whose paths these and `more` are."""
        if paths:
            files = await self._replica.transport.read_map(
                Scope(share), "files", {*paths.values(), *more}
            )
            # Where the map names another document at its path, that one's file may be there now.
            self._take(share, files, paths, replaced=bool(more and more[0] in files))

    def _listener(self, share: str) -> Callable[[bytes], None]:
        def receive(message: bytes) -> None:
            if message is MISSED:
                # The next heartbeat reads the maps anew.
                self._loaded.discard(share)
                return
            if len(message) > MESSAGE_MAX_BYTES:
                self._pass_over(share, f"a message of {len(message)} bytes")
                return
            try:
                envelope = decode_envelope(message)
            except CodecError as error:
                self._replica.complain(f"envelopes {share}", f"Share {share}: {error}")
                return
            if isinstance(envelope, Notice) and envelope.name == "files":
                if envelope.replica != self._replica.id:
                    details = envelope.details
                    if details.get(READ_ANEW):
                        self._loaded.discard(share)  # the next heartbeat reads the maps
                    self._take(share, details.get("files"), details.get("paths"))
            elif isinstance(envelope, Notice) and envelope.name == "folder":
                self.agreement.heard(share, envelope)
            elif share in self._notice_listeners:
                self._notice_listeners[share](message)

        return receive

    @property
    def is_catching_up(self) -> bool:
        """Whether others may not have told yet what they renamed or deleted during an outage."""
        return not self._replica.connected or loop_time() < self._caught_up_at

    def transport_changed(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            self._caught_up_at = loop_time() + DOUBTED_AFTER_S
            self._spawn(self._load())

    def replica_left(self, replica: str) -> None:
        """Ids outlive whoever has made them."""

    def lease_question(self) -> None:
        """There is nothing to save, so no lease."""

    async def tick(self) -> None:
        """See whether the transport has lost what it knew: nobody is disconnected by that."""
        for share in self._ids:
            try:
                about = await self._replica.transport.read_map(
                    Scope(share), "about", ["epoch", "format"]
                )
                await self.agreement.look_at_format(share, about.get("format", ""))
            except TransportError as error:
                self._replica.complain(
                    f"files {share}", f"Share {share}: its documents' ids are not checked: {error}"
                )
                if isinstance(error, TransportUnavailable):
                    return
                continue
            if share in self._unheard:
                await self._listen(share)
            known = share in self._loaded and self.agreement.is_known(share, about.get("epoch"))
            well = (known and not self._untold.of(share)) or await self._load_share(share)
            if well and share not in self._unheard:
                self._replica.settle(f"files {share}")

    async def _load(self) -> None:
        """The transport is there (again): learn from it, and tell it, what is new. A share that it
        refuses waits; the others do not wait for that one."""
        self._loaded.clear()
        for share in self._ids:
            await self._load_share(share)

    async def _load_share(self, share: str) -> bool:
        """Do so for one share; return whether all of it was done."""
        async with self._loading[share]:
            # What is said meanwhile may come too late for this time.
            self._loaded.add(share)
            self._registered.difference_update(self._ids[share].paths)
            try:
                await self._untold.drop_undone(share)
                await self._read_maps(share)
                await self._untold.tell(share)
            except BaseException as error:
                self._loaded.discard(share)  # the next heartbeat tries again
                if not isinstance(error, Exception):
                    raise
                why = error if isinstance(error, TransportError) else repr(error)
                self._replica.complain(
                    f"files {share}", f"Share {share}: its documents' ids cannot be read yet: {why}"
                )
                return False
            return True

    async def _read_maps(self, share: str) -> None:
        transport, ids = self._replica.transport, self._ids[share]
        scope = Scope(share)
        emptied = await self.agreement.agree(share)
        files = await self._read_files(share)
        paths = await transport.read_map(scope, "paths", [*ids.paths, *ids.last_paths])
        # What was renamed or deleted here meanwhile is where it is here until that is told.
        untold = self._untold.of(share)
        here = {file_id for told in untold for file_id in told.paths}
        taken = {path for told in untold for path in told.files}
        ids.unconfirmed -= {*here, *(ids.id_at(path) for path in taken)}
        sound, known = self._maps.sound(share, files, paths)
        self._give_way(share, ids.give_way(sound, known))
        if emptied or (not files and not paths):
            # The transport knows nothing (any more), so it learns from here.
            files |= await transport.write_map(scope, "files", ids.exceptions, keep=True)
            there = await self._shown(share, ids.paths)
            paths |= await transport.write_map(scope, "paths", there, keep=True)
            await self._untold.tell_renamed(share)
        changed: Changes = {**paths, **dict.fromkeys(ids.ended(files, paths))}
        self._take(
            share,
            {path: file_id for path, file_id in files.items() if path not in taken},
            {i: path for i, path in changed.items() if i not in here and path not in taken},
            replaced=True,
        )

    async def _shown(self, share: str, paths: Mapping[str, str]) -> dict[str, str]:
        """Those of these documents that are where they are said to be."""
        if self._claims is None:
            return dict(paths)
        known = dict(paths)
        gone = await self._claims.gone(share, "", known)
        return {file_id: path for file_id, path in known.items() if file_id not in gone}

    def _give_way(self, share: str, displaced: Mapping[str, str]) -> None:
        for file_id, other in displaced.items():
            self._replica.log.warning(
                "%s was opened while Redis was away, and is the document %s for other servers; "
                "what was written here goes to that one",
                self._shares.api_path(SharedPath(share, self._ids[share].paths[other])),
                other,
            )
            for listener in self._displacement_listeners:
                listener(file_id, other)

    async def _read_files(self, share: str) -> dict[str, str]:
        """Return the map ``files``; of one that is too large, what concerns the documents that are
        known here. The rest is looked up when it is asked for."""
        scope, ids = Scope(share), self._ids[share]
        try:
            return await self._replica.transport.read_map(scope, "files")
        except MapTooLarge as error:
            self._pass_over(share, f"{error}; what concerns this server's documents is read")
            known = {*ids.paths.values(), *ids.exceptions}
            return await self._replica.transport.read_map(scope, "files", known)

    def _take(self, share: str, files: Any, paths: Any, *, replaced: bool = False) -> None:
        """Take over what the transport says of a share's maps, as far as it can be true."""
        ids = self._ids[share]
        files, paths = self._maps.sound(share, files, paths)
        self._maps.bound(share, ids.exceptions, files)
        self._maps.bound(share, ids.paths, paths)
        for path, file_id in list(files.items()):
            if file_id is not None and self._strays(ids, file_id, path):
                self._pass_over(share, f"{path!r} is not where {file_id} was deleted")
                del files[path]
        for file_id, path in list(paths.items()):
            if path is not None and self._strays(ids, file_id, path):
                self._pass_over(share, f"{path!r} is not where {file_id} was deleted")
                del paths[file_id]
            elif path is not None and (files.get(path) or ids.id_at(path)) != file_id:
                self._pass_over(share, f"{path!r} is not the path of {file_id} alone")
                del paths[file_id]
        for path, there in files.items():
            # An id that this server gave out while no file was there is nobody's.
            idle = ids.id_at(path)
            used = idle in self._registered or self._is_open(idle)
            if there in ids.last_paths and there != idle and not used:
                ids.paths.pop(idle, None)
        files, paths, claims = ids.split(files, paths, replaced=replaced)
        back = [i for i, path in paths.items() if path is not None and i in ids.last_paths]
        ids.update(files, paths)
        self._untold.keep(share)
        for file_id in back:
            for listener in self._return_listeners:
                listener(file_id)
        self._ended([file_id for file_id, path in paths.items() if path is None])
        if self._claims is not None:
            self._claims.add(claims)
        else:
            for claim in claims:
                self._believe(claim)

    def _strays(self, ids: FileIds, file_id: str, path: str) -> bool:
        """Whether this is another path than that of a document that was deleted, and is open: its
        edits would go to another file."""
        return self._is_open(file_id) and ids.last_paths.get(file_id, path) != path

    def _believe(self, claim: Claim) -> None:
        ids = self._ids[claim.share]
        if ids.path_of(claim.file_id) != claim.old:
            return
        # Where it is now, no other document is any more.
        displaced = [i for i, path in ids.paths.items() if path == claim.new]
        changes = {**claim.paths, **dict.fromkeys(displaced), claim.file_id: claim.new}
        ids.update(claim.files, changes)
        self._untold.keep(claim.share)
        if self._claims is not None:
            self._claims.drop(claim.share, displaced)
        self._ended([file_id for file_id, path in changes.items() if path is None])

    def _doubt(self, claim: Claim) -> None:
        done = "deleted" if claim.new is None else f"renamed to {claim.new!r}"
        self._replica.complain(
            f"forged_moves {claim.share}",
            f"Share {claim.share}: another server says that {claim.old!r} was {done}, which the "
            "folder does not show here; people go on working on it where it is",
        )

    def _pass_over(self, share: str, why: str) -> None:
        self._replica.complain(
            f"forged_paths {share}",
            f"Share {share}: what another server says of the documents' paths is passed over, the "
            f"rest is taken: {why}",
        )

    def _ended(self, file_ids: list[str]) -> None:
        for file_id in file_ids:
            for listener in self._deletion_listeners:
                listener(file_id)
        for ids in self._ids.values():
            for file_id in [i for i in ids.last_paths if not self._is_open(i)]:
                del ids.last_paths[file_id]

    def _tell(self, told: Told) -> None:
        self._untold.all.append(told)
        if self._replica.connected:
            self._spawn(self._try_tell(told.share))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try_tell(self, share: str) -> None:
        try:
            async with self._loading[share]:
                await self._untold.tell(share)
        except TransportError as error:
            self._replica.complain(
                f"files {share}",
                f"Share {share}: a rename or deletion is told later: {error}",
            )
