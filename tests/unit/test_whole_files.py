"""Files that are replaced whole, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_teleportal.core.errors import SaveFailed
from jupyter_teleportal.files.whole_files import writing


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
