"""A document's file, by upstream's file loader and a contents manager."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.services.contents.largefilemanager import (
    AsyncLargeFileManager,
    LargeFileManager,
)
from jupyter_server_ydoc.loaders import FileLoader

from jupyter_teleportal.core.envelopes import encode_note
from jupyter_teleportal.core.errors import FileGone, LeavesShare, SaveFailed
from jupyter_teleportal.core.shares import Shares
from jupyter_teleportal.files import whole_files
from jupyter_teleportal.files.file_access import mark_written
from jupyter_teleportal.files.share_folders import folders_of
from jupyter_teleportal.jupyter import loaded_file
from jupyter_teleportal.jupyter.contents_files import take_over_files
from jupyter_teleportal.jupyter.file_ids import FileRegistry
from jupyter_teleportal.jupyter.loaded_file import LoadedFile
from jupyter_teleportal.sync.cluster import Replica
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport

SHARES = Shares({"": "share"})


def loaded(
    folder: Path,
    hub: MemoryHub,
    path: str = "file.txt",
    kind: type[LargeFileManager] = AsyncLargeFileManager,
) -> LoadedFile:
    manager = kind(root_dir=str(folder))
    ids: Any = SimpleNamespace(get_path=lambda file_id: path)
    room: Any = SimpleNamespace(
        _file=FileLoader("id", ids, manager), file_type="file", file_format="text"
    )
    registry = FileRegistry(Replica(MemorySyncTransport(hub)), SHARES)
    registry.folders = folders_of(manager, SHARES)
    return LoadedFile(room, registry, "share")


def changed(path: Path, text: str, seconds: int) -> None:
    """Another program writes the file, so much later."""
    path.write_text(text, encoding="utf-8")
    later = path.stat().st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(later, later))


async def test_only_the_file_that_was_compared_is_written_over(
    tmp_path: Path, hub: MemoryHub
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub)
    compared = await file.stat()
    changed(path, "another's", 5)
    # The watch has looked at it meanwhile.
    await file.stat()
    with pytest.raises(SaveFailed, match="in the very moment"):
        await file.write("mine", compared)
    assert path.read_text(encoding="utf-8") == "another's"
    await file.write("mine", await file.stat())
    assert path.read_text(encoding="utf-8") == "mine"


async def test_a_file_that_is_changed_right_then_is_not_written_over(
    tmp_path: Path, hub: MemoryHub
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub)
    compared = await file.stat()
    changed(path, "another's", 5)
    with pytest.raises(SaveFailed, match="in the very moment"):
        await file.write("mine", compared)
    assert path.read_text(encoding="utf-8") == "another's"


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_file_that_is_renamed_right_then_is_not_made_anew(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub)
    file._contents.use_atomic_writing = not in_place
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    compared = await file.stat()
    save = file._loader._save_content

    async def save_later(*args: Any) -> Any:
        path.rename(tmp_path / "renamed.txt")
        return await save(*args)

    monkeypatch.setattr(file._loader, "_save_content", save_later)
    with pytest.raises(Exception, match="renamed or removed"):
        await file.write("mine", compared)
    assert os.listdir(tmp_path) == ["renamed.txt"]
    assert (tmp_path / "renamed.txt").read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize(
    ("in_place", "when"), [(False, "before"), (False, "meanwhile"), (True, "before")]
)
async def test_a_deleted_file_that_is_made_anew_right_then_is_not_written_over(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, in_place: bool, when: str
) -> None:
    path = tmp_path / "file.txt"
    file = loaded(tmp_path, hub)
    file._contents.use_atomic_writing = not in_place
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    if when == "before":
        save = file._contents.save

        async def save_later(*args: Any) -> Any:
            path.write_text("another's", encoding="utf-8")
            return await save(*args)

        monkeypatch.setattr(file._contents, "save", save_later)
    else:
        sync = os.fsync

        def sync_late(descriptor: int) -> None:
            sync(descriptor)
            path.write_text("another's", encoding="utf-8")

        monkeypatch.setattr(os, "fsync", sync_late)
    with pytest.raises(Exception, match="in the very moment"):
        await file.write("mine", None)
    assert os.listdir(tmp_path) == ["file.txt"]
    assert path.read_text(encoding="utf-8") == "another's"


async def test_whether_a_file_can_be_written_is_known_without_reading_it(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nothing is done for whoever opens the document; a large one's hash takes long."""

    async def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("it is read")

    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    monkeypatch.setattr(AsyncLargeFileManager, "_read_file", read)
    file = loaded(tmp_path, hub)
    assert await file.is_writable()
    with pytest.raises(AssertionError, match="it is read"):
        await file.stat()
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(LeavesShare):
        await file.is_writable()


