"""Files that are replaced whole, or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_teleportal.core.errors import SaveFailed
from jupyter_teleportal.files import note_files, whole_files
from jupyter_teleportal.files.open_folders import place_of
from jupyter_teleportal.files.whole_files import finish, reading_whole, writing


def write(path: Path, text: str, meanwhile: Callable[[], object]) -> None:
    with writing(str(path)) as file:
        file.write(text)
        meanwhile()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nobody_sees_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with writing(str(path)) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write(path, "ne", lambda: 1 / 0)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("how", ["written", "replaced", "deleted", "made"])
def test_whoever_was_frozen_while_writing_does_not_wipe_out_what_came_meanwhile(
    tmp_path: Path, how: str
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    if how != "made":
        path.write_text("old")

    def meanwhile() -> None:
        if how == "deleted":
            path.unlink()
        elif how == "replaced":
            other.write_text("by its successor")
            os.replace(other, path)
        else:
            path.write_text("by its successor")

    with pytest.raises(SaveFailed, match="very moment"):
        write(path, "by the frozen one", meanwhile)
    assert names(tmp_path) == ([] if how == "deleted" else ["file"])
    assert how == "deleted" or path.read_text() == "by its successor"


def test_mode_and_links_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with writing(str(link), text=False) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_with_two_names_keeps_both(tmp_path: Path) -> None:
    path, second = tmp_path / "file", tmp_path / "second name"
    path.write_text("the old text")
    os.link(path, second)
    write(path, "the new", lambda: None)
    assert path.read_text() == second.read_text() == "the new"
    assert path.samefile(second)
    assert names(tmp_path) == ["file", "second name"]


@pytest.mark.parametrize("names_of_it", [1, 2])
def test_a_folder_in_the_place_of_the_spare_hinders_no_save(
    tmp_path: Path, names_of_it: int
) -> None:
    path, spare = tmp_path / "file", tmp_path / ".~file"
    path.write_text("the old text")
    if names_of_it == 2:
        os.link(path, tmp_path / "second name")
    (spare / "inside").mkdir(parents=True)
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else None
    write(path, "the new", lambda: None)
    assert path.read_text() == "the new"
    with reading_whole(place_of(str(path))) as file:
        assert file.read() == b"the new"
    assert not finish(place_of(str(path)))
    assert names(spare) == ["inside"]
    assert names(tmp_path) == [".~file", "file", "second name"][: names_of_it + 1]
    assert before is None or len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("taken", [False, True], ids=["", "its-name-is-taken"])
def test_what_can_neither_be_written_nor_put_back_stays_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    path = tmp_path / "file"
    path.write_text("the old text")
    os.link(path, tmp_path / "second name")
    (tmp_path / ".~file").mkdir()
    if taken:
        (tmp_path / f".file.{os.geteuid()}.new").mkdir()

    def put(descriptor: int, content: bytes) -> None:
        os.ftruncate(descriptor, 0)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files, "_put", put)
    with pytest.raises(OSError, match="No space left"):
        write(path, "the new", lambda: None)
    kept = [each.read_text() for each in tmp_path.glob(".file.*.new") if each.is_file()]
    assert (path.read_text(), kept) == ("", ["the new"])


def test_attempts_that_fail_leave_one_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("the old text")
    os.link(path, tmp_path / "second name")
    (tmp_path / ".~file").mkdir()

    def put(descriptor: int, content: bytes) -> None:
        os.ftruncate(descriptor, 0)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole_files, "_put", put)
        for number in range(3):
            with pytest.raises(OSError, match="No space left"):
                write(path, f"the new {number}", lambda: None)
            kept = [each.read_text() for each in tmp_path.glob(".file.*.new")]
            assert kept == [f"the new {number}"]
    write(path, "the newest", lambda: None)
    assert path.read_text() == "the newest"
    assert names(tmp_path) == [".~file", "file", "second name"]


@pytest.mark.parametrize("spare", [True, False], ids=["spare", "folder-in-its-place"])
def test_the_only_whole_copy_is_not_thrown_away_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: bool
) -> None:
    """Of an empty file, what is there can be put back."""
    path = tmp_path / "file"
    path.write_text("the old text")
    os.link(path, tmp_path / "second name")
    if not spare:
        (tmp_path / ".~file").mkdir()

    def put(descriptor: int, content: bytes) -> None:
        os.ftruncate(descriptor, 0)
        if content:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole_files, "_put", put)
        for number in range(3):
            with pytest.raises(OSError, match="No space left"):
                write(path, f"the new {number}", lambda: None)
            beside = tmp_path.glob(".~file" if spare else ".file.*.new")
            assert [each.read_text() for each in beside] == [f"the new {number}"]
    write(path, "the newest", lambda: None)
    assert path.read_text() == "the newest"
    assert names(tmp_path) == [*([] if spare else [".~file"]), "file", "second name"]


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe, path, spare = tmp_path / "pipe", tmp_path / "file", tmp_path / ".~file"
    os.mkfifo(pipe)
    path.write_text("text")
    os.mkfifo(spare)
    refused = []

    def try_all() -> None:
        for do in (
            lambda: write(pipe, "new", lambda: None),
            lambda: whole_files.writing_in_place(place_of(str(pipe))).__enter__(),
            lambda: note_files.leave(place_of(str(pipe)), b"note"),
            lambda: reading_whole(place_of(str(pipe))).__enter__(),
        ):
            try:
                do()
            except OSError as error:
                refused.append(error.strerror)
        write(path, "new", lambda: None)

    thread = threading.Thread(target=try_all, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert refused == ["not a regular file"] * 4
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file", "pipe"]


WITHOUT = """
import importlib, os, pkgutil, sys

class Missing:
    def find_spec(self, name, *rest):
        if name in ("pwd", "grp", "fcntl", "resource", "termios"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
for name in ("pwd", "grp", "fcntl", "resource", "termios"):
    sys.modules.pop(name, None)
import jupyter_teleportal.files as files
for module in pkgutil.iter_modules(files.__path__):
    importlib.import_module(f"{files.__name__}.{module.name}")
from jupyter_teleportal.files import file_access, whole_files
assert file_access._groups_of(os.getuid()) is None
for name in ("fchown", "fchmod", "listxattr", "setxattr", "getxattr", "removexattr", "pwrite"):
    delattr(os, name)
for _ in range(2):
    with whole_files.writing(sys.argv[1]) as file:
        file.write("new")
    os.link(sys.argv[1], sys.argv[1] + " 2")
    with whole_files.writing_in_place(whole_files.place_of(sys.argv[1])) as file:
        file.write("newer")
    os.unlink(sys.argv[1] + " 2")
"""


def test_files_need_nothing_that_windows_lacks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == "newer"
