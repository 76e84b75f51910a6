"""Lets a new file be to everybody what another one is: as far as this process's account may."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

from ..core.access import (
    READ_WRITE,
    WRITE,
    Access,
    Entry,
    decode_list,
    encode_list,
    may,
    owned_by,
)

_LIST = "system.posix_acl_access"
_MARK = "user.teleportal.writing"
_KEPT = ("user.", "system.")
"""Extended attributes that mean something to users. Others are the operating system's."""
_HAS_LISTS = hasattr(os, "listxattr")


def take_place_of(known: int, new: int) -> bool:
    """Make the open file `new` what the open file `known` is, but for its content and, where that
    cannot be, its owner.

    Returns:
        Whether it may take its place: group, permissions and extended attributes are the same, and
        whoever could read and write may still, the former owner included.
    """
    if not hasattr(os, "fchown"):
        return True  # where users have no numbers, a file has no owner to lose
    there = os.fstat(known)
    _give(new, there)
    made = os.fstat(new)
    if (made.st_uid, made.st_gid) == (there.st_uid, there.st_gid) and not _HAS_LISTS:
        return _set_mode(new, stat.S_IMODE(there.st_mode))
    own = stat.S_IMODE(there.st_mode) >> 6
    if made.st_gid != there.st_gid or not _HAS_LISTS:
        return False
    if made.st_uid != there.st_uid and own & READ_WRITE != READ_WRITE:
        return False  # whoever saves must not lose it either
    return _copy_attributes(known, new) and _set_access(new, _for_copy(known, made))


def share_copy(known: int, new: int) -> None:
    """Let everybody who may read or write the open file `known` do so with the open file `new`,
    and nobody else; where that cannot be, only its owner may."""
    if not hasattr(os, "fchown"):
        return
    there = os.fstat(known)
    _give(new, there)
    made = os.fstat(new)
    with contextlib.suppress(OSError, ValueError):
        access = _for_copy(known, made)
        own = Access(made.st_uid, made.st_gid, access.mode | READ_WRITE << 6, access.entries)
        if _set_access(new, own):
            return
    # Without lists, a former owner who is not in the group cannot be named.
    mode, group, other = 0o600, there.st_mode >> 3 & 7, there.st_mode & 7
    if not _has_list(known):
        if made.st_gid == there.st_gid:
            mode |= group << 3 | other
        elif group & other == other:
            mode |= other << 3 | other
    _set_mode(new, mode)


def access_to(known: int) -> Access | None:
    """For whom the open file `known` is; None where that cannot be told."""
    try:
        return _access(known) if hasattr(os, "fchown") else None
    except (OSError, ValueError):
        return None


def share_anew(access: Access, new: int) -> None:
    """Let everybody read and write the open file `new` who could do so with one that is gone, and
    nobody else; where that cannot be, only its owner may."""
    with contextlib.suppress(OSError):
        os.fchown(new, access.owner if os.geteuid() == 0 else -1, access.group)
    made = os.fstat(new)
    with contextlib.suppress(OSError, ValueError):
        ours = owned_by(access, made.st_uid, made.st_gid, _groups_of)
        if _set_access(new, Access(made.st_uid, made.st_gid, ours.mode | 0o600, ours.entries)):
            return
    shared = not access.entries and made.st_gid == access.group
    _set_mode(new, 0o600 | (access.mode & 0o77 if shared else 0))


def share_folder(known: int, new: int) -> None:
    """Let everybody who may use the open folder `known` use the open folder `new`; as far as this
    account may say so."""
    there = os.fstat(known)
    _give(new, there)
    made = os.fstat(new)
    with contextlib.suppress(OSError, ValueError):
        access = _for_copy(known, made)
        own = Access(made.st_uid, made.st_gid, access.mode | 0o700, access.entries)
        if _set_access(new, own):
            return
    if made.st_gid == there.st_gid:
        _set_mode(new, stat.S_IMODE(there.st_mode) | 0o700)