async def test_a_file_is_known_wherever_it_is(tmp_path: Path, hub: MemoryHub) -> None:
    (tmp_path / "file.txt").write_text("mine", encoding="utf-8")
    file = loaded(tmp_path, hub)
    assert not await file.is_at("file.txt")
    await file.load()
    assert not await file.is_at("file.txt")  # it may be another one's
    file.taken_over()
    assert await file.is_at("file.txt")
    (tmp_path / "file.txt").rename(tmp_path / "new.txt")
    changed(tmp_path / "file.txt", "another's", 5)
    await file.load()
    assert await file.is_at("new.txt")
    assert not await file.is_at("file.txt")
    assert not await file.is_at("gone.txt")
    (tmp_path / "new.txt").unlink()
    await file.write("mine", await file.stat())
    file.taken_over()
    assert await file.is_at("file.txt")


async def test_a_renamed_file_is_known_by_what_is_noted_beside_it(
    tmp_path: Path, hub: MemoryHub
) -> None:
    (tmp_path / "file.txt").write_text("another's", encoding="utf-8")
    other = loaded(tmp_path, hub)
    await other.write_note(encode_note("lineage", "", b"\0\0"))
    (tmp_path / "new.txt").write_text("mine", encoding="utf-8")
    (tmp_path / ".file.txt.teleportal").rename(tmp_path / ".new.txt.teleportal")
    file = loaded(tmp_path, hub)
    assert await file.is_at("new.txt", "lineage")
    assert not await file.is_at("new.txt", "another")
    assert not await file.is_at("new.txt")
    assert not await file.is_at("file.txt", "lineage")


async def test_copies_of_a_private_file_are_private(tmp_path: Path, hub: MemoryHub) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    path.chmod(0o600)
    file = loaded(tmp_path, hub)
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    copies = [tmp_path / await file.keep_copy("what was not saved")]
    await file._contents.create_checkpoint("file.txt")
    copies += (tmp_path / ".ipynb_checkpoints").iterdir()
    assert len(copies) == 2
    for copy in copies:
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600, copy
    path.chmod(0o640)
    await file._contents.create_checkpoint("file.txt")
    assert stat.S_IMODE(copies[1].stat().st_mode) == 0o640
    path.chmod(0o600)
    await file._contents.restore_checkpoint("checkpoint", "file.txt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
async def test_a_file_that_is_put_back_is_for_whom_it_was(
    tmp_path: Path, hub: MemoryHub, mode: int
) -> None:
    """And not for whom the umask says."""
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub)
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    await file.load()
    # It may be changed while the document is open.
    path.chmod(mode)
    await file.write("saved", await file.stat())
    path.unlink()
    await file.write("put back", None)
    assert path.read_text(encoding="utf-8") == "put back"
    assert stat.S_IMODE(path.stat().st_mode) == mode


async def test_a_save_that_was_cut_off_is_finished(tmp_path: Path, hub: MemoryHub) -> None:
    path, spare = tmp_path / "file.txt", tmp_path / ".~file.txt"
    path.write_text("the new", encoding="utf-8")
    spare.write_text("the new content", encoding="utf-8")
    file = loaded(tmp_path, hub)
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    content, _ = await file.load()
    assert content == "the new content"
    with path.open("rb") as opened:
        mark_written(opened.fileno(), b"the new content")
    assert await file.finish()
    assert path.read_text(encoding="utf-8") == "the new content"
    assert os.listdir(tmp_path) == ["file.txt"]
    assert not await file.finish()


