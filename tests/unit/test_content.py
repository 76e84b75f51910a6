"""Content as plain values: seeds, digests, edits and merges."""

from __future__ import annotations

import copy
import random
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jupyter_ydoc import YNotebook
from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Decoder, Doc, Text

from jupyter_teleportal.core import text_changes
from jupyter_teleportal.core.content import apply_content, digest, make_document, seed
from jupyter_teleportal.core.merging import merge


def cell(source: str, cell_id: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if cell_id is None else {"id": cell_id}
    made = {"cell_type": "code", "source": source, "metadata": {}, **named, **more}
    if made["cell_type"] == "code":
        made = {"execution_count": None, "outputs": [], **made}
    return made


def notebook(*cells: dict[str, Any], minor: int = 5, **metadata: Any) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": minor}


def shuffled_keys(value: Any, randomness: random.Random) -> Any:
    """The same value with the keys of all its dictionaries in another order."""
    if isinstance(value, dict):
        keys = list(value)
        randomness.shuffle(keys)
        return {key: shuffled_keys(value[key], randomness) for key in keys}
    if isinstance(value, list):
        return [shuffled_keys(item, randomness) for item in value]
    return value


def clocks(doc: Doc) -> dict[int, int]:
    """The state vector: how many items of which clients."""
    decoder = Decoder(doc.get_state())
    return {
        decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())
    }


def document_from(update: bytes) -> Doc:
    doc = Doc()
    doc.apply_update(update)
    return doc


def sources(content: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in content["cells"]]


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40)
tricky = st.text(st.sampled_from("ab \n_é\u0301e👩\u200d🔬🇩🇪\U0001f469\u0300漢x."), max_size=60)
plain = words | tricky
cells = st.builds(
    cell,
    plain,
    cell_type=st.sampled_from(["code", "markdown", "raw"]),
    metadata=st.dictionaries(
        st.sampled_from("abc"), st.integers(-(2**53), 2**53) | st.text("xy"), max_size=3
    ),
)
notebooks = st.builds(
    lambda cells, minor, metadata: notebook(*cells, minor=minor, **metadata),
    st.lists(cells, max_size=5),
    st.sampled_from([4, 5]),
    st.dictionaries(st.sampled_from(["kernelspec", "x", "y"]), st.text("pq"), max_size=3),
)
OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]}
RICH = notebook(
    cell("print(1)", outputs=[OUTPUT], execution_count=3),
    cell("# title", cell_type="markdown", attachments={"a.png": {"image/png": "aGk="}}),
    minor=4,
    kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
)


# -- digests and seeds ---------------------------------------------------------------------


