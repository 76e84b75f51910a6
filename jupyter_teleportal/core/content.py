"""A document's content as plain values: seeds, digests, edits and merges, with no I/O.

Content is what a contents manager's model holds: a notebook's dictionary, a text, or whatever
another document type of jupyter_ydoc takes.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import re
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

from jupyter_ydoc import YNotebook, ydocs
from jupyter_ydoc import __version__ as ydoc_version
from jupyter_ydoc.utils import cast_all
from jupyter_ydoc.ybasedoc import YBaseDoc
from pycrdt import Doc, Map, Text, UndoManager

from . import crdt, savable
from .reading import make_editable, read
from .stepwise import canonical, with_sorted_keys
from .update_walk import read_state

# How much of a text, and of one run of changed lines in it, is compared word by word.
_WORDWISE_MAX_CHARACTERS = 20_000
_HUNK_MAX_CHARACTERS = 4000
_LINEWISE_MAX_PAIRS = 500_000
_EDITS_MAX = 500
_WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)
# What jupyter_ydoc adds to a notebook's metadata.
_METADATA: dict[str, Any] = {
    "language_info": {"name": ""},
    "kernelspec": {"name": "", "display_name": ""},
}


# A client id that seeds share: 20 bits of their own above 32 bits that follow from the content.
# Yjs holds client ids in doubles, so 53 bits are all there is; its own are below 2**32.
_SEED_MARK = 0x5EED5 << 32


@dataclass(frozen=True)
class SeedContent:
    """The first update of a document, and the lineage that begins with it.

    Two seeds of one lineage hold the same items; their bytes may differ in the order of keys
    within a JSON value.

    Attributes:
        lineage: names the document that begins with this update.
        update: the first update.
        content: what the document then gives back, which is what the file holds in the form in
            which contents are compared.
        base: the content that edits of this lineage are told from, None if it is not known. It is
            `content` where the lineage begins with this update.
        flaws: what was repaired, so that a document could hold it; empty if nothing was.
    """

    lineage: str
    update: bytes
    content: Any
    base: Any
    flaws: str = ""

    @cached_property
    def digest(self) -> str:
        """The digest of `content`."""
        return digest(self.content)


def make_document(file_type: str, doc: Doc[Any] | None = None) -> YBaseDoc:
    """Return jupyter_ydoc's document of the contents type `file_type` over `doc`."""
    document: YBaseDoc = ydocs.get(file_type, ydocs["file"])(Doc() if doc is None else doc)
    return document


def document_of(file_type: str, *updates: bytes) -> YBaseDoc:
    """Return a document of its own that holds these updates.

    Raises:
        ForeignBytes: if it cannot hold one of them.
    """
    document = make_document(file_type)
    crdt.document(*updates, doc=document.ydoc)
    return document


def observe(
    document: YBaseDoc, on_content: Callable[[], None], on_state: Callable[[], None]
) -> None:
    """Call `on_content` whenever the content has changed, and `on_state` whenever the state map
    has, until somebody else observes the document: its observers are one set.

    pycrdt makes objects of all that an event tells, which costs more than the edit itself. Nobody
    here wants to know more than that something has changed.
    """
    document.observe(lambda topic, event: None)
    for shared, subscription in list(document._subscriptions.items()):
        shared.unobserve(subscription)
        if shared is document.ystate:
            subscription = shared.integrated.observe(lambda event: on_state())
        else:
            subscription = shared.integrated.observe_deep(lambda events: on_content())
        shared._subscriptions.append(subscription)
        document._subscriptions[shared] = subscription


def without_undo(document: YBaseDoc) -> None:
    """Let `document` keep nothing of what is deleted from it.

    jupyter_ydoc gives each document an undo manager that nobody asks to undo anything on a server
    (browsers have their own, and so has a fork). It keeps whatever is deleted in memory for good,
    and so in each update that is made of the whole document.
    """
    document._undo_manager = UndoManager()  # of nothing


def digest(content: Any) -> str:
    """Return a digest under which equal contents are equal, whatever the order of their keys.

    Whether a cell is trusted does not count: no file holds it, each server decides for itself.
    """
    if isinstance(content, dict) and isinstance(content.get("cells"), list):
        content = {**content, "cells": [_without_trust(cell) for cell in content["cells"]]}
    found = hashlib.sha256()
    for piece in canonical(content):
        found.update(piece.encode())
    return found.hexdigest()


