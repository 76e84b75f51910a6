"""Which document is in which share."""

from __future__ import annotations

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_teleportal.core.errors import SettingsError
from jupyter_teleportal.core.shares import SharedPath, Shares, clean_path, is_within

parts = st.text("ab.é _", min_size=1, max_size=4).filter(lambda part: part not in (".", ".."))
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
folders = st.dictionaries(
    st.just("") | paths.map(clean_path), st.integers(0, 10_000), max_size=4
).map(lambda named: {folder: f"share{i}" for i, folder in enumerate(named)})


def test_documents_are_located_by_folder() -> None:
    shares = Shares({"shared": "team1", "a/b": "deep"})
    assert shares.locate("shared/x.ipynb") == SharedPath("team1", "x.ipynb")
    assert shares.locate("/shared//sub/./x.ipynb/") == SharedPath("team1", "sub/x.ipynb")
    assert shares.locate("a/b/c.txt") == SharedPath("deep", "c.txt")
    for outside in ("x.ipynb", "shared2/x.ipynb", "a/c.txt", "a", "sharedx", ""):
        assert shares.locate(outside) is None


def test_the_root_is_a_share_like_any_other() -> None:
    assert Shares({"": "default"}).locate("any/where.txt") == SharedPath("default", "any/where.txt")


def test_the_innermost_folder_counts() -> None:
    shares = Shares({"": "all", "a": "outer", "a/b": "inner"})
    assert shares.locate("x") == SharedPath("all", "x")
    assert shares.locate("a/x") == SharedPath("outer", "x")
    assert shares.locate("a/b/x") == SharedPath("inner", "x")
    assert shares.locate("a/bb/x") == SharedPath("outer", "bb/x")


@pytest.mark.parametrize("path", ["shared/../private.txt", "shared/..", "../x", "shared/a/../../x"])
def test_a_path_that_climbs_is_in_no_share(path: str) -> None:
    assert Shares({"shared": "team1"}).locate(path) is None
    assert Shares({"": "default"}).locate(path) is None


@given(folders, paths)
def test_a_located_document_is_found_again_under_its_path(
    folders: dict[str, str], path: str
) -> None:
    shares = Shares(folders)
    located = shares.locate(path)
    inside = [folder for folder in shares.folders if is_within(clean_path(path), folder)]
    assert (located is None) == (not inside)
    if located is not None:
        assert shares.api_path(located) == clean_path(path)
        assert shares.folder(located.share) == max(inside, key=len)


@given(st.text("a/.", max_size=8))
def test_cleaning_a_path_twice_changes_nothing(path: str) -> None:
    clean = clean_path(path)
    assert clean_path(clean) == clean
    assert not clean.startswith("/")
    assert not clean.endswith("/")


def test_only_this_servers_shares_have_a_folder() -> None:
    shares = Shares({"shared": "team1"})
    assert shares.folder("team1") == "shared"
    with pytest.raises(KeyError):
        shares.folder("team2")
    with pytest.raises(KeyError):
        shares.api_path(SharedPath("team2", "x"))


def test_truth_and_iteration() -> None:
    assert not Shares({})
    assert Shares({"": "default"})
    assert list(Shares({"a": "one", "b": "two"})) == ["one", "two"]


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a:b", "a{b}", "a/b", "é", "x" * 65, "a*"])
def test_a_name_that_cannot_be_used_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match="shares: the name"):
        Shares({"folder": name})


@pytest.mark.parametrize("name", ["a", "Team-1", "a.b_c", "0", "x" * 64])
def test_names_that_can_be_used(name: str) -> None:
    assert list(Shares({"folder": name})) == [name]


@pytest.mark.parametrize("folder", ["..", "a/../b", "../a", "a/.."])
def test_a_folder_outside_the_root_is_refused(folder: str) -> None:
    with pytest.raises(SettingsError, match="leaves the server's root"):
        Shares({folder: "name"})


def test_folders_and_names_are_given_once() -> None:
    with pytest.raises(SettingsError, match="twice"):
        Shares({"a": "name", "b": "name"})
    with pytest.raises(SettingsError, match="twice"):
        Shares({"a": "one", "/a/": "two"})


def test_file_ids_follow_from_the_identity_alone() -> None:
    shared = SharedPath("team1", "x.ipynb")
    # Never to change: replicas of different versions have to agree.
    assert shared.default_file_id() == "30c7e005-9d5c-58aa-8017-386dfaadce56"
    assert uuid.UUID(shared.default_file_id()).version == 5
    others = {SharedPath("team2", "x.ipynb"), SharedPath("team1", "y.ipynb"), shared}
    assert len({other.default_file_id() for other in others}) == 3


def test_names_are_compared_as_they_are_and_never_made_one() -> None:
    """A folder may hold both files: as one document, one would be written over the other."""
    shares = Shares({"shared": "team1"})
    composed, decomposed = (unicodedata.normalize(form, "shared/é") for form in ("NFC", "NFD"))
    located = [shares.locate(composed), shares.locate(decomposed)]
    assert [shared and shares.api_path(shared) for shared in located] == [composed, decomposed]
    assert len({shared and shared.default_file_id() for shared in located}) == 2


def test_a_share_owns_what_lies_in_no_share_in_it() -> None:
    shares = Shares({"": "all", "a": "outer", "a/b": "inner", "c": "other"})
    paths = [
        "x",
        "a",
        "ab",
        "a/x",
        "a/b",
        "a/b/x",
        "a/bc",
        "b",
        "b/x",
        "b/b/x",
        "c/x",
        "bc",
        "d/a/b",
    ]
    for name in shares:
        for path in paths:
            identity = SharedPath(name, path)
            expected = shares.locate(shares.api_path(identity)) == identity
            assert shares.owns(name, path) is expected, (name, path)
