"""Who is answered by the endpoints: in a web server of its own, without Jupyter around it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.auth.authorizer import AllowAllAuthorizer, Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from support.waiting import until
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.testing import bind_unused_port
from tornado.web import Application
from unit.test_authorization import MESSAGES

from jupyter_teleportal.core.authorization import Rights
from jupyter_teleportal.jupyter.admission import Admission, Admissions
from jupyter_teleportal.jupyter.endpoints import HealthHandler, StatusHandler
from jupyter_teleportal.jupyter.room_handlers import (
    SETTINGS_KEY,
    install_handlers,
    upstream_handlers,
)

MAY = {("ann", "read"), ("ann", "write"), ("bob", "read")}
"""What is allowed; eve has an account, and may nothing."""


class Names(IdentityProvider):
    """Whoever says a name is that user."""

    auth_enabled = True

    async def get_user(self, handler: Any) -> User | None:
        name = handler.request.headers.get("X-Name")
        return User(name) if name else None


class Rules(Authorizer):
    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return resource == "contents" and (user.username, action) in MAY


class Room(upstream_handlers.YDocWebSocketHandler):
    def initialize(self) -> None:
        """Without what makes rooms."""


Fetch = Callable[..., Awaitable[Any]]
REPLICA: Any = SimpleNamespace(
    log=logging.getLogger("test"),
    timing=SimpleNamespace(recheck_interval_s=0.1),
    complain=lambda *_: None,
    settle=lambda *_: None,
)


class Seam:
    """Notes what is done for whom."""

    def __init__(self) -> None:
        self.registered: list[str] = []
        self.admissions = Admissions(REPLICA, resync=lambda channel: None)
        self.occupancy = self.plain_rooms = self

    async def before_session(self, path: str) -> None:
        self.registered.append(path)

    async def before_room(self, room_id: str) -> bool:
        self.registered.append(room_id)
        return True

    async def check(self, *_: Any) -> None: ...

    async def enter(self, handler: Any, room_id: str, prepare: Any) -> None:
        handler.finish("let in")

    def finished(self, handler: Any) -> None: ...

    def refused(self, *_: Any) -> None: ...


@pytest.fixture
async def seam() -> Seam:
    return Seam()


@pytest.fixture
async def fetch(seam: Seam) -> AsyncIterator[Fetch]:
    """Asks the server as a user, or as nobody."""
    install_handlers()
    application = Application(
        [
            ("/status", StatusHandler, {"describe": lambda: {"rooms": ["secret.ipynb"]}}),
            ("/health", HealthHandler, {"health": lambda: "degraded"}),
            ("/session/(.*)", upstream_handlers.DocSessionHandler),
            ("/room/(.*)", Room),
        ],
        base_url="/",
        login_url="/login",
        cookie_secret="secret",
        allow_unauthenticated_access=True,
        disable_check_xsrf=True,
        identity_provider=Names(),
        authorizer=Rules(),
        file_id_manager=SimpleNamespace(get_id=lambda path: "id"),
        serverapp=SimpleNamespace(log=logging.getLogger("test")),
        **{SETTINGS_KEY: seam},
    )
    server, (sock, port) = HTTPServer(application), bind_unused_port()
    server.add_socket(sock)
    client = AsyncHTTPClient(force_instance=True)

    async def ask(path: str, name: str | None, **keywords: Any) -> Any:
        headers = {**keywords.pop("headers", {}), **({} if name is None else {"X-Name": name})}
        return await client.fetch(
            f"http://127.0.0.1:{port}{path}", headers=headers, raise_error=False, **keywords
        )

    yield ask
    client.close()
    server.stop()
    await server.close_all_connections()


@pytest.mark.parametrize(("name", "code"), [("ann", 200), ("bob", 200), ("eve", 403), (None, 403)])
async def test_the_status_is_for_those_who_may_read_contents(
    fetch: Fetch, name: str | None, code: int
) -> None:
    reply = await fetch("/status", name)
    assert reply.code == code
    assert (b"secret.ipynb" in reply.body) == (code == 200)


async def test_the_health_is_for_everybody_and_says_no_more_than_the_state(fetch: Fetch) -> None:
    reply = await fetch("/health", None)
    assert (reply.code, json.loads(reply.body)) == (200, {"status": "degraded"})


@pytest.mark.parametrize(("name", "code"), [("ann", 200), ("bob", 200), ("eve", 403), (None, 403)])
async def test_a_session_registers_nothing_for_whoever_may_not_read(
    fetch: Fetch, seam: Seam, name: str | None, code: int
) -> None:
    body = json.dumps({"format": "json", "type": "notebook"})
    reply = await fetch("/session/new.ipynb", name, method="PUT", body=body)
    assert reply.code == code
    assert seam.registered == (["new.ipynb"] if code == 200 else [])


WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade"}


@pytest.mark.parametrize(("name", "code"), [("ann", 200), ("bob", 200), ("eve", 403), (None, 403)])
async def test_nothing_is_made_for_whoever_is_not_let_in(
    fetch: Fetch, seam: Seam, name: str | None, code: int
) -> None:
    reply = await fetch("/room/json:notebook:id", name, headers=WEBSOCKET)
    assert reply.code == code
    assert seam.registered == (["json:notebook:id"] if code == 200 else [])


async def test_what_asks_for_no_websocket_makes_no_room(fetch: Fetch, seam: Seam) -> None:
    assert (await fetch("/room/json:notebook:id", "ann")).code == 400
    assert seam.registered == []


@pytest.mark.parametrize(
    ("origin", "code"), [("https://elsewhere.example", 403), ("http://localhost", 200)]
)
async def test_a_page_of_another_origin_opens_no_room(
    fetch: Fetch, seam: Seam, origin: str, code: int
) -> None:
    headers = {**WEBSOCKET, "Origin": origin, "Host": "localhost"}
    reply = await fetch("/room/json:notebook:id", "ann", headers=headers)
    assert reply.code == code
    assert bool(seam.registered) == (code == 200)


class Tab:
    """A client that was let in, as far as it is asked about."""

    path = _room_id = "room"
    auth_resource = "contents"
    room = None

    def __init__(
        self, name: str, seam: Seam, *, write: bool = True, authorizer: Authorizer | None = None
    ) -> None:
        self.request: Any = SimpleNamespace(
            headers=HTTPHeaders({"X-Name": name}), arguments={}, remote_ip="::1", connection=None
        )
        self.settings = {SETTINGS_KEY: seam}
        self.identity_provider, self.authorizer = Names(), authorizer or Rules()
        self.current_user = User(name)
        self.ws_connection: Any = self
        self.closed: list[int] = []
        self.sent: list[str] = []
        self.took: list[bytes] = []
        self._teleportal_admission = Admission(dict(vars(self)), Rights(read=True, write=write))

    async def _teleportal_take(self, message: bytes, *_: Any) -> None:
        self.took.append(message)

    async def send(self, message: bytes) -> None:
        self.sent.append(str(message))

    def _encode_json_message(self, message: Any) -> str:
        return json.dumps(message)

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)
        self.ws_connection = None


TAKEN = ["sync step 1", "awareness", "empty step 2", "empty update", "step 2", "update"]


@pytest.mark.parametrize("kind", [*TAKEN, "save"])
@pytest.mark.parametrize("write", [True, False], ids=["writer", "viewer"])
async def test_of_a_viewer_only_what_changes_nothing_is_taken(
    seam: Seam, kind: str, write: bool
) -> None:
    install_handlers()
    message, right = MESSAGES[kind]
    if kind == "save" and write:
        return  # upstream's affair
    tab = Tab("bob", seam, write=write)
    await upstream_handlers.YDocWebSocketHandler.on_message(tab, message)
    assert tab.took == ([message] if write or right == "read" else [])
    assert bool(tab.sent) == (kind == "save"), "whoever asks for a save is told that it has failed"


async def test_a_right_that_is_taken_away_ends_the_connection(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab, other = Tab("bob", seam), Tab("ann", seam)
    for one in (tab, other):
        seam.admissions.opened(one)
    rights = tab._teleportal_admission
    await until(lambda: rights.rights == Rights(read=True), what="the right that bob has")
    monkeypatch.setattr(sys.modules[__name__], "MAY", MAY - {("bob", "read")})
    await until(lambda: tab.closed == [1008], what="the end of bob's connection")
    assert not other.closed
    seam.admissions.close()


class Nobody(AllowAllAuthorizer):
    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return False


async def test_an_authorizer_that_allows_everything_is_not_asked(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(AllowAllAuthorizer, "is_authorized", lambda *about: asked.append(about))
    tab = Tab("bob", seam, authorizer=AllowAllAuthorizer())
    seam.admissions.opened(tab)
    rights = tab._teleportal_admission
    monkeypatch.setattr(rights, "rights", Rights(read=True))
    await until(lambda: rights.rights == Rights(read=True, write=True), what="the next question")
    assert not asked
    seam.admissions.close()


async def test_one_that_is_derived_from_it_is(seam: Seam) -> None:
    tab = Tab("ann", seam, authorizer=Nobody())
    seam.admissions.opened(tab)
    await until(lambda: tab.closed == [1008], what="the end of the connection")
    seam.admissions.close()
