"""What is done to files on one server holds on the other."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from support.cluster import saver_of, transport_state
from support.missing import missing
from support.notebooks import file_sources, notebooks_in, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

    Pair = tuple[JupyterProcess, JupyterProcess]


async def test_new_file_on_one_server_opens_on_the_other(servers: Pair, shared_folder: Path):
    a, b = servers
    path = await a.new_file(type="notebook")
    assert await b.exists(path)
    async with (
        RtcClient(a, await a.session(path), name="ann") as ann,
        RtcClient(b, await b.session(path), name="bob") as bob,
    ):
        assert ann.session == bob.session
        ann.insert_cell("written on a")
        await equal([ann, bob])
        await until(
            lambda: "written on a" in (file_sources(shared_folder / path) or []),
            what="the saved file",
        )


async def test_open_document_follows_renames_and_moves(servers: Pair, shared_folder: Path):
    a, b = servers
    write_notebook(shared_folder / "old.ipynb", ["x"])
    (shared_folder / "folder").mkdir()
    session = await a.session("old.ipynb")
    assert await b.session("old.ipynb") == session
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        places = ["old.ipynb", "new.ipynb", "folder/moved.ipynb", "folder/again.ipynb"]
        # Each step on the other server than the one before.
        for old, place, server in zip(places, places[1:], (b, a, b), strict=False):
            await server.rename(old, place)
            for client in (ann, bob):
                await until(
                    lambda client=client, place=place: client.path == place,
                    timeout=5,
                    what=f"state.path {place} for {client.name}",
                )
            for other in servers:
                assert await other.session(place) == session
            ann.write("a")
            bob.write("b")
            await equal([ann, bob])
            await until(
                lambda place=place: file_sources(shared_folder / place) == ann.sources,
                what=f"a save at {place}",
            )
        assert sorted(ann.sources[0]) == sorted("x" + "ab" * 3)
        await holds(
            lambda: notebooks_in(shared_folder) == ["folder/again.ipynb"],
            seconds=2,
            what="the absence of the old paths",
        )
        for client in (ann, bob):
            client.assert_undisturbed()
            assert not client.closures


async def test_open_document_follows_its_folder(servers: Pair, shared_folder: Path):
    a, b = servers
    write_notebook(shared_folder / "folder" / "inside.ipynb", ["x"])
    session = await a.session("folder/inside.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        await a.rename("folder", "renamed")
        for client in (ann, bob):
            await until(
                lambda client=client: client.path == "renamed/inside.ipynb",
                timeout=5,
                what=f"the new path for {client.name}",
            )
        bob.write("1")
        await equal([ann, bob])
        await until(
            lambda: file_sources(shared_folder / "renamed" / "inside.ipynb") == ["x1"],
            what="a save at the new path",
        )
        assert await b.session("renamed/inside.ipynb") == session


async def test_closed_document_keeps_its_id_when_renamed(
    servers: Pair, redis_server: RedisServer, shared_folder: Path
):
    a, b = servers
    (shared_folder / "was.txt").write_text("text")
    on_a = await a.session("was.txt", "text", "file")
    assert await b.session("was.txt", "text", "file") == on_a
    await a.rename("was.txt", "is.txt")
    with redis_server.cli() as client:
        await until(
            lambda: client.hget("teleportal:sync:default:files", "is.txt"), what="the rename"
        )
    assert await b.session("is.txt", "text", "file") == on_a
    # A new file at the old path is another document, for both.
    await b.save_file("was.txt", "another")
    again = await a.session("was.txt", "text", "file")
    assert again.file_id != on_a.file_id
    assert await b.session("was.txt", "text", "file") == again


async def test_copy_is_a_document_of_its_own(servers: Pair, shared_folder: Path):
    a, b = servers
    write_notebook(shared_folder / "origin.ipynb", ["x"])
    async with RtcClient(a, await a.session("origin.ipynb"), name="ann") as ann:
        copied = await a.copy("origin.ipynb")
        session = await b.session(copied)
        assert session.file_id != ann.session.file_id
        assert await a.session(copied) == session
        async with RtcClient(b, session, name="bob") as bob:
            bob.write(" in the copy")
            ann.write(" in the original")
            await until(
                lambda: file_sources(shared_folder / copied) == ["x in the copy"],
                what="the saved copy",
            )
            await until(
                lambda: file_sources(shared_folder / "origin.ipynb") == ["x in the original"],
                what="the saved original",
            )
            assert bob.sources == ["x in the copy"]


async def test_deleted_file_stays_deleted_and_its_path_is_free(servers: Pair, shared_folder: Path):
    a, b = servers
    path = shared_folder / "gone.ipynb"
    write_notebook(path, ["old content"])
    session = await a.session("gone.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write(" edited")
        await equal([ann, bob])
        await until(lambda: file_sources(path) == ["old content edited"], what="the saved file")
        await a.delete("gone.ipynb")
        # Unaware tabs go on for a moment, on both servers.
        ann.write(" too late")
        bob.write(" much too late")
        await asyncio.sleep(0)
        await holds(lambda: not path.exists(), seconds=4, what="the absence of the deleted file")

        write_notebook(path, ["new content"])
        new = await b.session("gone.ipynb")
        assert new.file_id != session.file_id
        assert await a.session("gone.ipynb") == new
        async with (
            RtcClient(a, new, name="eve") as eve,
            RtcClient(b, new, name="joe") as joe,
        ):
            await equal([eve, joe])
            assert eve.sources == ["new content"]
            joe.write("!")
            await equal([eve, joe])
            await until(lambda: file_sources(path) == ["new content!"], what="the new file")
            await holds(
                lambda: file_sources(path) == eve.sources == ["new content!"],
                seconds=2,
                what="the new document",
            )


async def test_composed_and_decomposed_names_are_two_files_and_two_documents(
    servers: Pair, shared_folder: Path
) -> None:
    """As the folder has it; where it takes both for one name, as on macOS, there is one file."""
    names = [unicodedata.normalize(form, "é.ipynb") for form in ("NFC", "NFD")]
    for name, source in zip(names, ("composed", "decomposed"), strict=True):
        write_notebook(shared_folder / name, [source])
    if len(notebooks_in(shared_folder)) == 1:
        missing("needs a file system that tells composed names from decomposed ones")
    a, b = servers
    sessions = [await a.session(name) for name in names]
    assert sessions == [await b.session(name) for name in names]
    async with AsyncExitStack() as stack:
        for session, own in zip(sessions, ("composed", "decomposed"), strict=True):
            ann = await stack.enter_async_context(RtcClient(a, session, name="ann"))
            bob = await stack.enter_async_context(RtcClient(b, session, name="bob"))
            ann.write(f" of {own}")
            await equal([ann, bob])
            assert bob.sources == [f"{own} of {own}"]
        for name, own in zip(names, ("composed", "decomposed"), strict=True):
            await until(
                lambda name=name, own=own: (
                    file_sources(shared_folder / name) == [f"{own} of {own}"]
                ),
                what=f"the file with the {own} name",
            )
    assert len(notebooks_in(shared_folder)) == 2


@pytest.mark.parametrize("saver_renames", [False, True])
async def test_a_new_file_where_one_was_renamed_during_an_outage(
    servers: Pair, redis_server: RedisServer, shared_folder: Path, saver_renames: bool
):
    """The server that has not heard of the rename has looked at the new file before it does."""
    write_notebook(shared_folder / "old.ipynb", ["first"])
    session = await servers[0].session("old.ipynb")
    async with (
        RtcClient(servers[0], session, name="ann") as ann,
        RtcClient(servers[1], session, name="bob") as bob,
    ):
        saver, (other,) = await saver_of(servers, session.room_id)
        here, there = (saver, other) if saver_renames else (other, saver)
        renaming, following = (ann, bob) if here is servers[0] else (bob, ann)
        redis_server.kill()
        await until(lambda: not_shared(here, there), what="the outage")
        await here.rename("old.ipynb", "new.ipynb")
        if saver_renames:
            renaming.write(" saved")
            await until(
                lambda: file_sources(shared_folder / "new.ipynb") == ["first saved"],
                what="what is saved during the outage",
            )
        write_notebook(shared_folder / "old.ipynb", ["second"])
        os.utime(shared_folder / "old.ipynb")
        new = await here.session("old.ipynb")
        assert new.file_id != session.file_id
        if not saver_renames:
            await until(
                lambda: there.grep("changed while Redis is away"),
                what="that the new file was looked at",
            )
        async with RtcClient(here, new, name="eve") as eve:
            eve.write(" of eve")
            redis_server.start()
            await until(lambda: following.path == "new.ipynb", 20, what="the rename")
            for each in (ann, bob):
                each.write(f" of {each.name}")
            await equal([ann, bob])

            async def is_known() -> bool:
                return await there.session("old.ipynb") == new

            # The document's new path comes with its edits, which may be there before that.
            await until(is_known, what="that the new file is another document")
            async with RtcClient(there, new, name="fay") as fay:
                await equal([eve, fay])
            await until(
                lambda: file_sources(shared_folder / "old.ipynb") == ["second of eve"],
                what="the new file",
            )
            await until(
                lambda: file_sources(shared_folder / "new.ipynb") == [ann.sources[0]],
                what="the renamed file",
            )
            (text,) = ann.sources
            assert text.startswith("first")
            assert "second" not in text
            assert all(f" of {each.name}" in text for each in (ann, bob))
            assert notebooks_in(shared_folder) == ["new.ipynb", "old.ipynb"]


async def not_shared(*servers: JupyterProcess) -> bool:
    return all([await transport_state(server) != "connected" for server in servers])


@pytest.mark.parametrize("gone", ["renamed", "deleted"])
async def test_a_new_file_is_not_taken_for_the_one_that_a_saver_has_noted_at_its_path(
    servers: Pair, redis_server: RedisServer, shared_folder: Path, gone: str
):
    write_notebook(shared_folder / "old.ipynb", ["first"])
    session = await servers[0].session("old.ipynb")
    async with (
        RtcClient(servers[0], session, name="ann") as ann,
        RtcClient(servers[1], session, name="bob") as bob,
    ):
        saver, (other,) = await saver_of(servers, session.room_id)
        redis_server.kill()
        await until(lambda: not_shared(saver, other), what="the outage")
        (ann if saver is servers[0] else bob).write(" saved")
        await until(
            lambda: file_sources(shared_folder / "old.ipynb") == ["first saved"],
            what="what is saved during the outage",
        )
        if gone == "renamed":
            await saver.rename("old.ipynb", "new.ipynb")
        else:
            await saver.delete("old.ipynb")
        write_notebook(shared_folder / "old.ipynb", ["second"])
        new = await saver.session("old.ipynb")
        assert new.file_id != session.file_id
        async with RtcClient(saver, new, name="eve") as eve:
            assert eve.sources == ["second"]
