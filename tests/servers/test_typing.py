"""People type at the same time on two servers."""

from __future__ import annotations

import asyncio
import string
from typing import TYPE_CHECKING

from support.cluster import assert_no_errors, assert_no_out_of_band
from support.fixtures import start_pair
from support.notebooks import file_sources, is_subsequence, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

SECONDS = 4
HZ = 10


async def test_two_clients_type_into_one_cell(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    path = shared_folder / "typing.ipynb"
    write_notebook(path, ["", "untouched"])
    a, b = servers
    lower = (string.ascii_lowercase * 2)[: SECONDS * HZ]
    upper = (string.ascii_uppercase * 2)[: SECONDS * HZ]
    async with (
        RtcClient(a, await a.session("typing.ipynb"), name="ann") as ann,
        RtcClient(b, await b.session("typing.ipynb"), name="bob") as bob,
    ):
        await asyncio.gather(ann.type_text(lower, hz=HZ), bob.type_text(upper, hz=HZ))
        await equal([ann, bob], timeout=1)
        typed = ann.sources[0]
        assert len(typed) == len(lower) + len(upper)
        assert is_subsequence(lower, typed)
        assert is_subsequence(upper, typed)
        # The save delay is 1 s; the rest is the work of the save itself.
        await until(lambda: file_sources(path) == ann.sources, timeout=3, what="the saved file")
        # Long enough for every watcher to look at the file again.
        await holds(
            lambda: ann.sources == bob.sources == [typed, "untouched"] == file_sources(path),
            seconds=3,
            what="the saved document",
        )
        for client in (ann, bob):
            client.assert_undisturbed()
            assert not client.closures
            # Upstream sends every update back to its author; other servers must not add to that.
            assert client.echoes <= client.own_updates
    assert_no_out_of_band(a, b)
    assert_no_errors(a, b)


async def test_all_kinds_of_edits_cross(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
):
    write_notebook(shared_folder / "edits.ipynb", ["first", "second", "third"])
    (shared_folder / "plain.txt").write_text("one\n")
    a, b = servers
    async with (
        RtcClient(a, await a.session("edits.ipynb"), name="ann") as ann,
        RtcClient(b, await b.session("edits.ipynb"), name="bob") as bob,
    ):
        ann.insert_cell("inserted", index=1)
        await equal([ann, bob], timeout=1)
        bob.move_cell(0, 3)
        await equal([ann, bob], timeout=1)
        ann.delete_cell(0)
        bob.set_output(1, "printed\n")
        await equal([ann, bob], timeout=1)
        assert ann.sources == ["second", "third", "first"]
        assert ann.cells[2]["outputs"] or ann.cells[1]["outputs"] or ann.cells[0]["outputs"]
        await until(
            lambda: file_sources(shared_folder / "edits.ipynb") == ann.sources,
            timeout=4,
            what="the saved file",
        )
    async with (
        RtcClient(a, await a.session("plain.txt", "text", "file"), name="ann") as ann,
        RtcClient(b, await b.session("plain.txt", "text", "file"), name="bob") as bob,
    ):
        ann.write("two\n")
        await equal([ann, bob], timeout=1)
        bob.write("three\n")
        await equal([ann, bob], timeout=1)
        await until(
            lambda: (shared_folder / "plain.txt").read_text() == "one\ntwo\nthree\n",
            timeout=4,
            what="the saved text file",
        )
    assert_no_out_of_band(a, b)


async def test_first_sync_on_another_server_has_the_latest_edit(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "fresh.ipynb"
    write_notebook(path, ["start "])
    a, b = await start_pair(
        make_server, redis_server, config={"YDocExtension": {"document_save_delay": 60}}
    )
    async with RtcClient(a, await a.session("fresh.ipynb"), name="ann") as ann:
        ann.write("edited just now")
        await ann.settle()
        async with RtcClient(b, await b.session("fresh.ipynb"), name="bob") as bob:
            assert isinstance(bob.first_sync, dict)
            assert [cell["source"] for cell in bob.first_sync["cells"]] == ["start edited just now"]
            assert file_sources(path) == ["start "], "saved too early for this test"
            bob.write(", and more")
            await equal([ann, bob], timeout=1)
            await holds(
                lambda: ann.sources == bob.sources == ["start edited just now, and more"],
                seconds=2.5,
                what="the unsaved edit",
            )
    assert_no_out_of_band(a, b)
