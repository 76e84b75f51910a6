"""Saving because somebody asks for it, here or on the replica that is the saver."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque

from ..core.envelopes import SaveReply, SaveRequest
from ..core.errors import SaveFailed, reason_of
from ..sync.room_link import RoomLink
from ..transports.base import loop_time
from .reconciling import NotTheSaver
from .save_records import REQUEST_TIMEOUT_S
from .saver import Saver
from .telling import Teller

ASKED_MAX = 100
"""So many requests of others wait for an answer; there are not that many servers."""


class SaveRequests:
    """Asks whoever is the saver of one document, and answers if that is this replica."""

    def __init__(self, link: RoomLink, saver: Saver, teller: Teller) -> None:
        self._link = link
        self._teller = teller
        self._replica = link.replica
        self._saver = saver
        self._replies: dict[str, asyncio.Future[str]] = {}
        self._asked: deque[SaveRequest] = deque(maxlen=ASKED_MAX)
        self._answering = False

    async def save_now(self) -> None:
        """Save because somebody asked for it, here or on the replica that is the saver. Where that
        fails, whoever asked is told why.

        Raises:
            SaveFailed: if it was not saved; the message says why.
            Exception: what the contents manager raises.
        """
        try:
            await self._save()
        except Exception as error:
            message = f"The document could not be saved: {reason_of(error)}"
            self._teller.here("ERROR", message)
            raise

    async def _save(self) -> None:
        deadline = loop_time() + self._replica.timing.save_reply_timeout_s
        while loop_time() < deadline:
            if self._saver.has_ended:
                raise SaveFailed("this server does not write its file any more")
            if self._saver.may_save:
                try:
                    await self._saver.save(anew=True)
                except NotTheSaver:
                    continue
                except Exception as error:
                    self._saver.failed(error)
                    raise
                return
            if not self._link.shared:
                raise SaveFailed(self._why_not())
            if await self._ask_saver():
                return
            await self._link.tick()
        raise SaveFailed("no server has saved the document in time")

    def _why_not(self) -> str:
        """Why nobody saves what is in this document, in an outage."""
        refused = self._link.refused
        away = f"refuses this document ({refused})" if refused else "is away"
        return (
            f"not saved: another server saves this document, or has, and Redis {away}. What is "
            "written here stays on this server, and is saved by itself when Redis is back"
        )

    async def _ask_saver(self) -> bool:
        """Ask whoever is the saver; return whether it has saved."""
        await self._link.flush(REQUEST_TIMEOUT_S)
        request = uuid.uuid4().hex
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._replies[request] = reply
        try:
            self._link.publish(SaveRequest(self._replica.id, request))
            problem = await asyncio.wait_for(reply, REQUEST_TIMEOUT_S)
        except asyncio.TimeoutError:
            return False
        finally:
            del self._replies[request]
        if problem:
            raise SaveFailed(problem)
        return True

    def asked(self, request: SaveRequest) -> None:
        """Save because another replica's client asked for it, if this is the saver; once for all
        that were asked for meanwhile."""
        if self._saver.may_save:
            self._asked.append(request)
            if not self._answering:
                self._answering = True
                self._link.spawn(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                requests = list(self._asked)
                self._asked.clear()
                await self._answer(requests)
        finally:
            self._answering = False

    async def _answer(self, requests: list[SaveRequest]) -> None:
        problem = ""
        try:
            if not self._link.shared:
                raise SaveFailed(
                    "the server that saves this document cannot read what others write, because "
                    f"Redis refuses it: {self._link.refused}"
                )
            # Whoever asks has shared all edits, but a large one may not have been read here yet.
            await self._link.catch_up(REQUEST_TIMEOUT_S)
            await self._saver.save(anew=True)
        except NotTheSaver:
            return
        except Exception as error:  # noqa: BLE001 (whoever asks is told)
            problem = reason_of(error)
            self._saver.failed(error)
        for request in requests:
            self._link.publish(SaveReply(self._replica.id, request.request, problem))

    def answered(self, reply: SaveReply) -> None:
        """The saver has answered."""
        waiting = self._replies.get(reply.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply.problem)
