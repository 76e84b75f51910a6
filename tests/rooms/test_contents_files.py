"""Shared files are written whole, in a thread, by whichever contents manager writes files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbformat.v4 import new_code_cell, new_notebook, new_output

from jupyter_teleportal import contents_files
from jupyter_teleportal.contents_files import take_over_files
from jupyter_teleportal.shares import Shares

LOG = logging.getLogger("test")


class OwnWay(AsyncLargeFileManager):
    """A manager that writes notebooks in a way of its own, as those of other formats do."""

    async def _save_notebook(self, os_path: Any, nb: Any, *args: Any, **keywords: Any) -> None:
        await super()._save_notebook(os_path, nb, *args, **keywords)


class Writing:
    """A contents manager that has been taken over, and which thread replaced a file last."""

    def __init__(self, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manager = manager
        self.thread: threading.Thread | None = None
        replacing = contents_files.replacing

        @contextlib.contextmanager
        def noted(*args: Any, **keywords: Any) -> Iterator[Any]:
            self.thread = threading.current_thread()
            with replacing(*args, **keywords) as file:
                yield file

        monkeypatch.setattr(contents_files, "replacing", noted)
        self.close = take_over_files(manager, Shares({"shared": "team"}), LOG)


def made(kind: type[Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Writing:
    for name in ("shared", "own"):
        (folder / name).mkdir()
    manager = kind(root_dir=str(folder))
    manager.notary.data_dir = str(folder / "data")
    (folder / "data").mkdir()
    manager.notary.db_file = str(folder / "data" / "signatures.db")
    manager.notary.store = manager.notary.store_factory()
    return Writing(manager, monkeypatch)


def notebook() -> dict[str, Any]:
    shown = new_output("display_data", data={"text/html": "<b>x</b>"})
    cell = new_code_cell("x", outputs=[shown], metadata={"trusted": True})
    return {"type": "notebook", "format": "json", "content": new_notebook(cells=[cell])}


TEXT = {"type": "file", "format": "text", "content": "text"}


@pytest.mark.parametrize("model", [notebook(), TEXT], ids=["notebook", "text"])
async def test_a_shared_file_is_written_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    saved = await writing.manager.save(dict(model), "shared/file.ipynb")
    assert writing.thread not in (None, threading.main_thread())
    assert saved["last_modified"]
    read = await writing.manager.get("shared/file.ipynb", type=model["type"])
    if model is TEXT:
        assert read["content"] == "text"
    else:
        assert read["content"]["cells"][0]["source"] == "x"
        assert read["content"]["cells"][0]["metadata"]["trusted"], "its signature is not known"
    writing.close()
    # The signature is in the database, and the manager goes on without the thread.
    again = await writing.manager.get("shared/file.ipynb", type=model["type"])
    assert again["content"] == read["content"]
    await writing.manager.save(dict(model), "shared/file.ipynb")


async def test_other_files_are_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    for model in (notebook(), TEXT):
        await writing.manager.save(dict(model), "own/file.ipynb")
    assert writing.thread is None
    assert (tmp_path / "own" / "file.ipynb").read_text() == "text"
    writing.close()


@pytest.mark.parametrize("kind", [OwnWay, FileContentsManager])
async def test_a_manager_with_a_way_of_its_own_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    writing = made(kind, tmp_path, monkeypatch)
    saved = writing.manager.save(notebook(), "shared/file.ipynb")
    if asyncio.iscoroutine(saved):
        await saved
    assert writing.thread is threading.main_thread(), "not replaced whole, or elsewhere"
    writing.close()


async def test_a_write_that_fails_is_told_and_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    await writing.manager.save(dict(TEXT), "shared/file.txt")

    @contextlib.contextmanager
    def full(*args: Any, **keywords: Any) -> Iterator[Any]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(contents_files, "replacing", full)
    with pytest.raises(Exception, match="No space left"):
        await writing.manager.save({**TEXT, "content": "other"}, "shared/file.txt")
    assert (tmp_path / "shared" / "file.txt").read_text() == "text"
    writing.close()
