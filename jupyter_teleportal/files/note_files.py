"""Where servers leave their notes beside a file, each in a file of its own: two that leave one at
the same moment must not write over each other's.

The names are few and known, since a folder may be one that cannot be listed.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ..core.errors import LeavesShare
from .open_folders import Place, name_beside, open_folder, reading
from .whole_files import writing

NOTES_MAX = 8
NOTES_MAX_BYTES = 256 * 1024 * 1024
"""For so much of all notes beside a file is read."""
NAMES = (".teleportal", *(f".teleportal-{number}" for number in range(2, NOTES_MAX + 1)))
"""What the names of notes end in, by which they are called here."""


def leave(file: Place, note: bytes) -> str:
    """Write `note` beside the file, for all who can read that, and return its name.

    Raises:
        OSError: if it cannot be written, or there are `NOTES_MAX` already.
    """
    for name in NAMES:
        place = _place(file, name)
        with open_folder(place) as folder:
            try:
                os.close(folder.open(place.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
        try:
            with writing(place, text=False, like=file) as opened:
                opened.write(note)
        except BaseException:
            remove(file, name)
            raise
        return name
    raise OSError(
        errno.EEXIST, f"there are {NOTES_MAX} notes already; see whose they are", file.path
    )


def read_all(file: Place) -> dict[str, bytes | Exception]:
    """Return what lies beside the file as notes, by name, or why it cannot be read."""
    found: dict[str, bytes | Exception] = {}
    most = NOTES_MAX_BYTES
    for name in NAMES:
        place = _place(file, name)
        try:
            note = _read(place, most)
        except FileNotFoundError:
            continue
        except (OSError, LeavesShare) as error:
            found[name] = error
            continue
        # An empty one is about to be written, or its server has died right before.
        if note:
            found[name] = note
            most -= len(note)
    return found


def remove(file: Place, name: str) -> None:
    """Remove a note, if it is there."""
    place = _place(file, name)
    with contextlib.suppress(FileNotFoundError), open_folder(place) as folder:
        folder.unlink(place.name)


def follow(file: Place, to: Place | None) -> None:
    """A file was renamed, or with `to` None deleted: see that its notes are not beside another one
    that comes to its old place. Those that cannot be read stay; nobody else can read them there.

    Raises:
        OSError: if one cannot be left at the new place; then it stays at the old one.
    """
    for name, note in read_all(file).items():
        if isinstance(note, bytes):
            if to is not None:
                leave(to, note)
            remove(file, name)


def _place(file: Place, name: str) -> Place:
    return file.beside(name_beside(file.name, ".", name))


def _read(place: Place, most: int) -> bytes:
    with open_folder(place) as folder:
        if folder.stat(place.name).st_size == 0:
            return b""  # which may not be ours to open yet
    with reading(place) as file:
        data: bytes = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"notes have no more than {NOTES_MAX_BYTES} bytes", place.path)
    return data