def _without_trust(cell: dict[str, Any]) -> dict[str, Any]:
    metadata = cell.get("metadata")
    if not isinstance(metadata, dict) or "trusted" not in metadata:
        return cell
    return {**cell, "metadata": {k: v for k, v in metadata.items() if k != "trusted"}}


def seed(file_type: str, content: Any) -> SeedContent:
    """Turn `content` into the update that a new log begins with.

    The same content gives the same items under the same client id on every replica (of one
    version of jupyter_ydoc), so two replicas that open a file while the transport is away share a
    lineage. The client id follows from the content: under a constant one, different contents
    would diverge for ever without any sign of it.

    Raises:
        Exception: if a document cannot hold it, and it is no notebook that could be repaired.
    """
    try:
        return _seed(file_type, content, "")
    except Exception:
        if not isinstance(make_document(file_type), YNotebook) or not isinstance(content, dict):
            raise
        repaired = savable.notebook(content, flaws := savable.Flaws())
        if not flaws.count:
            raise
        return _seed(file_type, repaired, str(flaws))


def _seed(file_type: str, content: Any, flaws: str) -> SeedContent:
    document = make_document(file_type)
    identity = f"{digest(content)} {file_type} {document.version} {ydoc_version}"
    fingerprint = hashlib.sha256(identity.encode()).digest()
    client_id = _SEED_MARK | int.from_bytes(fingerprint[:4], "big")
    document = make_document(file_type, Doc(client_id=client_id))
    if isinstance(document, YNotebook):
        # Items are numbered in the order of the keys.
        content = with_sorted_keys(content)
        content = _with_cells(content, uuid.UUID(bytes=fingerprint[:16]))
    try:
        document.set(content)
    except BaseException as error:
        # What pycrdt cannot hold, such as an integer of more than 64 bits, is a panic there.
        if not crdt.is_panic(error):
            raise
        raise ValueError(f"the file holds a value that cannot be shared: {error}") from error
    content = read(document)
    update = document.ydoc.get_update()
    return SeedContent(fingerprint[:8].hex(), update, content, content, flaws)


def foreign_seeds(state: bytes, own_state: bytes) -> set[int]:
    """The client ids of seeds in the state vector `state` that are not in `own_state`.

    A document that has any was seeded otherwise: it has another lineage, and merged with this one
    it would stand beside it.

    Raises:
        ForeignBytes: if `state` is none.
    """
    clients = read_state(state).keys() - read_state(own_state).keys()
    return {client for client in clients if client & ~0xFFFFFFFF == _SEED_MARK}


def _with_cells(notebook: dict[str, Any], namespace: uuid.UUID) -> dict[str, Any]:
    """`notebook` with ids that follow from the content where cells have none, and with the empty
    cell that jupyter_ydoc would otherwise make under a random id."""
    cells = [dict(cell) for cell in notebook.get("cells", [])] or [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"trusted": True},
            "outputs": [],
            "source": "",
        }
    ]
    for index, cell in enumerate(cells):
        cell.setdefault("id", str(uuid.uuid5(namespace, str(index))))
    return {**notebook, "cells": cells}


def apply_content(document: YBaseDoc, content: Any) -> None:
    """Change `document` to hold `content`, with edits as small as can be, in one transaction."""
    with document.ydoc.transaction():
        if isinstance(document, YNotebook):
            make_editable(document)
            content = _with_known_ids(content, read(document))
            content = {**content, "metadata": {**_METADATA, **content.get("metadata", {})}}
            _edit_metadata(document, content)
            _edit_cells(document, content)
        else:
            source = getattr(document, "_ysource", None)
            if isinstance(source, Text) and isinstance(content, str):
                _edit_text(source, content)
                return
        document.set(content)


def _edit_metadata(document: YNotebook, content: dict[str, Any]) -> None:
    metadata = document.ydoc.get("meta", type=Map).get("metadata")
    if isinstance(metadata, Map):
        new = copy.deepcopy(content["metadata"])
        cast_all(new, int, float)  # as jupyter_ydoc does
        _edit_map(metadata, new)


def _edit_cells(document: YNotebook, content: dict[str, Any]) -> None:
    wanted = {cell["id"]: cell for cell in content["cells"] if "id" in cell}
    for ycell in document.ycells:
        cell = wanted.get(ycell.get("id"))
        if cell is None:
            continue
        source, metadata = ycell.get("source"), ycell.get("metadata")
        if isinstance(source, Text):
            new = cell["source"]
            _edit_text(source, "".join(new) if isinstance(new, list) else new)
        if isinstance(metadata, Map) and "metadata" in cell:
            _edit_map(metadata, cell["metadata"])


