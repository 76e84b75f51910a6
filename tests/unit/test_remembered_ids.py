"""What a server remembers of ids, and what of it stays true when the transport can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.core.document_ids import FileIds
from jupyter_teleportal.files import remembered_ids
from jupyter_teleportal.files.remembered_ids import Memory

PATHS = st.sampled_from(["a", "b", "folder/a", "folder/b"])


def restarted(ids: FileIds) -> FileIds:
    again = FileIds(ids.share)
    again.remember(*ids.remembered())
    return again


@given(st.lists(st.tuples(PATHS, st.one_of(PATHS, st.none()))))
def test_every_path_has_the_same_id_after_a_start(renames: list[tuple[str, str | None]]) -> None:
    ids = FileIds("share")
    for old, new in renames:
        ids.index(old)
        if new is None:
            ids.deleted(old)
        else:
            ids.moved(old, new)
    again = restarted(ids)
    for path in ("a", "b", "folder/a", "folder/b"):
        assert again.id_at(path) == ids.id_at(path)
        assert again.index(path) == ids.index(path)
        assert again.path_of(again.id_at(path)) == ids.path_of(ids.id_at(path))


def test_what_the_transport_confirms_stays() -> None:
    ids = FileIds("share")
    document = ids.index("old")
    files, paths = ids.moved("old", "new")
    again = restarted(ids)
    said = {path: str(i) for path, i in files.items()}
    assert again.give_way(said, {i: str(path) for i, path in paths.items()}) == {}
    assert again.id_at("new") == document
    assert not again.unconfirmed


def test_what_the_transport_does_not_know_any_more_gives_way() -> None:
    """It was emptied, and others have begun anew with what follows from paths."""
    ids = FileIds("share")
    document = ids.index("old")
    ids.moved("old", "new")
    again = restarted(ids)
    begun = FileIds("share").index("new")
    assert again.give_way({}, {}) == {document: begun}
    assert again.id_at("new") == begun
    assert again.path_of(begun) == "new"
    assert again.path_of(document) is None


def test_what_was_opened_under_another_id_gives_way() -> None:
    ids = FileIds("share")
    made_up = ids.index("new")
    ids.unconfirmed.add(made_up)
    assert ids.give_way({"new": "document"}, {}) == {made_up: "document"}
    assert ids.path_of("document") == "new"
    assert ids.path_of(made_up) is None


def test_what_others_have_registered_meanwhile_stays() -> None:
    ids = FileIds("share")
    file_id = ids.index("new")
    ids.unconfirmed.add(file_id)
    assert ids.give_way({}, {file_id: "new"}) == {}
    assert ids.path_of(file_id) == "new"


def memory(folder: Path) -> Memory:
    return Memory(folder / "data", lambda share: f"/shared/{share}")


def test_shares_are_kept_apart(tmp_path: Path) -> None:
    kept = memory(tmp_path)
    assert kept.load("one") == ({}, {}, [])
    kept.save("one", {"new": "id"}, {"id": "new"}, [("old", "new", {}, {})])
    assert memory(tmp_path).load("one") == (
        {"new": "id"},
        {"id": "new"},
        [["old", "new", {}, {}]],
    )
    assert kept.load("two") == ({}, {}, [])
    elsewhere = Memory(tmp_path / "data", lambda share: "/another")
    assert elsewhere.load("one") == ({}, {}, [])


UNREADABLE = [
    b"",
    b"\xff",
    b"[" * 100_000,
    b"[]",
    b'{"version": 2}',
    b'{"version": 1}',
    b'{"version": 1, "files": {}, "paths": {}, "untold": [[]]}',
    b"x" * 200,
]


@pytest.mark.parametrize("raw", UNREADABLE)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_ids, "MOST_BYTES", 150_000 if raw[:1] == b"[" else 150)
    kept = memory(tmp_path)
    kept.save("one", {}, {}, [])
    (path,) = (tmp_path / "data").iterdir()
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=path.name):
        kept.load("one")
    kept.save("one", {"new": "id"}, {}, [])
    assert kept.load("one") == ({"new": "id"}, {}, [])


def test_of_too_much_what_nobody_else_knows_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_ids, "MOST_BYTES", 200)
    kept = memory(tmp_path)
    untold = [("old", "new", {}, {})]
    with pytest.raises(OSError, match="more than 200 bytes"):
        kept.save("one", {f"path {n}": "id" for n in range(100)}, {}, untold)
    assert kept.load("one") == ({}, {}, [list(told) for told in untold])
