"""Who is answered by the endpoints: in a web server of its own, without Jupyter around it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from jupyter_teleportal.handlers import HealthHandler, StatusHandler
from jupyter_teleportal.room_handlers import SETTINGS_KEY, install_handlers, upstream_handlers

MAY = {("ann", "read"), ("ann", "write"), ("bob", "read")}
"""What is allowed; eve has an account, and may nothing."""


class Names(IdentityProvider):
    """Whoever says a name is that user."""

    auth_enabled = True

    async def get_user(self, handler: Any) -> User | None:
        name = handler.request.headers.get("X-Name")
        return User(name) if name else None

    def should_check_origin(self, handler: Any) -> bool:
        return False


class Rules(Authorizer):
    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return resource == "contents" and (user.username, action) in MAY


Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
async def registered() -> list[str]:
    return []


@pytest.fixture
async def fetch(registered: list[str]) -> AsyncIterator[Fetch]:
    """Asks the server as a user, or as nobody."""
    install_handlers()

    async def before_session(path: str) -> None:
        registered.append(path)

    application = Application(
        [
            ("/status", StatusHandler, {"describe": lambda: {"rooms": ["secret.ipynb"]}}),
            ("/health", HealthHandler, {"health": lambda: "degraded"}),
            ("/session/(.*)", upstream_handlers.DocSessionHandler),
        ],
        base_url="/",
        login_url="/login",
        cookie_secret="secret",
        allow_unauthenticated_access=False,
        disable_check_xsrf=True,
        identity_provider=Names(),
        authorizer=Rules(),
        file_id_manager=SimpleNamespace(get_id=lambda path: "id"),
        serverapp=SimpleNamespace(log=logging.getLogger("test")),
        **{SETTINGS_KEY: SimpleNamespace(before_session=before_session)},
    )
    server, (sock, port) = HTTPServer(application), bind_unused_port()
    server.add_socket(sock)
    client = AsyncHTTPClient(force_instance=True)

    async def ask(path: str, name: str | None, **keywords: Any) -> Any:
        headers = {} if name is None else {"X-Name": name}
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
    fetch: Fetch, registered: list[str], name: str | None, code: int
) -> None:
    body = json.dumps({"format": "json", "type": "notebook"})
    reply = await fetch("/session/new.ipynb", name, method="PUT", body=body)
    assert reply.code == code
    assert registered == (["new.ipynb"] if code == 200 else [])
