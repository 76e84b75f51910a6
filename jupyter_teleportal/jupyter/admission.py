"""Lets clients into rooms: asks who they are and what they may do, and goes on asking.

Jupyter asks its identity provider and its authorizer once for each request, and a room's WebSocket
is one request for as long as it lasts.
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.base.call_context import CallContext
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError

from ..core.authorization import NONE, READ, WRITE, Rights, next_question_s, rights_after
from ..core.errors import reason_of
from ..core.names import Identity, identity
from ..sync.cluster import Replica

FORBIDDEN = 1008
"""The close code of whoever may not read any more. JupyterLab shows no dialog for it: it tries to
connect again, which is refused as long as that is so, and the tab keeps what was typed."""

AT_ONCE = 8
"""How many questions are under way at the same time."""

ANSWER_TIMEOUT_S = 5.0

_ADMISSION = "_teleportal_admission"
_OF_ONE_CONNECTION = {"Sec-Websocket-Key"}
"""The headers that differ between the connections of one browser."""


@dataclass(eq=False)
class Admission:
    """What is known of one client's request.

    Attributes:
        blank: the handler's attributes before anybody was asked about it.
        rights: what the client may do.
        asks_identity: whether the identity provider can be asked about it again.
        refused: whether it has sent something that it was not allowed to.
        identity: who the client is; None if each question for that has another answer.
    """

    blank: dict[str, Any]
    rights: Rights = NONE
    asks_identity: bool = True
    refused: bool = False
    identity: Identity | None = None


def admission_of(handler: Any) -> Admission | None:
    """What is known of the handler's client, once it was let in."""
    found: Admission | None = getattr(handler, _ADMISSION, None)
    return found


def identity_of(handler: Any) -> Identity | None:
    """Who the handler's client is; None if nobody knows. Whoever comes with a token that says
    nothing of its user is somebody new to Jupyter at each question."""
    admission = admission_of(handler)
    return None if admission is None else admission.identity


