"""The floor: bare WebSockets and Redis' pub/sub in Python, with no document."""

from __future__ import annotations

from pathlib import Path

from support.processes import ChildProcess, free_port

from ..load.door import Entrance, Scene
from .base import Setting, Target
from .processes import answers_on
from .redis_process import Redis

SERVERS = 2


class Floor(Target):
    """Two servers that hand messages on; see `floor_server`."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._redis = Redis(setting.folder / "redis")
        self._servers: list[ChildProcess] = []

    async def start(self) -> Scene:
        self._redis.start()
        ports = [free_port() for _ in range(SERVERS)]
        script = Path(__file__).with_name("floor_server.py")
        for letter, port in zip("AB", ports, strict=True):
            self._servers.append(
                ChildProcess(
                    [self.setting.python, str(script), str(port), str(self._redis.port)],
                    log_path=self.setting.folder / f"{letter}.log",
                    cwd=self.setting.folder,
                )
            )
        for server, port in zip(self._servers, ports, strict=True):
            await answers_on(port, server)
        servers = {
            f"server {letter}": (server.pid,)
            for letter, server in zip("AB", self._servers, strict=True)
        }
        return Scene(
            "floor",
            tuple(Entrance("127.0.0.1", port, "/{document}", speaks_sync=False) for port in ports),
            {**servers, "Redis": (self._redis.pid,)},
            redis_port=self._redis.port,
            keeps_documents=False,
        )

    def stop(self) -> None:
        for server in self._servers:
            server.kill()
        self._redis.kill()
