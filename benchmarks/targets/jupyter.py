"""Jupyter servers, and the one of them that stands alone: upstream as it is today."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from support.jupyter_process import JupyterProcess

from ..load.door import Entrance, Scene
from .base import Setting, Target

START_SECONDS = 60.0
_POLL_SECONDS = 0.005


class JupyterServer(JupyterProcess):
    """A Jupyter server under a given interpreter."""

    def __init__(
        self,
        python: str,
        root_dir: Path,
        *,
        work_dir: Path,
        name: str,
        redis_url: str | None = None,
        extension: bool = True,
    ) -> None:
        super().__init__(
            root_dir, work_dir=work_dir, name=name, redis_url=redis_url, extension=extension
        )
        self._python = python

    def _command(self) -> list[str]:
        return [self._python, *super()._command()[1:]]

    async def first_answer(self, timeout: float) -> None:
        """Wait until `/api/status` answers, looked at more often than `wait_until_up` does."""
        request = f"GET /api/status?token={self.token} HTTP/1.0\r\n\r\n".encode()
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request)
                status = await reader.readline()
                writer.close()
                if b" 200 " in status:
                    return
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def entrance(self) -> Entrance:
        return Entrance(
            host="127.0.0.1",
            port=self.port,
            session="/api/collaboration/session/{document}",
            body={"format": "json", "type": "notebook"},
            room=(
                "/api/collaboration/room/{format}:{type}:{fileId}"
                f"?token={self.token}&sessionId={{sessionId}}"
            ),
            headers={"Authorization": f"token {self.token}"},
        )


class JupyterServers(Target):
    """Base of the targets that are Jupyter servers on one folder."""

    name = ""

    def __init__(self, setting: Setting, count: int, *, extension: bool) -> None:
        super().__init__(setting)
        self._count = count
        self._extension = extension
        self._servers: list[JupyterServer] = []
        self._started_s = 0.0

    async def start_servers(self, redis_url: str | None) -> None:
        shared = self.setting.folder / "shared"
        shared.mkdir(parents=True)
        self._servers = [
            JupyterServer(
                self.setting.python,
                shared,
                work_dir=self.setting.folder / letter,
                name=letter,
                redis_url=redis_url,
                extension=self._extension,
            )
            for letter in "ABCDEFGH"[: self._count]
        ]
        began = time.perf_counter()
        await asyncio.gather(*(server.launch() for server in self._servers))
        await asyncio.gather(*(server.first_answer(START_SECONDS) for server in self._servers))
        self._started_s = time.perf_counter() - began
        await asyncio.gather(*(server.wait_until_up(START_SECONDS) for server in self._servers))

    def scene(self, target: str) -> Scene:
        processes = {
            f"server {server.name}": (server.pid,)
            for server in self._servers
            if server.pid is not None
        }
        return Scene(
            target,
            tuple(server.entrance for server in self._servers),
            processes,
            folder=str(self.setting.folder / "shared"),
            saves=True,
            python=self.setting.python,
            started_s=self._started_s,
        )

    def stop(self) -> None:
        for server in self._servers:
            server.kill()


class JupyterAlone(JupyterServers):
    """One Jupyter server without this extension: what there is today."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, 1, extension=False)

    async def start(self) -> Scene:
        await self.start_servers(None)
        return self.scene("jupyter")


class TeleportalLocal(JupyterServers):
    """One Jupyter server with this extension, but without Redis."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, 1, extension=True)

    async def start(self) -> Scene:
        await self.start_servers(None)
        return self.scene("teleportal-local")
