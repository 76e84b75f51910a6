"""What a document's users are told of its file, whichever server they are on."""

from __future__ import annotations

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
HEARD_MAX = 20
"""So many messages of other servers are shown in `HEARD_S`."""
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
        self._heard = 0

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

    def heard(self, details: dict[str, Any]) -> None:
        """Another server tells everybody something. Anybody with an account can say anything here,
        so there is a bound to it."""
        level, message = details.get("level"), details.get("message")
        if level not in LEVELS or not isinstance(message, str):
            return
        now = loop_time()
        if now - self._heard_from > HEARD_S:
            self._heard_from, self._heard = now, 0
        self._heard += 1
        if self._heard <= HEARD_MAX:
            self.here(level, message)