async def test_another_programs_save_is_finished_only_when_it_has_died(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Jupyter saves without this extension."""
    path, spare = tmp_path / "file.txt", tmp_path / ".~file.txt"
    file = loaded(tmp_path, hub)
    monkeypatch.setattr(loaded_file, "STOPPED_S", 0.5)
    monkeypatch.setattr(loaded_file, "STOPPED_POLL_S", 0.01)
    for dies in (False, True):
        spare.write_text("the old content", encoding="utf-8")
        path.write_text("", encoding="utf-8")
        finishing = asyncio.create_task(file.finish())
        for number in range(20):
            await asyncio.sleep(0.05)
            assert not finishing.done()
            changed(path, "", -number)
        if dies:
            assert await finishing
            assert path.read_text(encoding="utf-8") == "the old content"
        else:
            path.write_text("by another program", encoding="utf-8")
            spare.unlink()
            assert not await finishing
            assert path.read_text(encoding="utf-8") == "by another program"
        assert os.listdir(tmp_path) == ["file.txt"]


async def test_whoever_opens_what_was_left_empty_long_ago_does_not_wait(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    file = loaded(tmp_path, hub)
    monkeypatch.setattr(loaded_file, "STOPPED_S", 1e6)
    (tmp_path / ".~file.txt").write_text("the old content", encoding="utf-8")
    changed(path, "", -3600)
    assert await asyncio.wait_for(file.finish(), 10)
    assert path.read_text(encoding="utf-8") == "the old content"
    changed(path, "", -3600)
    assert not await file.is_cut_off()
    file._room.file_type = "notebook"
    assert await asyncio.wait_for(file.is_cut_off(), 10)
    path.write_text("{}", encoding="utf-8")
    assert not await file.is_cut_off()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody can tell who writes")
async def test_a_file_that_a_program_is_still_about_to_write_was_not_left_empty(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell does: it empties the file at once, and the program writes into it much later."""
    path, spare = tmp_path / "file.txt", tmp_path / ".~file.txt"
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub)
    file._room.file_type = "notebook"
    monkeypatch.setattr(loaded_file, "STOPPED_S", 0.2)
    monkeypatch.setattr(loaded_file, "STOPPED_POLL_S", 0.01)
    with path.open("w", encoding="utf-8") as writer:
        for ago_s in (0, 3600):
            then = time.time() - ago_s
            os.utime(path, (then, then))
            with pytest.raises(SaveFailed, match="writing"):
                await file.is_cut_off()
            spare.write_text("before", encoding="utf-8")
            with pytest.raises(SaveFailed, match="writing"):
                await file.finish()
            spare.unlink()
        writer.write("{}")
    assert not await file.is_cut_off()
    # Whoever reads it writes nothing.
    path.write_text("", encoding="utf-8")
    with path.open(encoding="utf-8"):
        assert await file.is_cut_off()


@pytest.mark.parametrize("kind", [LargeFileManager, AsyncLargeFileManager])
async def test_what_another_server_is_writing_is_waited_for_in_a_thread(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, kind: type[LargeFileManager]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("the new", encoding="utf-8")
    file = loaded(tmp_path, hub, kind=kind)
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    with path.open("rb") as opened:
        mark_written(opened.fileno(), b"the new content")
    threads = []

    def pause(_: float) -> None:
        threads.append(threading.current_thread())
        if len(threads) == 10:
            path.write_text("the new content", encoding="utf-8")

    monkeypatch.setattr(whole_files.time, "sleep", pause)
    assert (await file.load())[0] == "the new content"
    assert len(threads) == 10
    assert threading.main_thread() not in threads


async def test_a_look_at_a_file_goes_to_a_thread_once(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.txt").write_text("text", encoding="utf-8")
    file = loaded(tmp_path, hub)
    take_over_files(file._contents, file._registry.folders, logging.getLogger())
    hops: list[Any] = []
    to_thread = asyncio.to_thread

    async def counted(work: Any, *args: Any) -> Any:
        hops.append(work)
        return await to_thread(work, *args)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    await file.stat()
    assert len(hops) == 1


async def test_a_file_that_is_gone_is_made_anew_where_nobody_else_has_made_one(
    tmp_path: Path, hub: MemoryHub
) -> None:
    path = tmp_path / "folder" / "file.txt"
    path.parent.mkdir()
    path.write_text("before", encoding="utf-8")
    file = loaded(tmp_path, hub, "folder/file.txt")
    before = await file.stat()
    path.unlink()
    for _ in range(2):
        for look in (file.stat(), file.load(), file.is_writable(), file.write("mine", before)):
            with pytest.raises(FileGone, match="was deleted"):
                await look
        assert not await file.finish()
        assert not await file.is_cut_off()
        if path.parent.exists():
            path.parent.rmdir()
    with pytest.raises(SaveFailed, match="so was its folder, folder"):
        await file.write("mine", None)
    path.parent.mkdir()
    path.write_text("another's", encoding="utf-8")
    with pytest.raises(SaveFailed, match="in the very moment"):
        await file.write("mine", None)
    path.unlink()
    assert await file.write("mine", None) == await file.stat()
    assert path.read_text(encoding="utf-8") == "mine"


async def test_two_rooms_of_one_file_do_not_write_over_each_other(
    tmp_path: Path, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for the file's loader while the other one saves."""
    path = tmp_path / "file.txt"
    path.write_text("before", encoding="utf-8")
    one, other = loaded(tmp_path, hub), loaded(tmp_path, hub)
    other._loader = one._loader
    save = AsyncLargeFileManager.save
    saving, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: Any, *args: Any) -> Any:
        saving.set()
        await go_on.wait()
        return await save(self, *args)

    monkeypatch.setattr(AsyncLargeFileManager, "save", slow)
    take_over_files(one._contents, one._registry.folders, logging.getLogger())
    first = asyncio.create_task(one.write("one's", await one.stat()))
    compared = await other.stat()
    await saving.wait()
    second = asyncio.create_task(other.write("other's", compared))
    await asyncio.sleep(0)
    go_on.set()
    await first
    with pytest.raises(SaveFailed, match="in the very moment"):
        await second
    assert path.read_text(encoding="utf-8") == "one's"
