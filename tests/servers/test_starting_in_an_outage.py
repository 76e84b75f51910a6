"""Servers that start while Redis is away, and do not know what was renamed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.cluster import transport_state, wait_connected
from support.notebooks import file_sources, notebooks_in, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer


async def away(server: JupyterProcess) -> bool:
    return await transport_state(server) != "connected"


async def test_a_server_that_starts_again_knows_which_documents_were_renamed(
    servers: tuple[JupyterProcess, JupyterProcess], redis_server: RedisServer, shared_folder: Path
):
    a, b = servers
    write_notebook(shared_folder / "old.ipynb", ["first"])
    session = await a.session("old.ipynb")
    await a.rename("old.ipynb", "new.ipynb")

    async def heard() -> bool:
        return (await b.session("new.ipynb")).file_id == session.file_id

    await until(heard, what="the rename on the other server")
    redis_server.kill()
    await until(lambda: away(a), what="the outage")
    for server in (a, b):
        await server.restart()
        assert (await server.session("new.ipynb")).file_id == session.file_id
        assert (await server.session("old.ipynb")).file_id != session.file_id


async def test_what_was_written_under_another_id_goes_to_the_document(
    make_server: MakeServer,
    servers: tuple[JupyterProcess, JupyterProcess],
    redis_server: RedisServer,
    shared_folder: Path,
):
    """A server that has never heard of the rename opens the file during an outage."""
    a, _ = servers
    write_notebook(shared_folder / "old.ipynb", ["first"])
    session = await a.session("old.ipynb")
    async with RtcClient(a, session, name="ann") as ann:
        await a.rename("old.ipynb", "new.ipynb")
        await until(lambda: ann.path == "new.ipynb", what="the rename")
        redis_server.kill()
        await until(lambda: away(a), what="the outage")
        c = await make_server(redis_server=redis_server)
        other = await c.session("new.ipynb")
        assert other.file_id != session.file_id
        async with RtcClient(c, other, name="eve") as eve:
            eve.write(" of eve")
            await until(
                lambda: file_sources(shared_folder / "new.ipynb") == ["first of eve"],
                what="what is saved during the outage",
            )
            eve.write(" again")
            ann.write(" of ann")
            redis_server.start()
            await until(lambda: eve.asked_to_reload, 20, what="that the tab is asked to reopen")
        await wait_connected(*servers, c)
        assert await c.session("new.ipynb") == session
        async with RtcClient(c, session, name="eve again") as again:
            await until(
                lambda: all(text in ann.sources[0] for text in (" of eve", " again", " of ann")),
                what="what was written on the server alone",
            )
            await equal([ann, again])
            (text,) = ann.sources
            assert len(text) == len("first of eve again of ann")
            await until(
                lambda: file_sources(shared_folder / "new.ipynb") == [text], what="the file"
            )
    assert notebooks_in(shared_folder) == ["new.ipynb"]
