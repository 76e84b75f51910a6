"""Who saves, and when."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest
from support.cluster import assert_no_out_of_band, saver_of
from support.fixtures import start_pair
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

SAVE_CEILING_SECONDS = 4


@pytest.mark.parametrize("on_saver", [True, False], ids=["saver", "not-saver"])
async def test_ctrl_s(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path, on_saver: bool
):
    path = shared_folder / "manual.ipynb"
    write_notebook(path, ["start"])
    pair = await start_pair(
        make_server, redis_server, config={"YDocExtension": {"document_save_delay": 60}}
    )
    session = await pair[0].session("manual.ipynb")
    async with (
        RtcClient(pair[0], session, name="ann") as ann,
        RtcClient(pair[1], session, name="bob") as bob,
    ):
        saver, _ = await saver_of(pair, session.room_id)
        on_the_saver, elsewhere = (ann, bob) if saver is pair[0] else (bob, ann)
        author = on_the_saver if on_saver else elsewhere
        author.write(" and an edit")
        reply = await author.save(timeout=5)
        assert reply["type"] == "save"
        assert reply["status"] == "success", reply
        assert file_sources(path) == ["start and an edit"]
        await equal([ann, bob])
        # A second save has nothing new to write and is answered all the same.
        assert (await author.save(timeout=5))["status"] in ("success", "skipped")
    assert_no_out_of_band(*pair)


async def test_typist_who_never_pauses_is_saved(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "restless.ipynb"
    write_notebook(path, [""])
    config = {"TeleportalExtension": {"save_ceiling_s": SAVE_CEILING_SECONDS}}
    a, b = await start_pair(make_server, redis_server, config=config)
    session = await a.session("restless.ipynb")
    async with RtcClient(a, session, name="ann") as ann, RtcClient(b, session, name="bob"):
        started = time.monotonic()

        async def type_for_ever() -> None:
            for number in itertools.count():
                await asyncio.sleep(0.2)
                ann.write(f"{number} ")

        typing = asyncio.create_task(type_for_ever())
        try:
            await until(
                lambda: (file_sources(path) or [""])[0] != "",
                timeout=SAVE_CEILING_SECONDS + 2,
                what="a save while somebody types",
            )
            assert time.monotonic() - started > 1
        finally:
            typing.cancel()
        await until(lambda: file_sources(path) == ann.sources, timeout=5, what="the last save")
    assert_no_out_of_band(a, b)


async def test_change_from_outside_reaches_all(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "outside.txt"
    path.write_text("one\n")
    a, b = servers
    session = await a.session("outside.txt", "text", "file")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        ann.write("two\n")
        await until(lambda: path.read_text() == "one\ntwo\n", what="the saved file")
        # The watcher compares times of change, which some filesystems keep coarsely.
        await asyncio.sleep(1.1)
        path.write_text("one\ntwo\nfrom outside\n")
        await until(lambda: "from outside" in ann.text, what="the change on a")
        await equal([ann, bob])
        assert bob.text == "one\ntwo\nfrom outside\n"
        bob.write("three\n")
        await until(
            lambda: path.read_text() == "one\ntwo\nfrom outside\nthree\n", what="the last save"
        )


@pytest.mark.parametrize("how", ["older", "linked", "reverted"])
async def test_change_from_outside_that_shows_no_later_time(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path, how: str
):
    """As with `mv`, `cp -p`, `rsync -t` and Revert to Checkpoint, or behind a link."""
    a, b = servers
    path = shared_folder / "outside.txt"
    path.write_text("one\n")
    name = "outside.txt"
    if how == "linked":
        (shared_folder / "link.txt").symlink_to("outside.txt")
        name = "link.txt"
    session = await a.session(name, "text", "file")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        if how == "reverted":
            made = await a.call("POST", f"/api/contents/{name}/checkpoints")
        ann.write("two\n")
        await until(lambda: path.read_text() == "one\ntwo\n", what="the saved file")
        # What is written right behind the save might be of the same time.
        await asyncio.sleep(1.1)
        if how == "older":
            other = shared_folder / "other"
            other.write_text("one\ntwo\nfrom outside\n")
            long_ago = path.stat().st_mtime - 3600
            os.utime(other, (long_ago, long_ago))
            other.rename(path)
        elif how == "linked":
            path.write_text("one\ntwo\nfrom outside\n")
        else:
            await b.call("POST", f"/api/contents/{name}/checkpoints/{made['id']}")
        wanted = "one\n" if how == "reverted" else "one\ntwo\nfrom outside\n"
        await until(lambda: ann.text == bob.text == wanted, what="the change on both")
        bob.write("three\n")
        await until(lambda: path.read_text() == wanted + "three\n", what="the last save")


async def test_autosave_is_off_only_where_all_users_say_so(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "autosave.ipynb"
    write_notebook(path, ["x"])
    a, b = servers
    session = await a.session("autosave.ipynb")
    async with (
        RtcClient(a, session, name="ann", autosave=False) as ann,
        RtcClient(b, session, name="bob", autosave=True) as bob,
    ):
        await until(lambda: "bob" in ann.remote_users(), what="bob's name on a")
        ann.write("1")
        await equal([ann, bob])
        await until(lambda: file_sources(path) == ["x1"], timeout=5, what="an autosave")


async def test_dirty_mark_goes_with_the_save(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    write_notebook(shared_folder / "dirty.ipynb", ["x"])
    a, b = servers
    session = await a.session("dirty.ipynb")
    async with (
        RtcClient(a, session, name="ann") as ann,
        RtcClient(b, session, name="bob") as bob,
    ):
        for client in (ann, bob):
            client.write("1")
            client.document.dirty = True
            await until(
                lambda: ann.document.dirty is False and bob.document.dirty is False,
                timeout=5,
                what="clean documents after an edit",
            )
        # As upstream: also where nothing but the mark itself has changed.
        for client in (ann, bob):
            client.document.dirty = True
            await until(
                lambda: ann.document.dirty is False and bob.document.dirty is False,
                timeout=5,
                what=f"clean documents after {client.name} has set the mark",
            )
