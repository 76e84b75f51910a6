"""What all servers of a share have to agree on: where its folder is, and how they write."""

from __future__ import annotations

import asyncio
import re
import secrets

from ..core.envelopes import FORMAT, FORMATS_BELOW, Notice
from ..core.errors import SharePathMismatch, TransportError
from ..core.shares import Shares
from ..core.values import Scope
from ..sync.cluster import Replica

ANSWER_S = 1.0
_FORMAT = re.compile(r"([0-9]{1,2}) ([!-~]{1,64})", re.ASCII)


class ShareAgreement:
    """Compares this server's shares with the other servers'.

    Attributes:
        refused: the shares whose folder is elsewhere on others, and what is told of it.
    """

    def __init__(self, replica: Replica, shares: Shares) -> None:
        self._replica = replica
        self._shares = shares
        self._epochs: dict[str, str] = {}
        self._answers: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._answering: set[str] = set()
        """Shares of which it is about to be said where they are here."""
        self.refused: dict[str, SharePathMismatch] = {}

    def check(self, share: str) -> None:
        """Raise `SharePathMismatch` if the share is mounted elsewhere on other servers."""
        if share in self.refused:
            raise self.refused[share]

    def is_known(self, share: str, epoch: str | None) -> bool:
        """Whether the transport still knows what it knew of the share when it was last asked."""
        return epoch == self._epochs.get(share)

    async def agree(self, share: str) -> bool:
        """Compare the share's folder with the others'; return whether the transport has forgotten
        the share since the last time."""
        folder = self._shares.folder(share)
        own = {"folder": folder, "epoch": secrets.token_hex(4), "format": self._own_format}
        there = await self._replica.transport.write_map(Scope(share), "about", own, keep=True)
        await self.look_at_format(share, there.get("format", ""))
        epoch, other = there.get("epoch", ""), there.get("folder")
        before, self._epochs[share] = self._epochs.get(share), epoch
        emptied = before not in (None, epoch)
        if other == folder:
            self.refused.pop(share, None)
        elif other is not None and await self._is_elsewhere(share, other):
            self.refused[share] = SharePathMismatch(
                f"share {share!r} is the folder {folder!r} here and {other!r} on other servers; "
                "give it the same path in the setting `shares` of all servers"
            )
            self._replica.log.error("%s", self.refused[share])
        else:
            # Of a server that is gone, or of none that ever was.
            self.refused.pop(share, None)
            await self._replica.transport.write_map(Scope(share), "about", {"folder": folder})
        return emptied

    @property
    def _own_format(self) -> str:
        return f"{FORMAT} {self._replica.id}"

    async def look_at_format(self, share: str, said: str) -> None:
        """Learn which format of payloads the servers of a share write. Whoever writes the highest
        says so there; it counts for as long as that one lives."""
        found = _FORMAT.fullmatch(said)
        number, replica = (int(found[1]), found[2]) if found else (0, "")
        alive = replica in self._replica.membership.alive
        forged = replica == self._replica.id and said != self._own_format
        if forged or number < FORMAT or (number == FORMAT and not alive):
            number = FORMAT
            if said != self._own_format:
                await self._replica.transport.write_map(
                    Scope(share), "about", {"format": self._own_format}
                )
        elif not alive:
            number = FORMAT
        self._replica.formats[share] = min(number, FORMATS_BELOW - 1)

    async def _is_elsewhere(self, share: str, folder: str) -> bool:
        """Whether a server that is alive has the share's folder at this path."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[share] = folder, answered
        own = {"folder": self._shares.folder(share), "asks": True}
        notice = Notice(self._replica.id, "folder", own)
        await self._replica.transport.publish(Scope(share), notice.encode())
        await asyncio.wait({answered}, timeout=ANSWER_S)
        del self._answers[share]
        return answered.done()

    def heard(self, share: str, notice: Notice) -> None:
        """Another server says where the share is, and may ask where it is here."""
        if notice.replica == self._replica.id:
            return
        if share in self._answers and notice.replica in self._replica.membership.alive:
            folder, answered = self._answers[share]
            if notice.details.get("folder") == folder and not answered.done():
                answered.set_result(None)
        if notice.details.get("asks") is True and share not in self._answering:
            self._answering.add(share)
            answer = Notice(self._replica.id, "folder", {"folder": self._shares.folder(share)})
            self._replica.spawn(self._answer(share, answer))

    async def _answer(self, share: str, notice: Notice) -> None:
        # Everybody hears it, and who asks afterwards gets another one.
        self._answering.discard(share)
        try:
            await self._replica.transport.publish(Scope(share), notice.encode())
        except TransportError as error:
            self._replica.complain(
                f"files {share}", f"Share {share}: where it is here cannot be told: {error}"
            )
