"""Which documents are shared: the map from API paths to shares, with no I/O."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SettingsError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE_ID_NAMESPACE = uuid.UUID("6e2ff57a-65a5-5bb0-a0b5-0cf9c84f5f2d")


def is_share_name(name: str) -> bool:
    """Whether a share may have this name."""
    return _NAME.fullmatch(name) is not None


def clean_path(path: str) -> str:
    """Return the API path `path` without the slashes around it and without empty parts."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def is_within(path: str, folder: str) -> bool:
    """Whether the clean API path `path` is `folder` or lies in it; "" is the root."""
    return not folder or path == folder or path.startswith(folder + "/")


PATH_MAX_BYTES = 4096


def is_clean(path: object) -> bool:
    """Whether `path` is one that every server would write for a document in a share.

    JupyterLab allows no backslash in a name; on Windows it would separate folders.
    """
    if not isinstance(path, str) or not path or "\0" in path or "\\" in path:
        return False
    try:
        short = len(path.encode()) <= PATH_MAX_BYTES
    except UnicodeEncodeError:
        return False
    return short and not {"", ".", ".."} & set(path.split("/"))


@dataclass(frozen=True)
class SharedPath:
    """A document's identity: its share's name and its path in that share."""

    share: str
    path: str

    def default_file_id(self) -> str:
        """The file id of a document that was never renamed and whose path was never used before.

        It follows from the identity alone, so every replica knows it without asking anybody,
        also while the transport is away.
        """
        return str(uuid.uuid5(_FILE_ID_NAMESPACE, f"{self.share}/{self.path}"))


class Shares:
    """The shares of a server: API path of a folder -> name of the share.

    Where one shared folder lies in another one, the innermost counts.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        """
        Args:
            folders: API path of a folder ("" is the server's root) -> name of the share.

        Raises:
            SettingsError: if a name is not made of letters, digits, ".", "_" and "-", a path
                leaves the root, or a name or a path is given twice.
        """
        self.folders: dict[str, str] = {}
        for raw_folder, name in folders.items():
            folder = clean_path(raw_folder)
            if ".." in folder.split("/"):
                raise SettingsError(f"shares: the folder {raw_folder!r} leaves the server's root")
            if not isinstance(name, str) or not is_share_name(name):
                raise SettingsError(
                    f"shares: the name {name!r} of {raw_folder!r} is not made of 1 to 64 letters, "
                    'digits, ".", "_" and "-" (a letter or digit first)'
                )
            if folder in self.folders or name in self.folders.values():
                raise SettingsError(f"shares: {raw_folder!r}: {name!r} is named twice")
            self.folders[folder] = name
        self._innermost_first = sorted(self.folders, key=len, reverse=True)
        self._nested = {
            name: [
                inner[len(folder) :].lstrip("/")
                for inner in self.folders
                if inner != folder and is_within(inner, folder)
            ]
            for folder, name in self.folders.items()
        }
        """For each share, where in it others lie."""

    def __bool__(self) -> bool:
        return bool(self.folders)

    def __iter__(self) -> Any:
        return iter(self.folders.values())

    def locate(self, api_path: str) -> SharedPath | None:
        """Return the identity of the document at `api_path`, None outside every share.

        A path with ".." in it is in no share: where it leads is for the contents manager to say.
        """
        path = clean_path(api_path)
        if ".." in path.split("/"):
            return None
        for folder in self._innermost_first:
            if is_within(path, folder):
                return SharedPath(self.folders[folder], clean_path(path[len(folder) :]))
        return None

    def owns(self, share: str, path: object) -> bool:
        """Whether `path`, as another server says it, names a document of `share`: it is clean, and
        is in no share that lies in this one."""
        return is_clean(path) and not any(
            is_within(str(path), folder) for folder in self._nested[share]
        )

    def api_path(self, shared: SharedPath) -> str:
        """Return the API path of `shared` on this server.

        Raises:
            KeyError: if the share is not one of this server's.
        """
        return clean_path(f"{self.folder(shared.share)}/{shared.path}")

    def folder(self, share: str) -> str:
        """Return the API path of the share's folder; KeyError if it is not one of this server's."""
        for folder, name in self.folders.items():
            if name == share:
                return folder
        raise KeyError(share)
