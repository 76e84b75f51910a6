"""Shared files are read and written in threads, and whole, by whichever manager writes files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager
from jupyter_server.services.contents.largefilemanager import (
    AsyncLargeFileManager,
    LargeFileManager,
)
from jupyter_server.utils import ensure_async
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tornado.web import HTTPError

from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.files import note_files
from jupyter_teleportal.files.open_folders import place_of
from jupyter_teleportal.files.share_folders import folders_of
from jupyter_teleportal.jupyter import contents_files
from jupyter_teleportal.jupyter.contents_files import take_over_files

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
        writing = contents_files.writing

        @contextlib.contextmanager
        def noted(*args: Any, **keywords: Any) -> Iterator[Any]:
            if ".ipynb_checkpoints" not in args[0].folders:
                self.thread = threading.current_thread()
            with writing(*args, **keywords) as file:
                yield file

        monkeypatch.setattr(contents_files, "writing", noted)
        self.close = take_over_files(manager, folders_of(manager, Shares({"shared": "team"})), LOG)


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

    monkeypatch.setattr(contents_files, "writing", full)
    with pytest.raises(Exception, match="No space left"):
        await writing.manager.save({**TEXT, "content": "other"}, "shared/file.txt")
    assert (tmp_path / "shared" / "file.txt").read_text() == "text"
    writing.close()


def noted_readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which notebooks are read from now on."""
    found: list[threading.Thread] = []
    reads = nbformat.reader.reads

    def noted(*args: Any, **keywords: Any) -> Any:
        found.append(threading.current_thread())
        return reads(*args, **keywords)

    monkeypatch.setattr(nbformat.reader, "reads", noted)
    return found


@pytest.mark.parametrize("folder", ["shared", "own"])
async def test_what_is_read_is_the_same_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    await writing.manager.save(notebook(), f"{folder}/book.ipynb")
    await writing.manager.save(dict(TEXT), f"{folder}/file.txt")
    plain = AsyncLargeFileManager(root_dir=str(tmp_path))
    plain.notary = writing.manager.notary
    readers = noted_readers(monkeypatch)
    for name in ("book.ipynb", "file.txt"):
        for content in (True, False):
            asked = {"content": content, "require_hash": True}
            model = await writing.manager.get(f"{folder}/{name}", **asked)
            assert model == await plain.get(f"{folder}/{name}", **asked)
            assert (
                model["hash"] == hashlib.sha256((tmp_path / folder / name).read_bytes()).hexdigest()
            )
    assert readers
    assert threading.main_thread() not in readers
    writing.close()


