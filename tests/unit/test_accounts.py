"""Different accounts on one folder: files are whole, for whom they were before, and kept."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.accounts import (
    ANN,
    BOB,
    CARL,
    EVE,
    GROUP,
    Account,
    group_folder,
    needs_accounts,
    open_to_accounts,
    set_acl,
)

from jupyter_teleportal.files import whole_files
from jupyter_teleportal.files.file_access import access_to, mark_written
from jupyter_teleportal.files.note_files import leave, read_all
from jupyter_teleportal.files.open_folders import place_of
from jupyter_teleportal.files.whole_files import (
    READ_TRIES,
    await_writer,
    finish,
    is_cut_off,
    reading_whole,
    writing,
)

OLD, NEW = "old " * 50_000, "new one " * 50_000
STATES = (OLD, NEW)


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    needs_accounts()
    monkeypatch.setattr(whole_files, "_awaited", {})  # files' numbers come again
    with open_to_accounts() as folder:
        yield folder


def made(path: Path, by: Account = ANN, mode: int = 0o664, group: int = GROUP) -> Path:
    path.write_text(OLD)
    os.chown(path, by.user, group)
    path.chmod(mode)
    return path


def save(path: Path, text: str = NEW) -> None:
    with writing(str(path)) as file:
        file.write(text)


def whole(path: Path) -> str:
    with reading_whole(place_of(str(path))) as file:
        return file.read().decode()


def plain(path: Path) -> str:
    return path.read_text()


def may(path: Path, account: Account) -> str:
    """What an account may do with a file."""
    modes = {"r": os.O_RDONLY, "w": os.O_WRONLY}

    def trying() -> str:
        found = ""
        for letter, flag in modes.items():
            try:
                os.close(os.open(path, flag))
                found += letter
            except PermissionError:
                pass
        return found

    return str(account.run(trying))


def rights(path: Path) -> list[str]:
    return [may(path, each) for each in (ANN, BOB, CARL, EVE)]


def broken_reads(
    folder: Path, path: Path, saver: Account, read: Callable[[Path], str] = plain, saves: int = 40
) -> tuple[int, int]:
    """How many of a third account's reads are not whole while another saves, and how many are."""
    done = folder / "done"

    def look() -> tuple[int, int]:
        broken = whole = 0
        while not done.exists():
            good = read(path) in STATES
            broken, whole = broken + (not good), whole + good
        return broken, whole

    reader = CARL.start(look)
    try:
        for number in range(saves):
            saver.run(lambda text=STATES[number % 2]: save(path, text))
    finally:
        done.touch()
    found: tuple[int, int] = reader.result()
    done.unlink()
    assert found[1], "nothing was read"
    return found


def attributes(path: Path) -> tuple[int, int, dict[str, bytes]]:
    known = path.stat()
    held = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return known.st_gid, stat.S_IMODE(known.st_mode), held


def test_a_members_save_of_anothers_file_is_whole(accounts: Path) -> None:
    path = made(group_folder(accounts / "group") / "plan")
    os.setxattr(path, "user.origin", b"here")
    before = rights(path)
    assert before == ["rw", "rw", "rw", "r"]
    broken, _ = broken_reads(accounts, path, BOB)
    assert not broken
    assert rights(path) == before
    assert path.stat().st_uid == BOB.user
    assert path.stat().st_gid == GROUP
    assert os.getxattr(path, "user.origin") == b"here"
    assert os.listdir(path.parent) == ["plan"]
    # Who saves in turn adds no entries beyond those.
    for account in (ANN, BOB, ANN, BOB):
        account.run(lambda: save(path))
    lists = os.getxattr(path, "system.posix_acl_access")
    ANN.run(lambda: save(path))
    assert rights(path) == before
    BOB.run(lambda: save(path))
    assert os.getxattr(path, "system.posix_acl_access") == lists


