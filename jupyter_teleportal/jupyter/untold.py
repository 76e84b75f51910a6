"""What was renamed or deleted here: told to the other servers in its order, and remembered until
they know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..core.document_ids import Changes, FileIds
from ..core.envelopes import Notice
from ..core.errors import MapTooLarge
from ..core.shares import Shares, is_within
from ..core.values import Scope
from ..files.path_claims import Claims, Look
from ..files.remembered_ids import Memory
from ..sync.cluster import Replica
from .sound_maps import SoundMaps

REMEMBER_PAUSE_S = 0.2
LOOKED_AT_MAX = 10_000
"""So many files that a renamed folder is said to have held are looked for: whoever forges more
makes nobody wait for them."""
MESSAGE_MAX_BYTES = 4 * 1024 * 1024
READ_ANEW = "anew"
"""What a notice says in place of changes that are larger: they are in the maps."""


@dataclass(frozen=True)
class Told:
    """A rename, or with `new` None a deletion, and what it has changed here."""

    share: str
    old: str
    new: str | None
    files: Changes
    paths: Changes

    @property
    def ended(self) -> list[str]:
        return [file_id for file_id, path in self.paths.items() if path is None]


class Untold:
    """The renames and deletions of all shares that the others have not been told of.

    Attributes:
        all: they, in their order.
        claims: with which the folder is looked at; None where nobody looks.
    """

    def __init__(
        self,
        replica: Replica,
        shares: Shares,
        ids: Mapping[str, FileIds],
        maps: SoundMaps,
        *,
        pass_over: Callable[[str, str], None],
        spawn: Callable[[Any], None],
    ) -> None:
        """
        Args:
            replica: this server.
            shares: its shares.
            ids: what is known of their documents.
            maps: tells what is in the transport's maps from what was forged.
            pass_over: is told the share of what is left out, and why.
            spawn: does something in the background.
        """
        self._replica = replica
        self._shares = shares
        self._ids = ids
        self._maps = maps
        self._pass_over = pass_over
        self._spawn = spawn
        self.all: list[Told] = []
        self._before: list[Told] = []
        """What a server that was stopped meanwhile has left untold."""
        self.claims: Claims | None = None
        self._memory: Memory | None = None
        self._kept: dict[str, tuple[int, list[Told]]] = {}
        self._remembering: set[str] = set()
        """Shares whose ids are being written down."""

    def of(self, share: str) -> list[Told]:
        """What the others have not been told of the share, in its order."""
        return [told for told in self.all if told.share == share]

    # -- a start without the transport -------------------------------------------------------

    def remember_in(self, memory: Memory) -> None:
        """Keep the ids that do not follow from paths there, and begin with what is there."""
        self._memory = memory
        for share, ids in self._ids.items():
            try:
                files, paths, untold = memory.load(share)
                ids.remember(*self._maps.sound(share, files, paths))
                before = [self._told_before(share, *one) for one in untold]
                self.all += before
                self._before += before
            except (OSError, ValueError) as error:
                self._replica.complain(
                    f"memory {share}",
                    f"Share {share}: which documents were renamed is not remembered: {error}",
                )
            self._kept[share] = ids.version, self.of(share)

    def _told_before(self, share: str, old: Any, new: Any, files: Any, paths: Any) -> Told:
        """A rename or deletion, as it is remembered.

        Raises:
            ValueError: if it is none.
        """
        if not self._shares.owns(share, old) or not (new is None or self._shares.owns(share, new)):
            raise ValueError(f"no rename in this share: {old!r} to {new!r}")
        return Told(share, old, new, *self._maps.sound(share, files, paths))

    def keep(self, share: str) -> None:
        """See that what has changed is remembered."""
        if self._memory is not None and share not in self._remembering and self._is_news(share):
            self._remembering.add(share)
            self._spawn(self._write_down(self._memory, share))

    def _is_news(self, share: str) -> bool:
        return self._kept[share] != (self._ids[share].version, self.of(share))

    async def _write_down(self, memory: Memory, share: str) -> None:
        try:
            while self._is_news(share):
                untold = self.of(share)
                self._kept[share] = self._ids[share].version, untold
                changes = [(told.old, told.new, told.files, told.paths) for told in untold]
                known = self._ids[share].remembered()
                await asyncio.to_thread(memory.save, share, *known, changes)
                if self._is_news(share):
                    await asyncio.sleep(REMEMBER_PAUSE_S)
        except OSError as error:
            self._replica.complain(
                f"memory {share}",
                f"Share {share}: a server that starts while Redis is away will not know which "
                f"documents were renamed, since that cannot be written down: {error}",
            )
        finally:
            self._remembering.discard(share)

    # -- telling ---------------------------------------------------------------------------

    async def tell_renamed(self, share: str) -> None:
        """Who was away when a document was renamed cannot read it any more."""
        files, paths = self._ids[share].remembered()
        if files:
            await self._publish(share, files, paths)

    async def drop_undone(self, share: str) -> None:
        """Forget renames that somebody has undone while this server was stopped: nobody has to
        hear of them any more."""
        for told in reversed([told for told in self._before if told.share == share]):
            if self.claims is not None and told.new is not None and told in self.all:
                new = await self.claims.look(share, "", told.new)
                if new is Look.GONE and await self.claims.look(share, "", told.old) is not new:
                    self._ids[share].moved_back(told.old, told.new, told.paths)
                    self.all.remove(told)
                    self.keep(share)
            self._before.remove(told)

    async def tell(self, share: str) -> None:
        """Tell the others what is untold of a share.

        Raises:
            TransportError: if they cannot be told now.
        """
        while untold := self.of(share):
            await self._send(untold[0])
            self.all.remove(untold[0])
            self.keep(share)

    async def _send(self, told: Told) -> None:
        transport, ids = self._replica.transport, self._ids[told.share]
        scope = Scope(told.share)
        # Whatever has become of these documents since, or is at those paths.
        paths: Changes = {file_id: ids.path_of(file_id) for file_id in told.paths}
        concerned = {*told.files, *(path for path in paths.values() if path is not None)}
        files: Changes = {p: ids.exceptions[p] for p in concerned if p in ids.exceptions}
        # Documents that only other servers have opened go along.
        try:
            _, there = self._maps.sound(told.share, None, await transport.read_map(scope, "paths"))
            along = await self._gone(told, there)
            more_files, more_paths = ids.follow(along, told.old, told.new)
            files, paths = {**more_files, **files}, {**more_paths, **paths}
        except MapTooLarge as error:
            self._pass_over(
                told.share,
                f"{error}; documents that only other servers have opened do not go along with "
                f"{told.old!r}",
            )
        await transport.write_map(scope, "files", files)
        await transport.write_map(scope, "paths", paths)
        await self._publish(told.share, files, paths)

    async def _gone(self, told: Told, paths: Changes) -> dict[str, str]:
        """Of documents that are unknown here, those that were in what was renamed or deleted, and
        are not there any more."""
        ids = self._ids[told.share]
        inside = {
            file_id: path
            for file_id, path in paths.items()
            if path is not None
            and path != told.old
            and is_within(path, told.old)
            and file_id not in told.paths
            and ids.path_of(file_id) is None
        }
        if self.claims is None or not inside:
            return inside
        if len(inside) > LOOKED_AT_MAX:
            self._pass_over(
                told.share,
                f"{len(inside)} documents that only other servers have opened are said to be in "
                f"{told.old!r}, of which no more than {LOOKED_AT_MAX} are looked for",
            )
            inside = dict(islice(inside.items(), LOOKED_AT_MAX))
        return await self.claims.gone(told.share, told.old, inside)

    async def _publish(self, share: str, files: Changes, paths: Changes) -> None:
        details = {"files": files, "paths": paths}
        message = Notice(self._replica.id, "files", details).encode()
        if len(message) > MESSAGE_MAX_BYTES:
            # All of it is in the maps.
            message = Notice(self._replica.id, "files", {READ_ANEW: True}).encode()
        await self._replica.transport.publish(Scope(share), message)
