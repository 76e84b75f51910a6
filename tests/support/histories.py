"""Documents that several people edit at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycrdt import Doc, Text

if TYPE_CHECKING:
    import random


def edited_together(
    chance: random.Random, authors: int = 4, rounds: int = 100, edits: int = 5, start: int = 20
) -> Doc:
    """A text that so many authors edit wherever they like; after each round of so many edits each
    has those of all others."""
    docs: list[Doc] = [Doc(client_id=chance.randrange(1, 2**31)) for _ in range(authors)]
    docs[0].get("source", type=Text).insert(0, "s" * start)
    share(docs)
    for _ in range(rounds):
        for doc in docs:
            text = doc.get("source", type=Text)
            size = len(text)
            with doc.transaction():
                for _ in range(edits):
                    if chance.random() < 0.1 and size:
                        del text[chance.randrange(size)]
                        size -= 1
                    else:
                        text.insert(chance.randrange(size + 1), "x")
                        size += 1
        share(docs)
    return docs[0]


def share(docs: list[Doc]) -> None:
    """Let everybody have what the others have."""
    hub: Doc = Doc()
    for doc in docs:
        hub.apply_update(doc.get_update(hub.get_state()))
    for doc in docs:
        doc.apply_update(hub.get_update(doc.get_state()))
