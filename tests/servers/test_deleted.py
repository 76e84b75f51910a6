"""A file or a folder is deleted while its document is open on two servers."""

from __future__ import annotations

import json
import shutil
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from support.cluster import assert_no_out_of_band
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.told import Console
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer

    Pair = tuple[JupyterProcess, JupyterProcess]

PATH = "sub/doc.ipynb"
DELETED = "The file was deleted."


class Open:
    """The document, open on both servers, with its users' log consoles. Use as a context."""

    def __init__(self, servers: Pair, folder: Path) -> None:
        self.servers = servers
        self.file = folder / PATH
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Open:
        write_notebook(self.file, ["base"])
        self.session = await self.servers[0].session(PATH)
        enter = self._stack.enter_async_context
        self.consoles = [await enter(Console(server)) for server in self.servers]
        self.ann, self.bob = [
            await enter(RtcClient(server, self.session, name=name))
            for server, name in zip(self.servers, ("ann", "bob"), strict=True)
        ]
        self.ann.write(" 1")
        await until(lambda: file_sources(self.file) == ["base 1"], what="the first save")
        await equal([self.ann, self.bob])
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def delete(self, how: str, *, folder: bool = False) -> None:
        if how == "program":
            if folder:
                shutil.rmtree(self.file.parent)
            else:
                self.file.unlink()
        else:
            server = self.servers["ab".index(how)]
            await server.delete(PATH.split("/")[0] if folder else PATH)
        assert not self.file.exists()

    async def all_are_told(self, part: str) -> None:
        for console in self.consoles:
            await console.wait(PATH, part)

    async def all_go_on(self) -> None:
        self.ann.write(" of a")
        self.bob.write(" of b")
        await equal([self.ann, self.bob])
        assert all(" of a" in each.sources[0] for each in (self.ann, self.bob))
        assert all(" of b" in each.sources[0] for each in (self.ann, self.bob))


HOW = pytest.mark.parametrize("how", ["a", "b", "program"])


@HOW
async def test_a_deleted_file_is_saved_where_somebody_asks_and_not_before(
    servers: Pair, shared_folder: Path, how: str
) -> None:
    async with Open(servers, shared_folder) as doc:
        await doc.delete(how)
        await doc.all_are_told(DELETED)
        await doc.all_go_on()
        await holds(lambda: not doc.file.exists(), seconds=3, what="the absence of the file")
        # Not on the server that has saved it so far.
        assert (await doc.bob.save())["status"] == "success"
        assert file_sources(doc.file) == doc.ann.sources
        for server in servers:
            assert await server.session(PATH) == doc.session, "it is the same document"
        doc.ann.write("!")
        await until(lambda: file_sources(doc.file) == doc.ann.sources, what="the next save")
        await equal([doc.ann, doc.bob])
        for client in (doc.ann, doc.bob):
            client.assert_undisturbed()
            assert not client.closures
        assert not list(doc.file.parent.glob("*conflict*"))
    assert_no_out_of_band(*servers)


@HOW
async def test_a_document_whose_folder_is_deleted_says_why_it_is_not_saved(
    servers: Pair, shared_folder: Path, how: str
) -> None:
    async with Open(servers, shared_folder) as doc:
        await doc.delete(how, folder=True)
        await doc.all_are_told(DELETED)
        await doc.all_go_on()
        for client in (doc.ann, doc.bob):
            assert (await client.save())["status"] == "failed"
        await doc.all_are_told("so was its folder, sub; keep it with Save As")
        assert not doc.file.parent.exists()
        doc.file.parent.mkdir()
        assert (await doc.bob.save())["status"] == "success"
        await until(lambda: file_sources(doc.file) == doc.ann.sources, what="the saved file")
        await equal([doc.ann, doc.bob])


async def test_a_document_deleted_in_an_outage_goes_on_together_after_it(
    servers: Pair, shared_folder: Path, redis_server: RedisServer
) -> None:
    async with Open(servers, shared_folder) as doc:
        redis_server.kill()
        await doc.delete("b")
        await doc.all_are_told(DELETED)
        redis_server.start()
        await doc.all_go_on()
        assert not doc.file.exists()
        assert (await doc.ann.save())["status"] == "success"
        await until(lambda: file_sources(doc.file) == doc.ann.sources, what="the saved file")
        for server in servers:
            assert await server.session(PATH) == doc.session, "it is the same document"


@HOW
async def test_another_file_at_a_deleted_ones_place_takes_nothing_from_anybody(
    servers: Pair, shared_folder: Path, how: str
) -> None:
    a, b = servers
    async with Open(servers, shared_folder) as doc:
        await doc.delete(how)
        await doc.all_are_told(DELETED)
        await doc.all_go_on()
        edited = doc.ann.sources
        other = write_notebook(doc.file.parent / "other.ipynb", ["other"])
        if how == "program":
            # The same document: it takes the change over.
            doc.file.write_text(json.dumps(other))
            await until(lambda: "other" in doc.bob.text, what="the change")
            await equal([doc.ann, doc.bob])
            assert doc.ann.text.count(" of a") == 1
            kept = list(doc.file.parent.glob("doc (conflict*.ipynb"))
            assert [file_sources(copy) for copy in kept] == [edited]
            return
        await b.save_file(PATH, other, type="notebook")
        new = await a.session(PATH)
        assert new.file_id != doc.session.file_id
        assert await b.session(PATH) == new
        async with RtcClient(a, new, name="eve") as eve, RtcClient(b, new, name="joe") as joe:
            await doc.all_are_told("another file is at its place now; keep it with Save As")
            for client in (doc.ann, doc.bob):
                assert (await client.save())["status"] == "failed"
            joe.write("!")
            doc.bob.write(" more")
            await equal([eve, joe])
            await equal([doc.ann, doc.bob])
            await until(lambda: file_sources(doc.file) == ["other!"], what="the new file")
            assert eve.sources == ["other!"]
            assert doc.ann.sources == [edited[0] + " more"]
        assert not list(doc.file.parent.glob("*conflict*"))


async def test_a_deleted_file_that_is_put_back_by_request_is_the_same_document(
    servers: Pair, shared_folder: Path
) -> None:
    """JupyterLab sends the whole file where it has lost the room."""
    async with Open(servers, shared_folder) as doc:
        await doc.delete("a")
        await doc.all_are_told(DELETED)
        await doc.all_go_on()
        await servers[1].save_file(PATH, doc.bob.notebook.get(), type="notebook")
        await doc.all_are_told("The file is there again.")
        doc.ann.write("!")
        await equal([doc.ann, doc.bob])
        await until(lambda: file_sources(doc.file) == doc.ann.sources, what="the next save")
        for server in servers:
            assert await server.session(PATH) == doc.session
        assert not list(doc.file.parent.glob("*conflict*"))
