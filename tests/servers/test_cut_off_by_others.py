"""Other programs leave files empty: they died while they wrote, or meant it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess


def emptied(path: Path) -> None:
    """Another program empties the file. Some file systems keep times coarsely."""
    path.write_text("")
    later = path.stat().st_mtime + 1
    os.utime(path, (later, later))


@pytest.mark.parametrize(
    ("name", "beside"),
    [("left.ipynb", True), ("left.txt", True), ("left.ipynb", False)],
    ids=["notebook-beside-it", "text-beside-it", "notebook-nowhere"],
)
async def test_what_a_program_left_empty_is_whole_again_without_an_edit(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path, name: str, beside: bool
):
    """A Jupyter server without this extension that dies while it saves leaves the file empty, and
    what it held lies beside it. Another program may leave nothing; no notebook is empty."""
    path = shared_folder / name
    if name.endswith(".ipynb"):
        write_notebook(path, ["start"])
        kind = ("json", "notebook")
    else:
        path.write_text("start")
        kind = ("text", "file")
    a, b = servers
    session = await a.session(name, *kind)
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write(" and an edit")
        assert (await ann.save(timeout=5))["status"] in ("success", "skipped")
        whole = path.read_text()
        if beside:
            shutil.copy2(path, path.with_name(f".~{name}"))
        emptied(path)
        await until(lambda: path.read_text() == whole, timeout=20, what="the whole file")
        assert not path.with_name(f".~{name}").exists()
        await equal([ann, bob])
        ann.write("!")
        await until(lambda: "edit!" in path.read_text(), what="the next edit")
    assert not any("conflict" in left for left in os.listdir(shared_folder))


async def test_a_text_file_that_a_program_empties_is_empty(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "log.txt"
    path.write_text("start")
    a, b = servers
    session = await a.session("log.txt", "text", "file")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write(" and an edit")
        assert (await ann.save(timeout=5))["status"] in ("success", "skipped")
        emptied(path)
        await until(lambda: ann.text == bob.text == "", what="the change on both")
        assert path.read_text() == ""


async def test_a_notebook_that_a_shell_has_emptied_is_what_its_command_writes_in_the_end(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path, tmp_path: Path
):
    """As of ``jupyter nbconvert --execute --stdout one.ipynb > other.ipynb``."""
    path, new = shared_folder / "written.ipynb", tmp_path / "new.ipynb"
    write_notebook(path, ["start"])
    write_notebook(new, ["by the command"])
    a, b = servers
    session = await a.session(path.name, "json", "notebook")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        await equal([ann, bob])
        with path.open("w") as out:
            command = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=out)
        later = path.stat().st_mtime + 1
        os.utime(path, (later, later))
        await holds(lambda: not path.stat().st_size, seconds=14)
        await command.communicate(new.read_bytes())
        await until(lambda: ann.text == bob.text == "by the command", what="what it has written")
        assert "by the command" in path.read_text()
