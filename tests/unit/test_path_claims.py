"""What others say of where documents are, and what the folder shows."""

from __future__ import annotations

import pytest

from jupyter_teleportal.core.document_ids import Claim
from jupyter_teleportal.files.path_claims import Claims, Look


class Folder:
    """What the folder shows, and what is made of claims."""

    def __init__(self) -> None:
        self.there: dict[str, Look] = {}
        self.believed: list[Claim] = []
        self.claims = Claims(self.look, self.believed.append, lambda claim: None)

    async def look(self, share: str, file_id: str, path: str) -> Look:
        return self.there.get(path, Look.GONE)

    async def believes(self, claim: Claim) -> bool:
        self.claims.add([claim])
        await self.claims.look_once()
        self.claims.close()
        return bool(self.believed)


RENAMED = Claim("share", "id", "old", "new")
DELETED = Claim("share", "id", "old", None)
ANOTHERS = Claim("share", "id", "old", None, {"old": "other"}, {"other": "old"})
REPLACED = Claim("share", "id", "old", None, replaced=True)
REPLACED_AND_RENAMED = Claim("share", "id", "old", "new", replaced=True)


@pytest.mark.parametrize(
    ("claim", "old", "new", "believed"),
    [
        (RENAMED, Look.GONE, Look.OTHER, True),
        (RENAMED, Look.THERE, Look.OTHER, False),
        (RENAMED, Look.OTHER, Look.OTHER, False),
        (RENAMED, Look.OTHER, Look.THERE, True),
        (RENAMED, Look.THERE, Look.THERE, False),
        (REPLACED_AND_RENAMED, Look.OTHER, Look.OTHER, True),
        (REPLACED_AND_RENAMED, Look.OTHER, Look.GONE, False),
        (RENAMED, Look.GONE, Look.GONE, False),
        (DELETED, Look.GONE, Look.GONE, True),
        (DELETED, Look.THERE, Look.GONE, False),
        (DELETED, Look.OTHER, Look.GONE, False),
        (DELETED, Look.CLOSED, Look.GONE, False),
        (RENAMED, Look.CLOSED, Look.CLOSED, False),
        (RENAMED, Look.GONE, Look.CLOSED, True),
        (ANOTHERS, Look.CLOSED, Look.GONE, True),
        (ANOTHERS, Look.OTHER, Look.GONE, False),
        (REPLACED, Look.OTHER, Look.GONE, True),
        (REPLACED, Look.THERE, Look.GONE, False),
    ],
)
async def test_a_claim_is_believed_if_the_folder_shows_it(
    claim: Claim, old: Look, new: Look, believed: bool
) -> None:
    folder = Folder()
    folder.there = {"old": old, "new": new}
    assert await folder.believes(claim) is believed
