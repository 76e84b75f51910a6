"""What a document's users are told of its file, whichever server they are on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ..core.envelopes import Notice
from ..sync.room_link import RoomLink
from ..transports.base import loop_time

NOTICE = "told"
LEVELS = ("INFO", "WARNING", "ERROR")
MESSAGE_MAX = 1000
"""So many characters of a message are shown."""
AGAIN_S = 2.0
"""The same message is shown once in this time: several servers may notice the same."""
HEARD_MAX = 5
"""So many messages of each level of another server are shown in `HEARD_S`."""
HEARD_FROM_MAX = 5
"""Of so many other servers, besides the saver."""
HEARD_S = 60.0


class Teller:
    """Tells a document's users what happened to its file, here and on the other servers.

    Attributes:
        show: shows this server's users a message whenever it is called.
    """

    def __init__(self, link: RoomLink, show: Callable[[str, str], None]) -> None:
        """
        Args:
            link: the room's link.
            show: shows this server's users a message, given its level (one of `LEVELS`) first.
        """
        self._link = link
        self.show = show
        self._shown: dict[tuple[str, str], float] = {}
        self._heard_from = 0.0
        self._heard: Counter[tuple[str, str]] = Counter()
        self._heard_of: set[str] = set()

    def here(self, level: str, message: str) -> None:
        """Tell the users of this server."""
        now = loop_time()
        self._shown = {key: at for key, at in self._shown.items() if now - at < AGAIN_S}
        message = message[:MESSAGE_MAX]
        if level == "INFO" or (level, message) not in self._shown:
            self._shown[level, message] = now
            self.show(level, message)

    def everybody(self, level: str, message: str) -> None:
        """Tell the users of all servers; where the transport does not carry it, of this one."""
        self.here(level, message)
        if self._link.shared:
            details = {"level": level, "message": message[:MESSAGE_MAX]}
            self._link.publish(Notice(self._link.replica.id, NOTICE, details))

    def heard(self, replica: str, details: dict[str, Any]) -> None:
        """Another server tells everybody something. Anybody with an account can say anything here,
        in any name, so there is a bound to it; that one does not silence the others, nor what is
        less urgent an error.

        Args:
            replica: the server.
            details: what the notice says.
        """
        level, message = details.get("level"), details.get("message")
        if level not in LEVELS or not isinstance(message, str):
            return
        now = loop_time()
        if now - self._heard_from > HEARD_S:
            self._heard_from = now
            self._heard.clear()
            self._heard_of.clear()
        lease = self._link.lease
        if replica not in (lease.holder, lease.last_holder):
            if len(self._heard_of | {replica}) > HEARD_FROM_MAX:
                return
            self._heard_of.add(replica)
        self._heard[replica, level] += 1
        if self._heard[replica, level] <= HEARD_MAX:
            self.here(level, message)