class Admissions:
    """The clients of one server's rooms, and what they may do."""

    def __init__(
        self,
        replica: Replica,
        *,
        resync: Callable[[Any], None],
    ) -> None:
        """
        Args:
            replica: complains, logs, and knows how often to ask.
            resync: asks a client, which was let write again, for all that the room lacks of what
                it holds.
        """
        self._replica = replica
        self._resync = resync
        self._interval_s = replica.timing.recheck_interval_s
        self._unanswered_at = -math.inf
        self._open: set[Any] = set()
        self._asking: dict[Hashable, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._watching: asyncio.Task[None] | None = None

    # -- at the opening --------------------------------------------------------------------

    async def admit(self, handler: Any) -> None:
        """Let a request for a room's WebSocket in, before anything is done for it.

        Raises:
            HTTPError: 400 if it asks for no WebSocket; 403 if nobody knows who it is, if it comes
                from a page of another origin, or if it may not read.
        """
        admission = Admission(dict(vars(handler)))
        await JupyterHandler.prepare(handler, _redirect_to_login=False)
        user = handler.current_user
        if user is None:
            raise HTTPError(403, "nobody is logged in")
        if handler.request.headers.get("Upgrade", "").lower() != "websocket":
            raise HTTPError(400, "a room is a WebSocket")
        if _is_of_another_origin(handler):
            raise HTTPError(403, "the page is of another origin, see ServerApp.allow_origin")
        if not await _is_authorized(handler, user, READ):
            raise HTTPError(403, f"{user.username} is not authorized to read contents")
        admission.rights = Rights(read=True, write=await _is_authorized(handler, user, WRITE))
        setattr(handler, _ADMISSION, admission)
        admission.identity = _identity(handler, user)
        admission.asks_identity = await self._can_be_asked_again(handler)

    async def _can_be_asked_again(self, handler: Any) -> bool:
        """Whether the identity provider knows the client from its request alone. One that goes by
        something else, such as the certificate of the connection, cannot be asked later."""
        try:
            user = await _user_of(_anew(handler))
        except Exception as error:  # noqa: BLE001 (what an identity provider raises is its affair)
            self._replica.log.debug("Who has opened a room cannot be asked again now: %s", error)
            return not _is_no(error)
        if user is not None and user.username != handler.current_user.username:
            _admitted(handler).identity = None
        return user is not None

    def opened(self, handler: Any) -> None:
        """The client's WebSocket is open: go on asking."""
        self._open.add(handler)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="teleportal-admissions")

    def close(self) -> None:
        """Stop asking."""
        for task in (self._watching, *self._asking.values()):
            if task is not None:
                task.cancel()

    # -- again and again -------------------------------------------------------------------

    async def _watch(self) -> None:
        while self._open:
            await asyncio.sleep(next_question_s(self._interval_s, random.random()))
            self._open = {handler for handler in self._open if handler.ws_connection is not None}
            for key, handlers in self._by_credentials().items():
                if key not in self._asking:
                    task = asyncio.create_task(self._ask(handlers))
                    self._asking[key] = task
                    task.add_done_callback(partial(self._asked, key))

    def _asked(self, key: Hashable, _task: asyncio.Task[None]) -> None:
        self._asking.pop(key, None)

    def _by_credentials(self) -> dict[Hashable, list[Any]]:
        """The open connections: all that a browser has with the same cookies are one question."""
        found: dict[Hashable, list[Any]] = {}
        for handler in self._open:
            found.setdefault(_credentials(handler), []).append(handler)
        return found

    async def _ask(self, handlers: list[Any]) -> None:
        """Ask about clients that come with the same credentials."""
        first, *_ = handlers
        anew = _anew(first)
        known: bool | None = True
        user: Any = None
        if _admitted(first).asks_identity:
            answered, user = await self._answer(_user_of, anew)
            known = user is not None if answered else None
        if user is not None:
            for handler in handlers:
                # Names may have changed.
                if identity_of(handler) and user.username == handler.current_user.username:
                    _admitted(handler).identity = _identity(handler, user)
        by_room: dict[str, list[Any]] = {}
        for handler in handlers:
            by_room.setdefault(handler.path, []).append(handler)
        for in_room in by_room.values():
            read, write = await self._ask_for_rights(in_room[0], user) if known else (None, None)
            for handler in in_room:
                before = _admitted(handler).rights
                after = rights_after(before, known=known, read=read, write=write)
                if after != before:
                    self._change(handler, after)

    async def _ask_for_rights(self, handler: Any, user: Any) -> tuple[bool | None, bool | None]:
        if _allows_everything(handler):
            return True, True
        # Whoever comes with a shared token is somebody new at each question.
        if user is None or user.username != handler.current_user.username:
            user = handler.current_user
        anew = _anew(handler)
        anew.current_user = anew._jupyter_current_user = user
        found: list[bool | None] = []
        for action in (READ, WRITE):
            answered, allowed = await self._answer(_is_authorized, anew, user, action)
            found.append(bool(allowed) if answered else None)
        return found[0], found[1]

    async def _answer(
        self, ask: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> tuple[bool, Any]:
        """Ask, and return whether there was an answer, and which."""
        now = asyncio.get_running_loop().time
        try:
            async with self._at_once:
                answer = await asyncio.wait_for(ask(*arguments), ANSWER_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 (what they raise is their affair)
            if _is_no(error):
                return True, None
            self._unanswered_at = now()
            self._replica.complain(
                "admissions",
                "Whether people may still read and write cannot be found out; until it can, they "
                f"go on as before: {reason_of(error)}",
            )
            return False, None
        # Not while others get no answer.
        if now() - self._unanswered_at > 2 * self._interval_s:
            self._replica.settle("admissions")
        return True, answer

    def _change(self, handler: Any, rights: Rights) -> None:
        admission = _admitted(handler)
        admission.rights = rights
        name = handler.current_user.username
        if not rights.read:
            self._open.discard(handler)
            self._replica.log.info("Room %s: %s may not read it any more", handler.path, name)
            handler.close(FORBIDDEN, "you may not read this document any more")
        elif rights.write:
            self._replica.log.info("Room %s: %s may write to it now", handler.path, name)
            if admission.refused:
                # The tab holds what was refused, and builds on it.
                admission.refused = False
                self._resync(handler)
        else:
            self._replica.log.info("Room %s: %s may only read it now", handler.path, name)


def _admitted(handler: Any) -> Admission:
    admission = admission_of(handler)
    assert admission is not None
    return admission


def _identity(handler: Any, user: Any) -> Identity:
    provider = handler.identity_provider
    return identity(provider.identity_model(user), getattr(provider, "updatable_fields", ()))


def _is_no(error: Exception) -> bool:
    """Whether an identity provider or authorizer says no by this error."""
    return isinstance(error, HTTPError) and error.status_code in (401, 403)


def _is_of_another_origin(handler: Any) -> bool:
    look = getattr(handler, "_check_cross_origin", None)  # since tornado 6.6
    if look is not None:
        return look(handler.check_origin) is not None
    origin = handler.get_origin()
    return origin is not None and not handler.check_origin(origin)


def _allows_everything(handler: Any) -> bool:
    return type(handler.authorizer) is AllowAllAuthorizer


async def _is_authorized(handler: Any, user: Any, action: str) -> bool:
    if _allows_everything(handler):
        return True
    answer = handler.authorizer.is_authorized(handler, user, action, handler.auth_resource)
    return bool(await ensure_async(answer))


async def _user_of(handler: Any) -> Any:
    CallContext.set(CallContext.JUPYTER_HANDLER, handler)
    return await ensure_async(handler.identity_provider.get_user(handler))


def _credentials(handler: Any) -> Hashable:
    """What tells one client's identity from another's, as far as a request shows it."""
    request = handler.request
    headers = sorted(
        (name, value) for name, value in request.headers.get_all() if name not in _OF_ONE_CONNECTION
    )
    token = tuple(request.arguments.get("token", ()))
    return (tuple(headers), token, request.remote_ip, _admitted(handler).asks_identity)


def _anew(handler: Any) -> Any:
    """The handler as it was when its request came in: nobody has been asked about it, and what an
    answer would set in its response, such as a cookie, goes nowhere."""
    kind: Any = type(handler)
    made: Any = kind.__new__(kind)
    vars(made).update(_admitted(handler).blank)
    made.request = copy.copy(handler.request)
    made.request.connection = _Nowhere()
    made._headers = HTTPHeaders()
    made._write_buffer = []
    made._room_id, made.room = handler._room_id, handler.room
    return made


class _Nowhere:
    """A connection that takes everything and sends nothing."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        def ignore(*_arguments: Any, **_keywords: Any) -> Awaitable[None]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done

        return ignore
