"""A contents manager whose user may read everything and write nothing.

The tests may run as root, who can write whatever the file permissions say.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError


class ReadOnlyContentsManager(AsyncLargeFileManager):  # type: ignore[misc]
    """Reports every file as not writable, and refuses to save."""

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        model = await super().get(*args, **kwargs)
        model["writable"] = False
        return model

    async def save(self, model: Any, path: str = "") -> Any:
        raise HTTPError(403, f"read-only server, not saved: {path}")
