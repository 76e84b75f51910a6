"""The server of y-websocket: one process, every document in its memory, no Redis."""

from __future__ import annotations

import os
from pathlib import Path

from support.processes import ChildProcess, free_port

from ...load.door import Entrance, Scene
from ..base import Setting, Target
from ..npm import install, installed
from ..processes import answers_on

HERE = Path(__file__).parent
SERVER = "node_modules/@y/websocket-server/src/server.js"


class YWebsocket(Target):
    """One server as it comes from the registry, and nothing stored."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._server: ChildProcess | None = None
        self._packages: dict[str, str] = {}

    async def start(self) -> Scene:
        folder = await install(HERE, self.setting.cache, ())
        self._packages = installed(folder)
        port = free_port()
        server = self._server = ChildProcess(
            ["node", SERVER],
            log_path=self.setting.folder / "server.log",
            cwd=folder,
            env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        )
        await answers_on(port, server)
        entrance = Entrance("127.0.0.1", port, "/{document}")
        return Scene("y-websocket", (entrance,), {"server": (server.pid,)})

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()

    def packages(self) -> dict[str, str]:
        return self._packages
