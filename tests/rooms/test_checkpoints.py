"""Jupyter's checkpoints of shared notebooks: nothing fails for want of one, and all share them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.contents.largefilemanager import (
    AsyncLargeFileManager,
    LargeFileManager,
)
from nbformat.v4 import new_code_cell, new_notebook
from support.accounts import ANN, BOB, Account, group_folder, needs_accounts, open_to_accounts
from tornado.web import HTTPError
from traitlets.config import Config

from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.files.share_folders import folders_of
from jupyter_teleportal.jupyter.contents_files import take_over_files

LOG = logging.getLogger("test")
KINDS = pytest.mark.parametrize("kind", [AsyncLargeFileManager, LargeFileManager])


class Files:
    """What a server does to files in the folder."""

    def __init__(self, kind: type[Any], folder: Path) -> None:
        # Where the account may write, and nobody looks.
        notary = {"data_dir": tempfile.mkdtemp(), "db_file": ":memory:"}
        self.manager = kind(root_dir=str(folder), config=Config(NotebookNotary=notary))
        take_over_files(self.manager, folders_of(self.manager, Shares({"shared": "team"})), LOG)

    def do(self, name: str, *arguments: Any) -> Any:
        done = getattr(self.manager, name)(*arguments)
        return asyncio.run(done) if inspect.isawaitable(done) else done

    def save(self, path: str, text: str) -> None:
        content = new_notebook(cells=[new_code_cell(text)])
        self.do("save", {"type": "notebook", "format": "json", "content": content}, path)


@KINDS
def test_a_notebook_is_saved_renamed_and_deleted_where_it_can_have_no_checkpoint(
    tmp_path: Path, kind: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shared", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".ipynb_checkpoints").write_text("in the way")
    files = Files(kind, tmp_path)
    files.save("shared/book.ipynb", "one")
    files.save("shared/book.ipynb", "two")
    assert "two" in (tmp_path / "shared" / "book.ipynb").read_text()
    assert caplog.text.count("shared/book.ipynb: its checkpoint cannot") == 1
    # Whoever asks for one is told the truth.
    with pytest.raises((HTTPError, OSError)):
        files.do("create_checkpoint", "shared/book.ipynb")
    files.do("rename", "shared/book.ipynb", "shared/other.ipynb")
    files.do("delete", "shared/other.ipynb")
    assert os.listdir(tmp_path / "shared") == [".ipynb_checkpoints"]
    # What is not shared is as it was.
    with pytest.raises((HTTPError, OSError)):
        files.save("own/book.ipynb", "one")


@KINDS
def test_checkpoints_go_along_as_ever(tmp_path: Path, kind: type[Any]) -> None:
    (tmp_path / "shared").mkdir()
    files = Files(kind, tmp_path)
    files.save("shared/book.ipynb", "one")
    checkpoints = tmp_path / "shared" / ".ipynb_checkpoints"
    assert os.listdir(checkpoints) == ["book-checkpoint.ipynb"]
    files.do("rename", "shared/book.ipynb", "shared/other.ipynb")
    assert os.listdir(checkpoints) == ["other-checkpoint.ipynb"]
    files.do("delete", "shared/other.ipynb")
    assert os.listdir(checkpoints) == []


@pytest.fixture
def shared() -> Iterator[Path]:
    needs_accounts()
    with open_to_accounts() as folder:
        yield group_folder(folder / "shared")


def saves(account: Account, shared: Path, name: str) -> None:
    account.run(lambda: Files(LargeFileManager, shared.parent).save(f"shared/{name}", "one"))


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_members_share_the_folder_of_checkpoints_whatever_their_umask_is(
    shared: Path, umask: int
) -> None:
    """022 is what most systems have."""
    for account in (ANN, BOB):
        saves(replace(account, umask=umask), shared, f"{account.user}.ipynb")
    checkpoints = shared / ".ipynb_checkpoints"
    assert len(os.listdir(checkpoints)) == 2
    there, around = checkpoints.stat(), shared.stat()
    assert (there.st_gid, there.st_mode) == (around.st_gid, around.st_mode)


def test_a_folder_of_checkpoints_that_was_there_stays_as_it_was(shared: Path) -> None:
    checkpoints = shared / ".ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "old").touch()
    os.chown(checkpoints, ANN.user, ANN.group)
    checkpoints.chmod(0o750)
    for account in (ANN, BOB):
        saves(account, shared, f"{account.user}.ipynb")
        assert (shared / f"{account.user}.ipynb").exists()
    assert checkpoints.stat().st_mode & 0o7777 == 0o750
    assert len(os.listdir(checkpoints)) == 2
