"""A link put in the way after a file was found leads nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_teleportal.core.errors import LeavesShare
from jupyter_teleportal.core.shares import SharedPath, Shares
from jupyter_teleportal.files.open_folders import (
    NAME_MAX_BYTES,
    Place,
    name_beside,
    place_within,
    reading,
)
from jupyter_teleportal.files.share_folders import ShareFolders, working_for
from jupyter_teleportal.files.whole_files import writing, writing_in_place


def write_whole(place: Place) -> None:
    with writing(place) as file:
        file.write("written")


def write_in_place(place: Place) -> None:
    with writing_in_place(place) as file:
        file.write("written")


def read(place: Place) -> None:
    with reading(place) as file:
        assert file.read() != b"secret"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "file").write_text("secret")
    return folder


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "file").write_text("shown")
    return folder


@pytest.mark.parametrize("do", [write_whole, write_in_place, read])
@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_swapped_between_finding_and_doing(
    share: Path, private: Path, do: Callable[[Place], None], swapped: str
) -> None:
    place = place_within(str(share), str(share / "folder" / "file"))
    assert place is not None
    if swapped == "file":
        (share / "folder" / "file").unlink()
        (share / "folder" / "file").symlink_to(private / "file")
    else:
        (share / "folder").rename(share / "before")
        (share / "folder").symlink_to(private)
    with pytest.raises(LeavesShare):
        do(place)
    assert (private / "file").read_text() == "secret"
    assert os.listdir(private) == ["file"]


@pytest.mark.parametrize("write", [writing, writing_in_place])
def test_swapped_while_it_is_written(
    share: Path, private: Path, write: Callable[..., object]
) -> None:
    place = place_within(str(share), str(share / "folder" / "file"))
    with write(place) as file:
        (share / "folder").rename(share / "before")
        (share / "folder").symlink_to(private)
        file.write("written")
    assert (private / "file").read_text() == "secret"
    assert os.listdir(private) == ["file"]
    assert (share / "before" / "file").read_text() == "written"


def test_a_pipe_stops_nobody(share: Path) -> None:
    os.mkfifo(share / "pipe")
    place = place_within(str(share), str(share / "pipe"))
    assert place is not None
    with pytest.raises(OSError, match="regular"):
        read(place)


def test_what_could_not_be_written_in_place_is_put_back(share: Path) -> None:
    place = place_within(str(share), str(share / "folder" / "file"))
    assert place is not None

    def half(place: Place) -> None:
        with writing_in_place(place) as file:
            file.write("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        half(place)
    assert (share / "folder" / "file").read_text() == "shown"
    with writing_in_place(place) as file:
        file.write("new")
    assert (share / "folder" / "file").read_text() == "new"
    assert os.listdir(share / "folder") == ["file"]


def test_whose_file_it_is_follows_from_where_it_really_is(tmp_path: Path, private: Path) -> None:
    outer = tmp_path / "root" / "outer"
    (outer / "inner").mkdir(parents=True)
    (outer / "inner" / "file").write_text("x")
    (outer / "link").symlink_to("inner")
    (outer / "within").symlink_to("data")
    (outer / "away").symlink_to(private)
    (outer / "dangling").symlink_to(private / "new")
    shares = Shares({"outer": "o", "outer/inner": "i"})
    root = tmp_path / "root"
    folders = ShareFolders(shares, str(root), lambda path: str(root / path))
    assert folders.holds(SharedPath("o", "new/file"))
    assert folders.holds(SharedPath("o", "within/file"))
    assert folders.holds(SharedPath("i", "file"))
    for path in ("link/file", "away/file", "dangling", "inner/file"):
        assert not folders.holds(SharedPath("o", path)), path
    # Who may write into one share cannot move another that lies in it.
    (outer / "inner").rename(outer / "before")
    (outer / "inner").symlink_to(private)
    assert not folders.holds(SharedPath("i", "file"))


def test_for_a_room_only_its_own_share_is_found(tmp_path: Path) -> None:
    for name in ("one", "two", "own"):
        (tmp_path / name).mkdir()
    shares = Shares({"one": "1", "two": "2"})
    folders = ShareFolders(shares, str(tmp_path), lambda path: str(tmp_path / path))
    assert folders.find(str(tmp_path / "own" / "file")) is None
    assert folders.find(str(tmp_path / "two" / "file")) is not None
    with working_for("1"):
        assert folders.find(str(tmp_path / "one" / "file")) is not None
        for other in ("own", "two"):
            with pytest.raises(LeavesShare):
                folders.find(str(tmp_path / other / "file"))


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "n" * 242])
def test_a_name_beside_a_long_one_fits(name: str) -> None:
    beside = name_beside(name, ".", ".teleportal")
    assert len(beside.encode()) <= NAME_MAX_BYTES
    assert beside.endswith(".teleportal")
    assert beside == name_beside(name, ".", ".teleportal")
    assert beside != name_beside(name[:-1] + "y", ".", ".teleportal") or len(name) < 244
    assert name_beside("short", ".", ".teleportal") == ".short.teleportal"


def test_a_file_with_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with writing(str(path)) as file:
        file.write("x")
    assert path.read_text() == "x"