def mark_written(known: int, content: bytes | memoryview | None) -> None:
    """Say on the open file `known` what is being written into it, which only somebody who may write
    it can; None: nothing any more. Not every file system keeps that."""
    with contextlib.suppress(OSError, AttributeError):
        if content is None:
            os.removexattr(known, _MARK)
        else:
            os.setxattr(known, _MARK, hashlib.sha256(content).digest())


def is_marked(known: int, content: bytes) -> bool:
    """Whether the open file `known` is marked as one into which `content` is written; or cannot be
    marked at all."""
    try:
        return os.getxattr(known, _MARK) == hashlib.sha256(content).digest()
    except AttributeError:
        return True
    except OSError as error:
        return error.errno == errno.ENOTSUP


def has_mark(known: int) -> bool:
    """Whether the open file `known` is marked as one into which something is written."""
    return _mark(known) is not None


def mark_of_other(known: int, content: bytes) -> bytes | None:
    """The mark of the open file `known`, which holds `content`, if it says that the file holds
    something else when writing is done."""
    mark = _mark(known)
    return None if mark is None or mark == hashlib.sha256(content).digest() else mark


def may_have_written(
    folder: os.stat_result, known: int, beside: os.stat_result, new: bytes
) -> bool:
    """Whether somebody who may write the open file `known` is writing `new` into it, which was
    found `beside` it.

    In a folder that is not sticky, whoever can put a file there can replace others', too.
    """
    if not hasattr(os, "fchown") or not folder.st_mode & stat.S_ISVTX:
        return True
    if _mark(known) == hashlib.sha256(new).digest():
        return True
    try:
        access = _access(known)
    except (OSError, ValueError):
        return False
    writer = beside.st_uid
    mine = writer in (os.geteuid(), folder.st_uid)
    return mine or may(access, writer, _groups_of(writer), WRITE)


def _mark(known: int) -> bytes | None:
    with contextlib.suppress(OSError, AttributeError):
        return os.getxattr(known, _MARK)
    return None


def _give(new: int, there: os.stat_result) -> None:
    made = os.fstat(new)
    if (made.st_uid, made.st_gid) != (there.st_uid, there.st_gid):
        try:
            os.fchown(new, there.st_uid, there.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(new, -1, there.st_gid)


def _for_copy(known: int, made: os.stat_result) -> Access:
    return owned_by(_access(known), made.st_uid, made.st_gid, _groups_of)


def _access(file: int) -> Access:
    there = os.fstat(file)
    return Access(there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode), _entries(file))


def _entries(file: int) -> tuple[Entry, ...]:
    if not _HAS_LISTS:
        return ()
    try:
        return decode_list(os.getxattr(file, _LIST))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return ()
        raise


def _has_list(file: int) -> bool:
    try:
        return bool(_entries(file))
    except (OSError, ValueError):
        return True


def _set_access(new: int, access: Access) -> bool:
    """Set permissions; return whether they are what they should be."""
    try:
        if access.entries:
            os.setxattr(new, _LIST, encode_list(access.entries))
        elif _entries(new):
            os.removexattr(new, _LIST)  # the folder's default
        return _set_mode(new, access.mode) and _entries(new) == access.entries
    except (OSError, ValueError):
        return False


def _set_mode(new: int, mode: int) -> bool:
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.fstat(new).st_mode) != mode:
            os.fchmod(new, mode)
    return stat.S_IMODE(os.fstat(new).st_mode) == mode


def _copy_attributes(known: int, new: int) -> bool:
    try:
        names = os.listxattr(known)
    except OSError as error:
        return error.errno == errno.ENOTSUP
    for name in names:
        if name in (_LIST, _MARK):
            continue
        try:
            os.setxattr(new, name, os.getxattr(known, name))
        except OSError:
            if name.startswith(_KEPT):
                return False
    return True


def _groups_of(user: int) -> frozenset[int] | None:
    try:
        import pwd  # which Windows lacks

        known = pwd.getpwuid(user)
    except (ImportError, KeyError):
        return None
    return frozenset(os.getgrouplist(known.pw_name, known.pw_gid))
