"""Jupyter servers with this extension and a Redis."""

from __future__ import annotations

from dataclasses import replace

from support.cluster import wait_connected

from ..load.door import Scene
from .base import Setting
from .jupyter import JupyterServers
from .redis_process import Redis


class Teleportal(JupyterServers):
    """`count` Jupyter servers whose rooms are one."""

    def __init__(self, setting: Setting, count: int) -> None:
        super().__init__(setting, count, extension=True)
        self._redis = Redis(setting.folder / "redis")

    async def start(self) -> Scene:
        self._redis.start()
        await self.start_servers(self._redis.url)
        await wait_connected(*self._servers)
        scene = self.scene(f"teleportal-{self._count}")
        return replace(
            scene,
            processes={**scene.processes, "Redis": (self._redis.pid,)},
            redis_port=self._redis.port,
        )

    def stop(self) -> None:
        super().stop()
        self._redis.kill()
