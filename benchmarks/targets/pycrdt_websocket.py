"""pycrdt-websocket alone: upstream's rooms in one process, without Jupyter around them."""

from __future__ import annotations

from pathlib import Path

from support.processes import ChildProcess, free_port

from ..load.door import Entrance, Scene
from .base import Setting, Target
from .processes import answers_on


class PycrdtWebsocket(Target):
    """One server; see `pycrdt_server`."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._server: ChildProcess | None = None

    async def start(self) -> Scene:
        port = free_port()
        server = self._server = ChildProcess(
            [self.setting.python, str(Path(__file__).with_name("pycrdt_server.py")), str(port)],
            log_path=self.setting.folder / "server.log",
            cwd=self.setting.folder,
        )
        await answers_on(port, server)
        entrance = Entrance("127.0.0.1", port, "/{document}")
        return Scene("pycrdt", (entrance,), {"server": (server.pid,)})

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
