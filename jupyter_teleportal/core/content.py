"""A document's content as plain values: seeds, digests and edits, with no I/O.

Content is what a contents manager's model holds: a notebook's dictionary, a text, or whatever
another document type of jupyter_ydoc takes.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import uuid
from collections.abc import Callable
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
from .text_changes import few_changes
from .update_walk import read_state

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
        content = with_cells(content, uuid.UUID(bytes=fingerprint[:16]))
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


def with_cells(notebook: dict[str, Any], namespace: uuid.UUID) -> dict[str, Any]:
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
            content = with_known_ids(content, read(document))
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
    changes = few_changes(old, new)
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


def with_known_ids(notebook: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Give cells without an id the id of the same cell in `reference`, which may itself be
    without: notebooks below format 4.5 show none."""
    cells = notebook["cells"]
    if not cells or all("id" in cell for cell in cells):
        return notebook
    if not all("id" in cell for cell in reference["cells"]):
        return notebook
    matcher = SequenceMatcher(
        a=[cell_key(cell) for cell in reference["cells"]],
        b=[cell_key(cell) for cell in cells],
        autojunk=False,
    )
    named = [dict(cell) for cell in cells]
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and i2 - i1 == j2 - j1):
            for old, new in zip(range(i1, i2), range(j1, j2), strict=True):
                named[new].setdefault("id", reference["cells"][old]["id"])
    return {**notebook, "cells": named}


def cell_key(cell: dict[str, Any]) -> tuple[str, str]:
    """What cells without an id are told by: the type and the source."""
    source = cell.get("source", "")
    return cell["cell_type"], "".join(source) if isinstance(source, list) else source