def test_where_the_owner_is_known_to_be_in_the_group_nothing_but_the_owner_changes(
    accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(group_folder(accounts / "group") / "plan")
    before = attributes(path)
    monkeypatch.setattr(
        "jupyter_teleportal.files.file_access._groups_of", lambda user: frozenset({GROUP})
    )
    BOB.run(lambda: save(path))
    assert path.stat().st_uid == BOB.user
    assert attributes(path) == before


def test_lists_of_access_stay(accounts: Path) -> None:
    """Also where the folder gives new files another one."""
    folder = group_folder(accounts / "group", 0o777)
    path = made(folder / "plan", mode=0o640, group=ANN.group)
    set_acl(path, f"u:{BOB.user}:rw", f"u:{CARL.user}:r")
    other = made(folder / "other", by=BOB, mode=0o640, group=BOB.group)
    set_acl(folder, f"d:u:{EVE.user}:rw")
    before = rights(path)
    assert before == ["rw", "rw", "r", ""]
    ANN.run(lambda: save(path))
    assert rights(path) == before
    assert path.stat().st_uid == ANN.user
    assert whole(path) == NEW
    # It gets no list that it did not have.
    replaced = other.stat().st_ino
    BOB.run(lambda: save(other))
    assert other.stat().st_ino != replaced
    assert rights(other) == ["", "rw", "", ""]


def test_the_folder_that_the_docs_recommend(accounts: Path) -> None:
    folder = group_folder(accounts / "group", 0o2770)
    set_acl(folder, f"g:{GROUP}:rwX", f"d:g:{GROUP}:rwX")
    path = folder / "plan"
    ann, bob = (Account(each.user, each.group, umask=0o022) for each in (ANN, BOB))
    for account in (ann, bob, ann, bob):
        account.run(lambda: save(path))
        assert rights(path) == ["rw", "rw", "rw", ""]
        assert path.stat().st_uid == account.user
    broken, _ = broken_reads(accounts, path, ann)
    assert not broken


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
@pytest.mark.parametrize("listed", [False, True], ids=["by group", "by list"])
def test_a_file_that_a_member_makes_anew_is_for_whom_it_was(
    accounts: Path, umask: int, listed: bool
) -> None:
    """Ann's, which somebody has deleted; CARL is in the group, too, and EVE is not."""
    folder = group_folder(accounts / "group")
    path = made(folder / "file", group=GROUP)
    if listed:
        set_acl(path, f"u:{EVE.user}:rw", f"g:{GROUP}:r")
    before = rights(path)
    with path.open("rb") as opened:
        access = access_to(opened.fileno())
    path.unlink()

    def make() -> None:
        with writing(str(path), access=access) as file:
            file.write(NEW)

    replace(BOB, umask=umask).run(make)
    assert plain(path) == NEW
    assert path.stat().st_uid == BOB.user
    after = rights(path)
    # Who makes it can write it.
    assert after == [before[0], "rw", *before[2:]]


def test_a_file_of_a_group_that_the_saver_is_not_in_stays_that_groups(accounts: Path) -> None:
    folder = group_folder(accounts / "group", 0o777)
    path = made(folder / "plan", group=47999)
    set_acl(path, f"u:{BOB.user}:rw")
    before = attributes(path), rights(path), path.stat().st_ino
    BOB.run(lambda: save(path))
    assert (attributes(path), rights(path), path.stat().st_ino) == before
    assert plain(path) == NEW
    assert os.listdir(folder) == ["plan"]


PLACES: dict[str, Callable[[Path], Path]] = {}


def place(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    PLACES[make.__name__.replace("_", " ")] = make
    return make


@place
def a_sticky_folder(folder: Path) -> Path:
    return made(group_folder(folder / "group", 0o3775) / "plan")


@place
def a_second_name(folder: Path) -> Path:
    path = made(group_folder(folder / "group") / "plan")
    os.link(path, folder / "second name")
    return path


@place
def another_group(folder: Path) -> Path:
    path = made(group_folder(folder / "group", 0o777) / "plan", group=47999)
    set_acl(path, f"u:{BOB.user}:rw")
    return path


@place
def a_closed_folder(folder: Path) -> Path:
    return made(group_folder(folder / "group", 0o755) / "plan")


OPEN_PLACES = [name for name in PLACES if name != "a closed folder"]


@pytest.mark.parametrize("name", PLACES)
def test_what_cannot_be_replaced_is_written_in_place_and_is_what_it_was(
    accounts: Path, name: str
) -> None:
    path = PLACES[name](accounts)
    before = attributes(path), path.stat().st_uid, path.stat().st_ino
    BOB.run(lambda: save(path))
    assert (attributes(path), path.stat().st_uid, path.stat().st_ino) == before
    assert plain(path) == NEW
    assert os.listdir(path.parent) == ["plan"]


@pytest.mark.parametrize("name", PLACES)
def test_servers_read_whole_what_is_written_in_place(accounts: Path, name: str) -> None:
    broken, _ = broken_reads(accounts, PLACES[name](accounts), BOB, whole)
    assert not broken


def die_while_writing(path: Path, by: Account, after: int = 1000) -> None:
    """Save under an account that is killed when so many bytes are in the file."""

    def put(descriptor: int, content: Any) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, bytes(content[:after]), 0)
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        whole_files._put = put
        save(path)

    process = by.start(dying)
    deadline = time.monotonic() + 10
    while path.stat().st_size != after and time.monotonic() < deadline:
        os.sched_yield()
    assert path.stat().st_size == after
    process.kill()


@pytest.mark.parametrize("name", OPEN_PLACES)
def test_whoever_is_killed_while_writing_leaves_the_whole_to_all_who_may_read(
    accounts: Path, name: str
) -> None:
    path = PLACES[name](accounts)
    before = rights(path)
    die_while_writing(path, BOB)
    spare = path.with_name(".~plan")
    assert [each.replace("w", "") for each in rights(spare)] == [
        each.replace("w", "") for each in before
    ]
    assert plain(path) == NEW[:1000]
    for account in (ANN, BOB, CARL):
        if "r" in may(path, account):
            assert account.run(lambda: whole(path)) == NEW
    assert ANN.run(lambda: finish(place_of(str(path))))
    assert plain(path) == NEW
    assert not ANN.run(lambda: finish(place_of(str(path))))
    ANN.run(lambda: save(path, OLD))
    assert ANN.run(lambda: whole(path)) == OLD


def test_what_was_cut_off_in_a_closed_folder_is_known(accounts: Path) -> None:
    path = PLACES["a closed folder"](accounts)
    here = place_of(str(path))
    assert not is_cut_off(here)
    die_while_writing(path, BOB)
    assert CARL.run(lambda: is_cut_off(here))
    CARL.run(lambda: save(path))
    assert plain(path) == NEW
    assert not is_cut_off(here)


def marked(folder: Path, content: str = NEW) -> Path:
    """A file that says that this is written into it, which nobody does."""
    path = made(group_folder(folder / "group") / "plan")
    with path.open("rb") as file:
        mark_written(file.fileno(), content.encode())
    return path


def test_whoever_is_killed_right_after_writing_leaves_no_mark_for_good(accounts: Path) -> None:
    path = marked(accounts, OLD)
    here = place_of(str(path))
    assert not finish(here)
    with path.open("a") as file:
        file.write("a line by another program")
    assert not is_cut_off(here)


def test_a_mark_that_stays_is_waited_for_once(
    accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = marked(accounts)
    pauses = []
    monkeypatch.setattr(whole_files.time, "sleep", pauses.append)
    assert whole(path) == OLD
    waited = len(pauses)
    assert waited > 1
    assert whole(path) == whole(path) == OLD
    assert len(pauses) == waited
    save(path, NEW)
    assert whole(path) == NEW
    with path.open("rb") as file:
        mark_written(file.fileno(), b"")
    assert whole(path) == NEW
    assert len(pauses) == 2 * waited


async def test_nobody_waits_for_a_writer_on_the_event_loop(
    accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = marked(accounts)
    pauses = []
    monkeypatch.setattr(whole_files.time, "sleep", pauses.append)
    assert whole(path) == OLD
    assert not pauses
    await asyncio.to_thread(await_writer, place_of(str(path)))
    assert pauses


def test_a_slow_write_in_place_is_not_one_that_was_cut_off(
    accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = marked(accounts)
    here, content, left = place_of(str(path)), NEW.encode(), list(range(0, len(NEW), 1000))
    path.write_text("")
    # So long each look is from the last.
    looks = iter(range(10**6))

    def put_more(_: float) -> None:
        if left and next(looks) % 3 == 0:
            start = left.pop(0)
            with path.open("r+b") as file:
                file.seek(start)
                file.write(content[start : start + 1000])

    monkeypatch.setattr(whole_files.time, "sleep", put_more)
    assert len(left) * 3 > 10 * READ_TRIES
    assert not is_cut_off(here)
    assert path.read_text() == NEW
    path.write_text("")
    left[:] = range(0, len(NEW), 1000)
    assert whole(path) == NEW


def test_what_lies_beside_a_file_is_not_its_content_unless_it_was_being_written(
    accounts: Path,
) -> None:
    path = made(group_folder(accounts / "group", 0o3777) / "plan", mode=0o644)
    spare = path.with_name(".~plan")
    # Eve may put files there, and may not write this one.
    EVE.run(lambda: spare.write_text(OLD + "by eve"))
    assert ANN.run(lambda: whole(path)) == OLD
    assert not ANN.run(lambda: finish(place_of(str(path))))
    spare.unlink()
    spare.write_text("from before")
    assert whole(path) == OLD
    path.parent.chmod(0o2777)
    ANN.run(lambda: save(path))
    assert not spare.exists()


def test_nobody_else_reads_a_private_file_while_it_is_saved(accounts: Path) -> None:
    folder = group_folder(accounts / "group", 0o777)
    path = made(folder / "plan", mode=0o600)

    def look() -> list[str]:
        with writing(str(path)) as file:
            file.write(NEW)
            file.flush()
            return [oct(stat.S_IMODE(each.stat().st_mode)) for each in folder.iterdir()]

    assert ANN.run(look) == ["0o600", "0o600"]


def test_what_may_not_be_written_stays(accounts: Path) -> None:
    path = made(group_folder(accounts / "group") / "plan", mode=0o644)
    with pytest.raises(AssertionError, match="PermissionError"):
        BOB.run(lambda: save(path))
    assert plain(path) == OLD


@pytest.mark.parametrize("mode", [0o664, 0o660, 0o640, 0o600])
def test_a_note_is_for_all_who_can_read_the_file_and_nobody_else(accounts: Path, mode: int) -> None:
    path = made(group_folder(accounts / "group") / "plan", mode=mode)
    ann = Account(ANN.user, ANN.group, umask=0o077 if mode == 0o664 else 0)
    name = ann.run(lambda: leave(place_of(str(path)), b"note"))
    readable = [each.replace("w", "") for each in rights(path)]
    assert [each.replace("w", "") for each in rights(path.with_name(f".plan{name}"))] == readable


def test_a_members_note_is_for_the_owner_too(accounts: Path) -> None:
    """Where neither the file's owner nor its group can be given to the note."""
    path = made(group_folder(accounts / "group", 0o777) / "plan", mode=0o640, group=47999)
    set_acl(path, f"u:{BOB.user}:rw")
    fourth = Account(47004, 47004, groups=(47999,))
    name = BOB.run(lambda: leave(place_of(str(path)), b"note"))
    note = path.with_name(f".plan{name}")
    for account, reads in ((ANN, True), (BOB, True), (CARL, False), (EVE, False), (fourth, True)):
        assert ("r" in may(path, account), "r" in may(note, account)) == (reads, reads), account


def test_a_note_that_cannot_be_read_hides_no_other(accounts: Path) -> None:
    path = made(group_folder(accounts / "group") / "plan")
    here = place_of(str(path))
    first = ANN.run(lambda: leave(here, b"first"))
    path.with_name(f".plan{first}").chmod(0o600)
    second = BOB.run(lambda: leave(here, b"second"))
    found = CARL.run(lambda: read_all(here))
    assert isinstance(found[first], PermissionError)
    assert found[second] == b"second"
