"""hocuspocus with its Redis extension: several servers, each with every open document."""

from __future__ import annotations

from pathlib import Path

from support.processes import ChildProcess, free_port

from ...load.door import Entrance, Scene
from ..base import Setting, Target
from ..npm import install, installed
from ..processes import answers_on
from ..redis_process import Redis

HERE = Path(__file__).parent


class Hocuspocus(Target):
    """`count` servers with a Redis between them."""

    def __init__(self, setting: Setting, count: int) -> None:
        super().__init__(setting)
        self._count = count
        self._redis = Redis(setting.folder / "redis")
        self._servers: dict[str, ChildProcess] = {}
        self._packages: dict[str, str] = {}

    async def start(self) -> Scene:
        folder = await install(HERE, self.setting.cache, ("server.js",))
        self._packages = installed(folder)
        self._redis.start()
        entrances = []
        for letter in "ABCDEFGH"[: self._count]:
            port = free_port()
            server = self._servers[letter] = ChildProcess(
                ["node", "server.js", str(port), str(self._redis.port), letter],
                log_path=self.setting.folder / f"{letter}.log",
                cwd=folder,
            )
            await answers_on(port, server)
            entrances.append(Entrance("127.0.0.1", port, "/", named=True, greets=True))
        return Scene(
            f"hocuspocus-{self._count}",
            tuple(entrances),
            {
                **{f"server {letter}": (server.pid,) for letter, server in self._servers.items()},
                "Redis": (self._redis.pid,),
            },
            redis_port=self._redis.port,
        )

    def stop(self) -> None:
        for server in self._servers.values():
            server.kill()
        self._redis.kill()

    def packages(self) -> dict[str, str]:
        return self._packages
