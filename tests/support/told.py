"""What the users of a server are told about documents: JupyterLab's log console shows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import websockets

from support.waiting import until

if TYPE_CHECKING:
    from support.jupyter_process import JupyterProcess

SESSION_EVENTS = "https://schema.jupyter.org/jupyter_collaboration/session/v1"


class Console:
    """A browser's log console: the events that one server sends about documents.

    Use as an async context manager: it listens inside.
    """

    def __init__(self, server: JupyterProcess) -> None:
        self.server = server
        self.events: list[dict[str, Any]] = []
        self._connection: Any = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Console:
        address = f"{self.server.ws_url}/api/events/subscribe?token={self.server.token}"
        self._connection = await websockets.connect(address, proxy=None)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._reading is not None
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self._connection.close()

    async def _read(self) -> None:
        async for message in self._connection:
            event = json.loads(message)
            if event.get("schema_id") == SESSION_EVENTS:
                self.events.append(event)

    def told(self, path: str, part: str) -> list[str]:
        """The messages that the tab at `path` has shown and that contain `part`."""
        return [
            event["msg"]
            for event in self.events
            if event["path"] == path and part in event.get("msg", "")
        ]

    async def wait(self, path: str, part: str, timeout: float = 8.0) -> None:
        """Wait until the tab at `path` shows a message that contains `part`.

        Raises:
            AssertionError: with what was shown.
        """
        try:
            await until(lambda: self.told(path, part), timeout, what=f"{part!r} on {path}")
        except AssertionError as error:
            shown = "\n".join(f"{e['level']} {e['path']}: {e.get('msg')}" for e in self.events)
            raise AssertionError(f"{error}\n{self.server.name} has shown:\n{shown}") from None
