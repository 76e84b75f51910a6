"""What others say of a share's documents in its maps, as far as a server of this share would."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from ..core.document_ids import Changes, FileIds
from ..core.shares import Shares
from ..transports import base

_FILE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class SoundMaps:
    """Tells what can be true of the maps ``files`` and ``paths`` from what was forged."""

    def __init__(
        self,
        shares: Shares,
        ids: Mapping[str, FileIds],
        pass_over: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            shares: the shares of this server.
            ids: what is known of their documents.
            pass_over: is told the share of what is left out, and why.
        """
        self._shares = shares
        self._ids = ids
        self._pass_over = pass_over

    def sound(self, share: str, files: Any, paths: Any) -> tuple[Changes, Changes]:
        """Those entries of the maps, as the transport has them, that a server of this share would
        write: clean paths of this share, and ids that no other share has."""
        sound: tuple[Changes, Changes] = {}, {}
        for entries, taken, path_first in ((files, sound[0], True), (paths, sound[1], False)):
            if entries is None:
                continue
            if not isinstance(entries, Mapping):
                self._pass_over(share, "it is no map")
                continue
            for key, value in islice(entries.items(), base.MAP_ENTRIES_MAX):
                path, file_id = (key, value) if path_first else (value, key)
                if path is not None and not self._shares.owns(share, path):
                    self._pass_over(share, f"{str(path)[:200]!r} is no path of this share")
                elif file_id is not None and not self._may_bear(share, file_id):
                    self._pass_over(share, f"{str(file_id)[:200]!r} is no id of this share")
                else:
                    taken[key] = value
            if len(entries) > base.MAP_ENTRIES_MAX:
                self._pass_over(share, f"it has more than {base.MAP_ENTRIES_MAX} entries")
        return sound

    def bound(self, share: str, known: Mapping[str, str], more: Changes) -> None:
        """Leave out what would make more than so many entries of what is known."""
        new = [key for key in more if key not in known]
        left = max(0, base.MAP_ENTRIES_MAX - len(known))
        for key in new[left:]:
            del more[key]
        if len(new) > left:
            self._pass_over(share, f"it makes more than {base.MAP_ENTRIES_MAX} entries")

    def _may_bear(self, share: str, file_id: Any) -> bool:
        """Whether a document of `share` may have this id."""
        return (
            isinstance(file_id, str)
            and _FILE_ID.fullmatch(file_id) is not None
            and not any(
                file_id in ids.paths or file_id in ids.last_paths
                for other, ids in self._ids.items()
                if other != share
            )
        )
