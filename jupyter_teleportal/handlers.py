"""The REST endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web


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
