"""A Jupyter server extension for tests: what only the inside of a server can tell, over HTTP."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from typing import Any

import psutil
import tornado.web
from jupyter_server.base.handlers import APIHandler


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "support.probe_extension"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    handlers = [
        (r"/api/probe/modules", ModulesHandler),
        (r"/api/probe/document", DocumentHandler),
        (r"/api/probe/history", HistoryHandler),
        (r"/api/probe/leftovers", LeftoversHandler),
    ]
    serverapp.web_app.add_handlers(".*$", handlers)


def _collaboration(serverapp: Any) -> Any:
    """Upstream's extension app, found as other packages find it."""
    return next(iter(serverapp.extension_manager.extension_apps["jupyter_server_ydoc"]))


class ModulesHandler(APIHandler):
    """Which modules of a top-level package are loaded."""

    @tornado.web.authenticated
    def get(self) -> None:
        package = self.get_query_argument("package")
        loaded = sorted(n for n in sys.modules if n == package or n.startswith(package + "."))
        self.finish({"loaded": loaded})


class DocumentHandler(APIHandler):
    """`get_document` as another extension would call it; `write` appends to a text document."""

    @tornado.web.authenticated
    async def post(self) -> None:
        body = self.get_json_body() or {}
        write = body.pop("write", None)
        document = await _collaboration(self.serverapp).get_document(**body)
        if document is None:
            self.finish({"found": False})
            return
        if write is not None:
            document.set(document.get() + write)
        self.finish({"found": True, "source": document.get()})


class HistoryHandler(APIHandler):
    """The sizes and timestamps of what the room's store has kept."""

    @tornado.web.authenticated
    async def get(self) -> None:
        server = _collaboration(self.serverapp).ywebsocket_server
        room = await server.get_room(self.get_query_argument("room"))
        items = [(len(item[0]), item[-1]) async for item in room.ystore.read()]
        self.finish({"store": type(room.ystore).__name__, "updates": items})


def _trim() -> None:
    """Let the allocator give back what nothing uses, where it has a call for that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _name(task: asyncio.Task[Any]) -> str:
    """A task's coroutine; of one in a task group, what the group runs."""
    return f"{task.get_coro().__qualname__} {task.get_name()}".partition(" Task-")[0]


class LeftoversHandler(APIHandler):
    """What is left when everything is closed: tasks by name, resident memory, descriptors, and
    how many rooms and files upstream holds."""

    @tornado.web.authenticated
    def get(self) -> None:
        gc.collect()
        _trim()
        process = psutil.Process()
        collaboration = _collaboration(self.serverapp)
        self.finish(
            {
                "rooms": len(collaboration.ywebsocket_server.rooms),
                "loaders": len(vars(collaboration.file_loaders)["_FileLoaderMapping__dict"]),
                "tasks": sorted(map(_name, asyncio.all_tasks())),
                "rss": process.memory_info().rss,
                "descriptors": process.num_fds(),
            }
        )