async def test_a_class_that_makes_one_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of their browsers puts the new file before it opens it."""
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    for path, model in (("shared/new.ipynb", notebook()), ("shared/new.txt", dict(TEXT))):
        saved = await asyncio.gather(*(writing.manager.save(dict(model), path) for _ in range(50)))
        assert len(saved) == 50
    assert (tmp_path / "shared" / "new.txt").read_text() == "text"
    there = set(os.listdir(tmp_path / "shared")) - {".ipynb_checkpoints"}
    assert there == {"new.ipynb", "new.txt"}
    writing.close()


async def test_two_files_that_are_read_at_once_keep_their_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    names = [f"shared/{number}.txt" for number in range(8)]
    for name in names:
        (tmp_path / name).write_text(name)
    models = await asyncio.gather(
        *(writing.manager.get(name, content=False, require_hash=True) for name in names)
    )
    assert [model["hash"] for model in models] == [
        hashlib.sha256(name.encode()).hexdigest() for name in names
    ]
    writing.close()


V3 = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": "old"},
    "worksheets": [
        {
            "metadata": {},
            "cells": [
                {
                    "cell_type": "code",
                    "collapsed": False,
                    "input": source,
                    "language": "python",
                    "metadata": {},
                    "outputs": [],
                }
                for source in ("x = 1", "same", "same")
            ],
        }
    ],
}


def of_cells(minor: int, *ids: str | None) -> dict[str, Any]:
    cells = [{**new_code_cell(f"x = {number}"), "id": name} for number, name in enumerate(ids)]
    for cell in cells:
        if cell["id"] is None:
            del cell["id"]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": minor}


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (V3, set()),
        (of_cells(5, "a", None, "b", None), {"a", "b"}),
        (of_cells(5, "a", "b", "a", "a"), {"a", "b"}),
        (of_cells(4, None, None), set()),
    ],
    ids=["format 3", "some have none", "some have the same", "format 4.4"],
)
async def test_cells_have_the_same_ids_wherever_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], kept: set[str]
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    (tmp_path / "shared" / "old.ipynb").write_text(json.dumps(content))
    there, again = [await writing.manager.get("shared/old.ipynb") for _ in range(2)]
    assert there["content"] == again["content"]
    cells = there["content"]["cells"]
    ids = [cell["id"] for cell in cells if "id" in cell]
    has_ids = there["content"]["nbformat_minor"] >= 5
    assert len(ids) == len(set(ids)) == (len(cells) if has_ids else 0)
    assert kept <= set(ids)
    assert "message" not in there
    writing.close()


@pytest.mark.parametrize("text", ["no JSON", '{"cells": [}', "[1]"])
async def test_a_notebook_that_cannot_be_read_is_told_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    (tmp_path / "shared" / "bad.ipynb").write_text(text)
    plain = AsyncLargeFileManager(root_dir=str(tmp_path))
    errors = []
    for manager in (plain, writing.manager):
        with pytest.raises(HTTPError) as caught:
            await manager.get("shared/bad.ipynb")
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert "Unreadable Notebook" in errors[0]
    writing.close()


async def test_a_notebook_that_is_not_valid_is_read_with_a_word_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = made(AsyncLargeFileManager, tmp_path, monkeypatch)
    cell = {**new_code_cell("x"), "execution_count": "no number"}
    content = {**new_notebook(), "cells": [cell]}
    (tmp_path / "shared" / "odd.ipynb").write_text(json.dumps(content))
    model = await writing.manager.get("shared/odd.ipynb")
    assert "validation failed" in model["message"].lower()
    writing.close()


@pytest.mark.parametrize("kind", [LargeFileManager, AsyncLargeFileManager])
@pytest.mark.parametrize("to", ["shared/new.txt", "own/new.txt", None])
async def test_what_is_noted_beside_a_file_goes_where_that_goes(
    kind: type[Any], to: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file that comes to its path would be taken for it."""
    manager = made(kind, tmp_path, monkeypatch).manager
    old, new = tmp_path / "shared" / "old.txt", tmp_path / "shared" / "new.txt"
    old.write_text("text")
    for note in (b"one", b"two"):
        note_files.leave(place_of(str(old)), note)
    if to is None:
        await ensure_async(manager.delete("shared/old.txt"))
    else:
        await ensure_async(manager.rename("shared/old.txt", to))
    assert note_files.read_all(place_of(str(old))) == {}
    there = list(note_files.read_all(place_of(str(new))).values())
    assert there == ([b"one", b"two"] if to == "shared/new.txt" else [])
    assert not old.exists()


async def test_a_rename_is_done_where_a_note_cannot_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(place: Any, note: bytes) -> str:
        raise OSError(28, "No space left on device")

    manager = made(AsyncLargeFileManager, tmp_path, monkeypatch).manager
    old = tmp_path / "shared" / "old.txt"
    old.write_text("text")
    note_files.leave(place_of(str(old)), b"one")
    monkeypatch.setattr(note_files, "leave", full)
    with caplog.at_level(logging.WARNING):
        await manager.rename("shared/old.txt", "shared/new.txt")
    assert (tmp_path / "shared" / "new.txt").read_text() == "text"
    assert "No space left" in caplog.text
    assert note_files.read_all(place_of(str(old))) == {".teleportal": b"one"}
