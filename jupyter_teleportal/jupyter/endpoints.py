"""The REST endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

SERVING = ("ok", "degraded")
"""The states of health in which a server can serve."""


class StatusHandler(APIHandler):
    """``GET /api/teleportal/status``: how this server shares its documents."""

    auth_resource = "contents"

    def initialize(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the status as JSON."""
        self.finish(self._describe())


class HealthHandler(APIHandler):
    """``GET`` and ``HEAD /api/teleportal/health``: whether a balancer may send people here.

    A balancer has no token, so this says the state and nothing else.
    """

    _track_activity = False

    def initialize(self, health: Callable[[], str]) -> None:
        self._health = health

    @allow_unauthenticated
    async def get(self) -> None:
        """Answer 200 if this server can serve, otherwise 503, with the state as JSON."""
        state = self._health()
        self.set_status(200 if state in SERVING else 503)
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": state})

    @allow_unauthenticated
    async def head(self) -> None:
        """The same without a body."""
        await self.get()

    def _log(self) -> None:
        # Jupyter logs a 503 as an error; here it is an answer, given every few seconds.
        self.log.debug("%d %s %s", self.get_status(), self.request.method, self.request.uri)