@given(notebooks, st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_the_order_of_keys(
    content: dict[str, Any], randomness: random.Random
) -> None:
    assert digest(shuffled_keys(content, randomness)) == digest(content)
    assert digest(content) != digest({**content, "nbformat_minor": 3})


@settings(max_examples=60)
@given(notebooks, st.randoms(use_true_random=False))
@example(notebook(), random.Random(1))
@example(notebook(minor=4), random.Random(1))
@example(RICH, random.Random(1))
def test_two_seeds_of_one_notebook_are_one_document(
    content: dict[str, Any], randomness: random.Random
) -> None:
    before = copy.deepcopy(content)
    one = seed("notebook", content)
    two = seed("notebook", shuffled_keys(content, randomness))
    assert content == before
    assert one.lineage == two.lineage
    first, second = document_from(one.update), document_from(two.update)
    assert clocks(first) == clocks(second)
    # Applying the other seed as well, in either order, changes nothing.
    first.apply_update(two.update)
    second.apply_update(one.update)
    documents = [YNotebook(first), YNotebook(second)]
    assert documents[0].get() == documents[1].get() == seed("notebook", content).content
    assert clocks(first) == clocks(second)
    # And what is edited on one side reaches the other whole.
    for ycell in documents[0].ycells:
        ycell["source"] += "edited"
    second.apply_update(first.get_update(second.get_state()))
    assert sources(documents[1].get()) == sources(documents[0].get())


@given(plain)
def test_two_seeds_of_one_text_are_one_document(content: str) -> None:
    one, two = seed("file", content), seed("file", content)
    assert one == two
    document = make_document("file")
    document.ydoc.apply_update(one.update)
    document.ydoc.apply_update(two.update)
    assert document.get() == content


@given(notebooks, notebooks)
def test_different_contents_never_share_a_client_id(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    if digest(one) == digest(other):
        return
    seeds = [seed("notebook", content) for content in (one, other)]
    assert seeds[0].lineage != seeds[1].lineage
    clients = [set(clocks(document_from(made.update))) for made in seeds]
    assert not clients[0] & clients[1]
    assert all(0 < client < 2**53 for both in clients for client in both)


def test_types_of_one_content_never_share_a_client_id() -> None:
    made = [seed(file_type, "text") for file_type in ("file", "unknown type")]
    assert made[0].lineage != made[1].lineage


@pytest.mark.parametrize("minor", [4, 5])
def test_a_seeded_notebook_is_the_file(minor: int) -> None:
    content = {**RICH, "nbformat_minor": minor}
    seeded = seed("notebook", content).content
    assert sources(seeded) == sources(content)
    assert seeded["metadata"]["kernelspec"] == content["metadata"]["kernelspec"]
    assert seeded["cells"][0]["outputs"][0]["output_type"] == "stream"
    assert all(("id" in each) == (minor == 5) for each in seeded["cells"])


def test_an_empty_notebook_gets_the_same_empty_cell_everywhere() -> None:
    one, two = (seed("notebook", notebook()).content for _ in range(2))
    assert one == two
    assert sources(one) == [""]


# -- edits ---------------------------------------------------------------------------------


def document_with(file_type: str, content: Any) -> YBaseDoc:
    document = make_document(file_type)
    document.ydoc.apply_update(seed(file_type, content).update)
    return document


@settings(max_examples=300)
@given(plain, plain)
@example("a👩\u200d🔬b", "a👩\u200d🔬👩\u200d🔬b")
@example("e\u0301tude", "étude")
@example("", "🇩🇪")
def test_applying_a_text_gives_that_text(before: str, after: str) -> None:
    document = document_with("file", before)
    apply_content(document, after)
    assert document.get() == after


@settings(max_examples=150)
@given(plain, st.integers(0), plain)
def test_a_small_edit_leaves_the_rest_in_place(text: str, place: int, added: str) -> None:
    place %= len(text) + 1
    document = document_with("file", text)
    changes: list[dict[str, Any]] = []
    document.ydoc.get("source", type=Text).observe(lambda event: changes.extend(event.delta))
    apply_content(document, text[:place] + added + text[place:])
    inserted = sum(len(change["insert"]) for change in changes if "insert" in change)
    deleted = sum(change["delete"] for change in changes if "delete" in change)
    # Words are replaced whole.
    longest = max(map(len, (text + added).split()), default=0)
    assert deleted <= 4 * 2 * longest
    assert inserted <= len(added) + 2 * longest


def test_a_long_text_is_edited_line_by_line_and_quickly() -> None:
    lines = [f"line {number} with some words\n" for number in range(10_000)]
    document = document_with("file", "".join(lines))
    state = document.ydoc.get_state()
    lines[5000] = "another line 👩\u200d🔬\n"
    del lines[10]
    apply_content(document, "".join(lines))
    assert document.get() == "".join(lines)
    assert len(document.ydoc.get_update(state)) < 1000


def test_an_edit_is_one_transaction_and_an_equal_content_none() -> None:
    for file_type, before, after in (
        ("file", "a b c d", "a x c y"),
        ("notebook", notebook(cell("a", "1"), cell("b", "2")), notebook(cell("x", "1"))),
    ):
        document = document_with(file_type, before)
        updates: list[bytes] = []
        document.ydoc.observe(lambda event, updates=updates: updates.append(event.update))
        apply_content(document, copy.deepcopy(document.get()))
        assert [update for update in updates if update != b"\0\0"] == []
        apply_content(document, after)
        assert len([update for update in updates if update != b"\0\0"]) == 1


@settings(max_examples=60)
@given(notebooks, notebooks)
def test_applying_a_notebook_gives_that_notebook(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    document = document_with("notebook", before)
    wanted = seed("notebook", after).content
    apply_content(document, copy.deepcopy(wanted))
    assert document.get() == wanted


def test_a_cell_that_stays_keeps_its_identity() -> None:
    document = document_with("notebook", notebook(cell("one two", "1"), cell("three", "2")))
    state = document.ydoc.get_state()
    kept = document.ycells[0]["source"]
    position = kept.sticky_index(4)
    apply_content(document, notebook(cell("zero one two", "1"), cell("new", "3")))
    assert sources(document.get()) == ["zero one two", "new"]
    with document.ydoc.transaction():
        assert position.get_index() == len("zero one ")
    assert len(document.ydoc.get_update(state)) < 500


def test_a_notebook_without_ids_takes_those_of_its_cells() -> None:
    document = document_with("notebook", notebook(cell("a", "1"), cell("b", "2"), cell("c", "3")))
    after = notebook(cell("a"), cell("new"), cell("b"), cell("c"))
    apply_content(document, after)
    ids = [each["id"] for each in document.get()["cells"]]
    assert [ids[0], *ids[2:]] == ["1", "2", "3"]
    assert ids[1] not in ("1", "2", "3")


# -- merges --------------------------------------------------------------------------------


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


def with_insertions(base: list[str], name: str, places: list[int]) -> list[str]:
    """`base` with `name`0, `name`1 … before the words at `places`."""
    inserted = list(base)
    for number, place in sorted(enumerate(places), key=lambda pair: -pair[1]):
        inserted.insert(place % (len(base) + 1), f"{name}{number}")
    return inserted


unique_words = st.lists(st.sampled_from(["été", "👩\u200d🔬", "x", "y", "z", "漢字"]), unique=True)
places = st.lists(st.integers(0, 6), max_size=3)


@settings(max_examples=150)
@given(unique_words, places, places)
def test_merging_texts_keeps_what_both_sides_inserted(
    base: list[str], mine: list[int], yours: list[int]
) -> None:
    # One word a line, so that the words themselves are the pieces that are compared.
    ours, theirs = with_insertions(base, "o", mine), with_insertions(base, "t", yours)
    merged = merge("file", *("\n".join(side) for side in (base, ours, theirs))).split("\n")
    text = "".join(merged)
    for word in {*base, *ours, *theirs}:
        assert word in text


def test_merging_texts_keeps_deletions_and_both_versions_of_a_word() -> None:
    assert merge("file", "a b c", "a c", "a b c d") == "a c d"
    both = merge("file", "one word", "one mine", "one yours")
    assert "mine" in both
    assert "yours" in both
    assert "word" not in both


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("x", "x unsaved", "x unsaved and more", "x unsaved and more"),
        ("x\n", "x\none\ntwo\n", "x\none\n", "x\none\ntwo\n"),
        ("x\n", "x\none\ntwo\n", "x\none\nthree\n", "x\none\nthree\ntwo\n"),
        ("x\ny\n", "x\nnew\ny\n", "x\nnew\ny\nlast\n", "x\nnew\ny\nlast\n"),
        ("a\nb\nc\n", "a\nc\nd\n", "a\nc\nd\ne\n", "a\nc\nd\ne\n"),
        # What one has deleted the other has not.
        ("a b", "a", "a b c", "a c"),
        ("a\nb\n", "a\n", "a\nb\nc\n", "a\nc\n"),
        # Neither has made the other's.
        ("\n", "one\n\n", "two\n\n", "two\none\n\n"),
    ],
)
def test_what_both_sides_did_to_a_text_is_done_once(
    base: str, ours: str, theirs: str, merged: str
) -> None:
    of_cells = [notebook(cell(source, "1")) for source in (base, ours, theirs)]
    found = [
        merge("file", base, ours, theirs),
        merge("file", base, theirs, ours),
        *sources(merge("notebook", *of_cells)),
    ]
    # Which of two that stand at one place comes first is left to chance.
    assert [sorted(text.splitlines()) for text in found] == [sorted(merged.splitlines())] * 3


@given(
    base=st.lists(st.sampled_from("abcdef"), unique=True),
    common=st.lists(st.integers(0, 6), max_size=6),
    more=st.integers(0, 3),
    place=st.integers(0, 12),
    separator=st.sampled_from([" ", "\n"]),
)
def test_what_one_side_has_of_the_other_and_added_to_comes_once(
    base: list[str], common: list[int], more: int, place: int, separator: str
) -> None:
    ours = with_insertions(base, "o", common)
    theirs = with_insertions(ours, "t", [place] * more)
    sides = [separator.join(side) for side in (base, ours, theirs)]
    assert merge("file", *sides) == sides[2]
    assert merge("file", sides[0], sides[2], sides[1]) == sides[2]


@pytest.mark.parametrize("minor", [4, 5])
def test_a_cell_that_both_sides_have_made_is_there_once(minor: int) -> None:
    def made(*cells: tuple[str, str], **more: Any) -> dict[str, Any]:
        return notebook(
            *(cell(text, name if minor == 5 else None, **more) for text, name in cells), minor=minor
        )

    base = made(("first", "1"), ("last", "9"))
    ours = made(("first", "1"), ("both", "b"), ("ours", "o"), ("last", "9"))
    theirs = made(("first", "1"), ("both", "b"), ("last", "9"), ("theirs", "t"))
    merged = merge("notebook", base, ours, theirs)
    assert sources(merged) == ["first", "both", "ours", "last", "theirs"]
    if minor == 5:
        theirs["cells"][1]["source"] = "both of us"
        merged = merge("notebook", base, ours, theirs)
        assert sources(merged) == ["first", "both of us", "ours", "last", "theirs"]


def test_an_output_that_both_sides_have_is_there_once() -> None:
    def made(source: str, *texts: str) -> dict[str, Any]:
        outputs = [{"output_type": "stream", "name": "stdout", "text": text} for text in texts]
        return notebook(cell(source, "1", outputs=outputs))

    merged = merge("notebook", made("x"), made("x  # ours", "one\n"), made("x  # theirs", "one\n"))
    assert [each["text"] for each in merged["cells"][0]["outputs"]] == ["one\n"]
    assert len(merged["cells"]) == 1


@given(plain, plain)
def test_a_side_that_changed_nothing_gives_way(base: str, side: str) -> None:
    assert merge("file", base, base, side) == side
    assert merge("file", base, side, base) == side
    assert merge("file", base, side, side) == side


@pytest.mark.parametrize("minor", [4, 5])
def test_merging_notebooks_keeps_what_both_sides_did(minor: int) -> None:
    def made(*cells: tuple[str, str]) -> dict[str, Any]:
        return notebook(
            *(cell(source, name if minor == 5 else None) for source, name in cells), minor=minor
        )

    base = made(("import x", "1"), ("x = 1", "2"), ("print(x)", "3"))
    ours = made(("import x", "1"), ("ours", "o"), ("x = 1", "2"), ("print(x)  # ours", "3"))
    theirs = made(("import x, y", "1"), ("x = 1", "2"), ("print(x)", "3"), ("theirs", "t"))
    snapshot = copy.deepcopy((base, ours, theirs))
    merged = merge("notebook", base, ours, theirs)
    assert (base, ours, theirs) == snapshot
    assert merged["nbformat_minor"] == minor
    assert all(("id" in each) == (minor == 5) for each in merged["cells"])
    assert sources(merged) == ["import x, y", "ours", "x = 1", "print(x)  # ours", "theirs"]


@pytest.mark.parametrize("attempt", range(5))
def test_merging_notebooks_keeps_metadata_of_both_sides(attempt: int) -> None:
    def made(tags: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        return notebook(cell("a", "1", metadata=tags), **metadata)

    base = made({"a": 1}, x="0", gone="1")
    ours, theirs = made({"a": 1, "b": 1}, x="0", o="1"), made({"a": 2}, x="2", gone="1")
    merged = merge("notebook", base, ours, theirs)
    assert {key: merged["metadata"].get(key) for key in ("x", "o", "gone")} == {
        "x": "2",
        "o": "1",
        "gone": None,
    }
    assert merged["cells"][0]["metadata"] == {"a": 2, "b": 1}


def test_a_value_that_cannot_be_held_becomes_the_nearest_one_and_is_said() -> None:
    cell = {"cell_type": "raw", "id": "a", "metadata": {"huge": 2**70}, "source": ""}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    found = seed("notebook", notebook)
    assert found.content["cells"][0]["metadata"] == {"huge": 2.0**70}
    assert "too large a number" in found.flaws


@pytest.mark.parametrize("lines", [2_000, 10_000, 50_000])
@pytest.mark.parametrize("change", ["every other line", "all", "moved", "the same lines"])
def test_a_large_text_is_compared_in_no_time(lines: int, change: str) -> None:
    old = [f"value_{n} = compute({n})\n" for n in range(lines)]
    new = {
        "every other line": [
            line.replace("=", ":=") if n % 2 else line for n, line in enumerate(old)
        ],
        "all": [f"{line.rstrip()};\n" for line in old],
        "moved": [*old[lines // 2 :], *old[: lines // 2]],
        "the same lines": ["pass\n", "return\n"] * lines,
    }[change]
    if change == "the same lines":
        old = ["return\n", "pass\n", "pass\n"] * lines
    document = make_document("file")
    document.set("".join(old))
    began = time.process_time()
    changes = text_changes._all_changes("".join(old), "".join(new))
    took = time.process_time() - began
    apply_content(document, "".join(new))
    assert document.get() == "".join(new)
    # 0.3 and 2.2 s where nothing else runs; without a budget it is many times that, or minutes.
    bound = 3.0 if lines <= 10_000 else 15.0
    assert took < bound
    assert time.process_time() - began < bound + 2.0
    if change == "every other line":
        # Others' edits in the lines between stay where they are.
        assert len(changes) >= lines // 2


@pytest.mark.parametrize(
    ("ours", "theirs", "clashes"),
    [
        ("A\nb\nc\nd\n", "a\nb\nc\nD\n", False),
        ("A\nb\nc\nd\n", "A\nb\nc\nd\n", False),
        ("A\nb\nc\nd\n", "X\nb\nc\nd\n", True),
        ("A\nb\nc\nd\n", "a\nB\nc\nd\n", True),
        ("a\nb\nc\nd\ne\n", "a\nb\nc\nd\nf\n", True),
        ("0\na\nb\nc\nd\n", "a\nb\nc\nd\ne\n", False),
        ("a\nb\nc\nd\n", "", False),
        ("a\nb\nC\nd\n", "", True),
    ],
)
def test_changes_clash_where_they_touch_each_other(ours: str, theirs: str, clashes: bool) -> None:
    assert text_changes.clash("a\nb\nc\nd\n", ours, theirs) is clashes
    assert text_changes.clash("a\nb\nc\nd\n", theirs, ours) is clashes


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ("# plan\n", "# plan\nmilk\n", "# plan\nbuy bread\nand milk\nand eggs\n"),
        ("", "no\n", "there is no reason to go on\n"),
        ("", "x = 1\n", "y = 2\nx = 1 + y\n"),
    ],
)
def test_what_one_side_wrote_is_not_taken_for_a_part_of_what_the_other_did(
    base: str, ours: str, theirs: str
):
    added = ours.removeprefix(base)
    for merged in (merge("file", base, ours, theirs), merge("file", base, theirs, ours)):
        assert merged.count(added.strip()) == theirs.count(added.strip()) + 1
