"""Notes beside a file: none is written over another, and no more is read than notes may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_teleportal.core.errors import LeavesShare
from jupyter_teleportal.files.note_files import NAMES, NOTES_MAX, leave, read_all, remove
from jupyter_teleportal.files.open_folders import place_of


def test_each_note_is_a_file_of_its_own(tmp_path: Path) -> None:
    file = place_of(str(tmp_path / "plan.ipynb"))
    assert read_all(file) == {}
    first, second = leave(file, b"of one"), leave(file, b"of another")
    assert read_all(file) == {first: b"of one", second: b"of another"}
    assert (tmp_path / ".plan.ipynb.teleportal").read_bytes() == b"of one"
    remove(file, first)
    remove(file, first)
    assert read_all(file) == {second: b"of another"}
    assert leave(file, b"of a third") == first
    assert len(list(tmp_path.iterdir())) == 2


def test_there_are_not_many(tmp_path: Path) -> None:
    file = place_of(str(tmp_path / "plan.ipynb"))
    for number in range(NOTES_MAX):
        leave(file, b"%d" % number)
    with pytest.raises(OSError, match="8 notes already"):
        leave(file, b"one more")
    assert list(read_all(file).values()) == [b"%d" % number for number in range(NOTES_MAX)]


def test_the_notes_of_two_files_are_not_mixed(tmp_path: Path) -> None:
    names = {f".{stem}{name}" for stem in ("a", "a.2", "a.teleportal", "a-2") for name in NAMES}
    assert len(names) == 4 * NOTES_MAX
    long = place_of(str(tmp_path / ("x" * 255)))
    left = {leave(long, b"%d" % number): b"%d" % number for number in range(NOTES_MAX)}
    assert read_all(long) == left


def test_one_that_cannot_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        leave(place_of(str(tmp_path / "plan.ipynb")), b"note")
    assert not list(tmp_path.iterdir())


def test_one_that_is_about_to_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / ".plan.ipynb.teleportal").touch()
    file = place_of(str(tmp_path / "plan.ipynb"))
    assert read_all(file) == {}
    assert leave(file, b"note") == NAMES[1]


def test_no_more_is_read_than_all_notes_may_have(tmp_path: Path) -> None:
    """And one that cannot be read hides no other."""
    file = place_of(str(tmp_path / "plan.ipynb"))
    first, second, third = (leave(file, note) for note in (b"first", b"second", b"third"))
    os.truncate(tmp_path / f".plan.ipynb{second}", 3 * 2**30)  # of which nothing is on the disk
    found = read_all(file)
    assert found[first] == b"first"
    assert found[third] == b"third"
    with pytest.raises(OSError, match="have no more than"):
        raise found[second]  # type: ignore[misc]


def test_a_link_is_no_note(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / ".plan.ipynb.teleportal").symlink_to(secret)
    file = place_of(str(tmp_path / "plan.ipynb"))
    name = leave(file, b"note")
    assert isinstance(read_all(file)[NAMES[0]], LeavesShare)
    assert read_all(file)[name] == b"note"
    assert secret.read_bytes() == b"secret"
