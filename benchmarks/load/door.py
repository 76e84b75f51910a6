"""How a client gets into a room, for every kind of server; plain values that can be pickled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote


class Refused(ConnectionError):
    """The server did not say which room a document has."""


@dataclass(frozen=True)
class Entrance:
    """One server.

    Attributes:
        room: path and query of a document's WebSocket, with `{document}` and whatever the answer
            to `session` holds.
        session: path of the request with which a client asks for a document's room first; None
            where the room is known.
        named: whether each message begins with the document's name, as hocuspocus has it.
        greets: whether a client has to send a token over the WebSocket before anything else.
        speaks_sync: whether the server answers to a sync step. If not, it sends an empty message
            when it is ready.
    """

    host: str
    port: int
    room: str
    session: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    greets: bool = False
    speaks_sync: bool = True

    async def path_of(self, document: str) -> str:
        """Return path and query of the document's WebSocket, after asking for them if need be.

        Raises:
            Refused: if the server answers with an error.
            OSError: if it does not answer.
        """
        fields: dict[str, Any] = {"document": quote(document)}
        if self.session is not None:
            fields |= await self._ask(self.session.format(**fields))
        return self.room.format(**fields)

    async def _ask(self, path: str) -> dict[str, Any]:
        body = json.dumps(dict(self.body)).encode()
        lines = [
            f"PUT {path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n", 1)[0]
        if status.split(b" ")[1:2] not in ([b"200"], [b"201"]):
            raise Refused(f"PUT {path}: {status.decode(errors='replace')}")
        found: dict[str, Any] = json.loads(content)
        return found


@dataclass(frozen=True)
class Scene:
    """A target that is up, as the load generator sees it.

    Attributes:
        entrances: one for each server, A first.
        processes: process ids by role; what they have started counts too.
        redis_port: None where there is no Redis.
        folder: where documents lie as files; None where the first client brings the content.
        keeps_documents: whether somebody who comes later gets the document.
        saves: whether a client may ask for a save.
        python: the interpreter of servers in Python.
        started_s: seconds from the start of the only server's process until it answered.
    """

    target: str
    entrances: tuple[Entrance, ...]
    processes: Mapping[str, tuple[int, ...]]
    redis_port: int | None = None
    folder: str | None = None
    keeps_documents: bool = True
    saves: bool = False
    python: str = ""
    started_s: float | None = None

    @property
    def here(self) -> Entrance:
        """Server A, where the writers are."""
        return self.entrances[0]

    @property
    def there(self) -> Entrance:
        """Server B, where the readers are; the only server where there is but one."""
        return self.entrances[1 % len(self.entrances)]
