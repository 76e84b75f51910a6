"""The ids and paths of one share's documents."""

from __future__ import annotations

import pytest

from jupyter_teleportal.core.document_ids import FileIds


def test_every_server_names_a_document_alike() -> None:
    assert FileIds("team").index("a.ipynb") == FileIds("team").index("a.ipynb")
    assert FileIds("team").index("a.ipynb") != FileIds("other").index("a.ipynb")
    assert FileIds("team").index("a.ipynb") != FileIds("team").index("b.ipynb")


def test_a_renamed_document_keeps_its_id_and_its_old_path_is_free() -> None:
    ids = FileIds("team")
    before = ids.index("old.ipynb")
    files, paths = ids.moved("old.ipynb", "new.ipynb")
    assert ids.id_at("new.ipynb") == before
    assert ids.path_of(before) == "new.ipynb"
    assert ids.id_at("old.ipynb") != before
    assert files["new.ipynb"] == before
    assert paths == {before: "new.ipynb"}


def test_renamed_there_and_back() -> None:
    ids = FileIds("team")
    before = ids.index("a")
    ids.moved("a", "b")
    assert ids.path_of(before) == "b"
    ids.moved("b", "a")
    assert ids.id_at("a") == before
    assert ids.path_of(before) == "a"
    assert ids.id_at("b") != before


def test_a_folder_takes_its_documents_along_and_no_neighbours() -> None:
    ids = FileIds("team")
    inside, beside = ids.index("folder/a"), ids.index("folder2/a")
    ids.moved("folder", "else/where")
    assert ids.path_of(inside) == "else/where/a"
    assert ids.path_of(beside) == "folder2/a"


def test_a_new_file_where_one_was_deleted_is_a_new_document() -> None:
    ids = FileIds("team")
    before = ids.index("a")
    _, paths = ids.deleted("a")
    assert paths == {before: None}
    assert ids.path_of(before) is None
    assert ids.index("a") != before


def test_what_another_server_says_is_taken_over() -> None:
    here, there = FileIds("team"), FileIds("team")
    there.index("a")
    here.update(*there.moved("a", "b"))
    assert here.id_at("b") == there.id_at("b")
    assert here.id_at("a") == there.id_at("a")


def test_what_was_deleted_and_made_again_during_an_absence() -> None:
    here, there = FileIds("team"), FileIds("team")
    before, kept = here.index("a"), here.index("kept")
    there.index("a")
    there.index("kept")
    there.deleted("a")
    there.index("a")
    ended = here.ended(there.exceptions, there.paths)
    assert ended == [before]
    files, paths, claims = here.split(
        dict(there.exceptions), {**there.paths, **dict.fromkeys(ended)}
    )
    here.update(files, paths)
    assert here.path_of(kept) == "kept"
    (claim,) = claims
    assert (claim.file_id, claim.old, claim.new) == (before, "a", None)
    here.update(claim.files, {before: None, **claim.paths})
    assert here.id_at("a") == there.id_at("a")
    assert here.path_of(here.id_at("a")) == "a"


def test_what_contradicts_what_is_known_is_a_claim() -> None:
    ids = FileIds("team")
    a, b = ids.index("a"), ids.index("b")
    files, paths, claims = ids.split({"b": a, "a": "x", "new": "y"}, {a: "b", "y": "new"})
    assert (files, paths) == ({"new": "y"}, {"y": "new"})
    told = {(claim.file_id, claim.old, claim.new) for claim in claims}
    assert told == {(a, "a", "b"), (b, "b", None)}


def test_an_id_that_nobody_knows_takes_no_known_documents_path() -> None:
    ids = FileIds("team")
    a = ids.index("a")
    files, paths, (claim,) = ids.split({"a": "x"}, {"x": "a"})
    assert not files
    assert not paths
    assert (claim.file_id, claim.new, claim.files, claim.paths) == (a, None, {"a": "x"}, {"x": "a"})


@pytest.mark.parametrize("new", ["new", None])
def test_documents_that_others_have_opened_go_along(new: str | None) -> None:
    ids = FileIds("team")
    files, paths = ids.follow({"one": "folder/a"}, "folder", new)
    assert paths == {"one": new and "new/a"}
    assert ids.path_of("one") == (new and "new/a")
    assert ids.id_at("folder/a") == files["folder/a"] != "one"
    assert files.get("new/a") == (new and "one")


@pytest.mark.parametrize("known", [["a/x", "a/b/x"], ["a/b/x", "a/x"]])
def test_a_folder_that_is_moved_into_one_of_its_own_name(known: list[str]) -> None:
    """Where one of its documents was, another one is then."""
    there = {path: f"id-of-{path.replace('/', '-')}" for path in known}
    here, learned = FileIds("team"), FileIds("team")
    here.update(dict(there), {file_id: path for path, file_id in there.items()})
    files, paths = here.moved("a", "a/b")
    assert paths == {"id-of-a-x": "a/b/x", "id-of-a-b-x": "a/b/b/x"}
    assert here.id_at("a/b/x") == files["a/b/x"] == "id-of-a-x"
    documents = {file_id: path for path, file_id in there.items()}
    assert learned.follow(documents, "a", "a/b")[0]["a/b/x"] == "id-of-a-x"
