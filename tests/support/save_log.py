"""A Jupyter server extension for tests: writes a line for every write of a shared file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "TELEPORTAL_SAVE_LOG"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "support.save_log"}]


def _append(line: str) -> None:
    # One write of less than a page, so that lines of several servers do not mix.
    with open(os.environ[VARIABLE], "a") as log:
        log.write(line)


def _load_jupyter_server_extension(serverapp: Any) -> None:
    from jupyter_teleportal.jupyter.loaded_file import LoadedFile

    write = LoadedFile.write
    root = Path(serverapp.contents_manager.root_dir)

    def digest(path: str) -> str:
        try:
            return hashlib.sha256((root / path).read_bytes()).hexdigest()
        except OSError:
            return ""

    async def logged_write(self: Any, content: Any, over: Any) -> Any:
        line = {"pid": os.getpid(), "path": self.path, "start": time.time()}
        # What was deleted is made anew over nothing.
        line |= {"believed": "" if over is None else over.hash, "before": digest(self.path)}
        state = await write(self, content, over)
        line |= {"end": time.time(), "after": state.hash}
        _append(json.dumps(line) + "\n")
        return state

    LoadedFile.write = logged_write  # type: ignore[method-assign]
