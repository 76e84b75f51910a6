"""Tabs: they keep their document, reconnect to any server, and remember what they have typed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pycrdt import Text
from support.rtc_client import RtcClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.jupyter_process import JupyterProcess, Session

    from .timeline import Timeline

END = "=== end ==="
"""The last line of a text document, which nobody types behind: a file without it is torn."""


@dataclass(frozen=True)
class Typed:
    """A token, and where it came from."""

    token: str
    document: str
    tab: str
    at: float
    server: str


class Tab(RtcClient):
    """A browser tab on one document."""

    def __init__(
        self,
        servers: Sequence[JupyterProcess],
        session: Session,
        path: str,
        name: str,
        timeline: Timeline,
    ) -> None:
        super().__init__(list(servers), session, name=name)
        self.file = path
        self.typed: list[Typed] = []
        self.deleted: set[str] = set()
        self._timeline = timeline
        self._count = 0
        self._pause = asyncio.Event()
        self._pause.set()

    async def _connect_once(self, server: JupyterProcess) -> Any:
        closure = await super()._connect_once(server)
        last = self.closures[-1] if self.closures else None
        if closure != last and not self._stopping:
            self._timeline.note(self.name, f"connection ended: {closure}")
        return closure

    @property
    def whole_text(self) -> str:
        """Everything that is in the document, outputs included."""
        return json.dumps(self.content(), sort_keys=True)

    def pause(self) -> None:
        self._pause.clear()

    def go_on(self) -> None:
        self._pause.set()

    async def type_for_ever(self, rng: random.Random, hz: float) -> None:
        """Do one thing after the other that a user does, drawn from `rng`."""
        while True:
            await asyncio.sleep(rng.uniform(0.5, 1.5) / hz)
            await self._pause.wait()
            if self.synced.is_set() or self.typed:
                self.act(rng)

    def act(self, rng: random.Random) -> None:
        dice = rng.random()
        if dice < 0.04 and len(self.typed) - len(self.deleted) > 5:
            self._delete_own(rng)
        elif dice < 0.08 and self.room_id.split(":")[1] == "notebook":
            self.insert_cell(self._token(), rng.randrange(len(self.notebook.ycells) + 1))
        else:
            self._insert(self._token(), rng)

    def type_token(self) -> str:
        """Type one token at the first place; return it."""
        token = self._token()
        self._texts()[0].insert(0, token)
        return token

    def _token(self) -> str:
        self._count += 1
        token = f"<{self.name}.{self._count}>"
        server = self.server.name if self.server is not None and self.synced.is_set() else "offline"
        self.typed.append(Typed(token, self.file, self.name, time.time(), server))
        return token

    def _texts(self) -> list[Text]:
        if self.room_id.split(":")[1] == "notebook":
            return [cell["source"] for cell in self.notebook.ycells]
        return [self.doc.get("source", type=Text)]

    def _insert(self, token: str, rng: random.Random) -> None:
        texts = self._texts()
        text = rng.choice(texts) if texts else None
        if text is None:
            self.insert_cell(token)
            return
        now = str(text)
        # Tokens stay whole: a place between two of them.
        places = [0] + [i + 1 for i, c in enumerate(now.split(END)[0]) if c in ">\n"]
        # Offsets of a text are in bytes; all that is typed here is ASCII.
        text.insert(rng.choice(places), token)

    def _delete_own(self, rng: random.Random) -> None:
        typed = rng.choice([t for t in self.typed if t.token not in self.deleted])
        for text in self._texts():
            at = str(text).find(typed.token)
            if at >= 0:
                del text[at : at + len(typed.token)]
                self.deleted.add(typed.token)
                return

    async def stop_reading(self, seconds: float) -> None:
        """Take nothing from the socket for so long."""
        connection = self._connection
        if connection is None:
            return
        transport = connection.transport
        with contextlib.suppress(RuntimeError):
            transport.pause_reading()
        await asyncio.sleep(seconds)
        with contextlib.suppress(RuntimeError):
            transport.resume_reading()

    async def send_raw(self, data: bytes) -> None:
        """Send what no browser sends."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.send(data)