def _edit_map(shared: Map[Any], new: dict[str, Any]) -> None:
    """Turn `shared` into `new` key by key, so that what others did to other keys stays."""
    old = shared.to_py() or {}
    for key in old.keys() - new.keys():
        del shared[key]
    for key, value in new.items():
        if key not in old or old[key] != value:
            shared[key] = value


def _edit_text(text: Text, new: str) -> None:
    """Turn `text` into `new` with small edits, so that others' edits and cursors stay in place."""
    old = str(text)
    if old == new:
        return
    changes = _fewer(old, _changes(old, new))
    # pycrdt counts in bytes.
    bounds = [0, *itertools.chain.from_iterable((start, end) for start, end, _ in changes)]
    sizes = (len(old[here:there].encode()) for here, there in itertools.pairwise(bounds))
    at = list(itertools.accumulate(sizes))
    for (_, _, replacement), first, last in reversed(
        list(zip(changes, at[::2], at[1::2], strict=True))
    ):
        if last > first:
            del text[first:last]
        if replacement:
            text.insert(first, replacement)


def _fewer(old: str, changes: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The same changes as `_EDITS_MAX` at most, each of which may hold several: each takes the
    longer the more there are."""
    together = -(-len(changes) // _EDITS_MAX)
    if together < 2:
        return changes
    found = []
    for first in range(0, len(changes), together):
        group = changes[first : first + together]
        parts = [group[0][2]]
        for (_, before, _), (start, _, replacement) in itertools.pairwise(group):
            parts += (old[before:start], replacement)
        found.append((group[0][0], group[-1][1], "".join(parts)))
    return found


def _changes(old: str, new: str) -> list[tuple[int, int, str]]:
    """What to replace in `old` to get `new`: from where to where, in characters, by what.

    Lines are compared first, then words within the lines that differ, as long as there are few of
    them: comparing takes time that grows with the square, and other rooms wait.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    offsets = _offsets(before)
    budget = _WORDWISE_MAX_CHARACTERS
    changes = []
    for i1, i2, j1, j2 in _hunks(before, after):
        start, end = offsets[i1], offsets[i2]
        hunk, replacement = old[start:end], "".join(after[j1:j2])
        size = len(hunk) + len(replacement)
        if hunk and replacement and size <= min(budget, _HUNK_MAX_CHARACTERS):
            budget -= size
            changes += [
                (start + first, start + last, words)
                for first, last, words in _word_changes(hunk, replacement)
            ]
        else:
            changes.append((start, end, replacement))
    return changes


def _hunks(before: list[str], after: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Where lines differ: from which to which before, and from which to which after.

    Between lines that are there once on both sides, in the same order, everything is compared with
    everything, as long as `_LINEWISE_MAX_PAIRS` allow it; what is left is one hunk.
    """
    budget = _LINEWISE_MAX_PAIRS
    i1 = j1 = 0
    for i2, j2 in [*_common_lines(before, after), (len(before), len(after))]:
        pairs = (i2 - i1) * (j2 - j1)
        if 0 < pairs <= budget:
            budget -= pairs
            matcher = SequenceMatcher(a=before[i1:i2], b=after[j1:j2], autojunk=False)
            for tag, a1, a2, b1, b2 in matcher.get_opcodes():
                if tag != "equal":
                    yield i1 + a1, i1 + a2, j1 + b1, j1 + b2
        elif i1 < i2 or j1 < j2:
            yield i1, i2, j1, j2
        i1, j1 = i2 + 1, j2 + 1


def _common_lines(before: list[str], after: list[str]) -> list[tuple[int, int]]:
    """Lines that stand where they stood: those that both sides begin and end with, and in between
    those that are there once on both sides, as many as are in the same order. Takes time that
    hardly grows more than the number of lines."""
    first, last = 0, 0
    shortest = min(len(before), len(after))
    while first < shortest and before[first] == after[first]:
        first += 1
    while last < shortest - first and before[-1 - last] == after[-1 - last]:
        last += 1
    i_end, j_end = len(before) - last, len(after) - last
    once_before, once_after = Counter(before[first:i_end]), Counter(after[first:j_end])
    where = {line: j for j, line in enumerate(after[first:j_end], first) if once_after[line] == 1}
    pairs = [
        (i, where[line])
        for i, line in enumerate(before[first:i_end], first)
        if once_before[line] == 1 and line in where
    ]
    begin = [(n, n) for n in range(first)]
    return [
        *begin,
        *_longest_rising(pairs),
        *zip(range(i_end, len(before)), range(j_end, len(after)), strict=True),
    ]


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of `pairs`, not necessarily side by side, in which both numbers rise; the
    first numbers do already."""
    ends: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for index, (_, j) in enumerate(pairs):
        place = bisect_left(ends, j)
        before.append(at[place - 1] if place else -1)
        ends[place : place + 1] = [j]
        at[place : place + 1] = [index]
    found = []
    index = at[-1] if at else -1
    while index >= 0:
        found.append(pairs[index])
        index = before[index]
    return found[::-1]


def _word_changes(old: str, new: str) -> list[tuple[int, int, str]]:
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    offsets = _offsets(before)
    operations = SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    return [
        (offsets[i1], offsets[i2], "".join(after[j1:j2]))
        for tag, i1, i2, j1, j2 in operations
        if tag != "equal"
    ]


def _offsets(parts: list[str]) -> list[int]:
    """Where each part begins in the whole, and where the last one ends."""
    return [0, *itertools.accumulate(map(len, parts))]


def _with_known_ids(notebook: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Give cells without an id the id of the same cell in `reference`, which may itself be
    without: notebooks below format 4.5 show none."""
    cells = notebook["cells"]
    if not cells or all("id" in cell for cell in cells):
        return notebook
    if not all("id" in cell for cell in reference["cells"]):
        return notebook
    matcher = SequenceMatcher(
        a=[_cell_key(cell) for cell in reference["cells"]],
        b=[_cell_key(cell) for cell in cells],
        autojunk=False,
    )
    named = [dict(cell) for cell in cells]
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and i2 - i1 == j2 - j1):
            for old, new in zip(range(i1, i2), range(j1, j2), strict=True):
                named[new].setdefault("id", reference["cells"][old]["id"])
    return {**notebook, "cells": named}


def _cell_key(cell: dict[str, Any]) -> tuple[str, str]:
    source = cell.get("source", "")
    return cell["cell_type"], "".join(source) if isinstance(source, list) else source


def merge(file_type: str, base: Any, ours: Any, theirs: Any) -> Any:
    """Return `theirs` with what `ours` changed since `base`.

    Both sides are replayed as edits of `base` and merged as a Y document merges them, so nothing
    that either side wrote is left out; where both changed the same word, both versions are there.
    Notebooks below format 4.5 have no cell ids to tell cells by; they get ids for the merge where
    their cells can be told by type and source.
    """
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    if isinstance(base, dict) and "cells" in base:
        namespace = uuid.UUID(bytes=hashlib.sha256(digest(base).encode()).digest()[:16])
        keep_ids = (base.get("nbformat", 4), base.get("nbformat_minor", 5)) >= (4, 5)
        base = _with_cells(base, namespace)
        ours, theirs = _with_known_ids(ours, base), _with_known_ids(theirs, base)
        sides = [{**side, "nbformat_minor": 5} for side in (base, ours, theirs)]
        merged = _merge_edits(file_type, *sides)
        merged["nbformat_minor"] = theirs.get("nbformat_minor", 5)
        if not keep_ids:
            merged["cells"] = [
                {key: value for key, value in cell.items() if key != "id"}
                for cell in merged["cells"]
            ]
        return merged
    return _merge_edits(file_type, base, ours, theirs)


def edit_between(file_type: str, updates: Sequence[bytes], before: Any, after: Any) -> bytes | None:
    """Return the update that makes the change from `before` to `after` in the document that
    `updates` are, whatever else that holds; None, if there is no change."""
    if digest(before) == digest(after):
        return None
    document = document_of(file_type, *updates)
    state = document.ydoc.get_state()
    apply_content(document, merge(file_type, before, after, read(document)))
    return document.ydoc.get_update(state)


def _merge_edits(file_type: str, base: Any, ours: Any, theirs: Any) -> Any:
    origin = make_document(file_type)
    origin.set(copy.deepcopy(base))
    update = origin.ydoc.get_update()
    branches = []
    for side in (theirs, ours):
        branch = document_of(file_type, update)
        apply_content(branch, copy.deepcopy(side))
        branches.append(branch)
    merged, other = branches
    crdt.apply(merged.ydoc, other.ydoc.get_update())
    return read(merged)
