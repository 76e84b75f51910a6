"""A class opens a notebook that nobody has open, all at the same moment."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import nbformat
import pytest
from support.cluster import assert_no_errors
from support.notebooks import write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess

PEOPLE = 50


@pytest.mark.parametrize(
    ("servers_of", "made_by_each"),
    [("a", False), ("ab", True)],
    ids=["one-server", "two-servers-and-each-puts-it"],
)
async def test_a_class_opens_a_notebook(
    servers: tuple[JupyterProcess, JupyterProcess],
    shared_folder: Path,
    servers_of: str,
    made_by_each: bool,
) -> None:
    path = shared_folder / "class.ipynb"
    if not made_by_each:
        write_notebook(path, ["print(1)", "print(2)"], with_ids=False)
    content = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"print({number})") for number in (1, 2)]
    )
    body = {"type": "notebook", "format": "json", "content": content}
    chosen = [servers["ab".index(servers_of[n % len(servers_of)])] for n in range(PEOPLE)]

    async def open_it(server: JupyterProcess, name: str) -> RtcClient:
        if made_by_each:
            reply = await server.request("PUT", "/api/contents/class.ipynb", body=body)
            assert reply.status_code in (200, 201), reply.text
        client = RtcClient(server, await server.session("class.ipynb"), name=name)
        client.start()
        await client.wait_synced()
        return client

    began = time.monotonic()
    clients = await asyncio.gather(
        *(open_it(server, f"p{number}") for number, server in enumerate(chosen))
    )
    print(f"{PEOPLE} people have it after {time.monotonic() - began:.2f} s")
    try:
        assert len({client.room_id for client in clients}) == 1
        for number, client in enumerate(clients):
            client.write(f" #{number}", cell=number % 2)
        await equal(clients, timeout=15)
        written = "".join(clients[0].sources)
        assert len(clients[0].sources) == 2
        numbers = written.replace("print(1)", "").replace("print(2)", "").split(" #")
        assert sorted(map(int, filter(None, numbers))) == list(range(PEOPLE))
        await until(
            lambda: [c["source"] for c in nbformat.read(path, 4).cells] == clients[0].sources,
            timeout=15,
            what="the file",
        )
        for client in clients:
            client.assert_undisturbed()
            assert not client.closures
        assert [name for name in os.listdir(shared_folder) if name.startswith("class")] == [
            "class.ipynb"
        ]
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    assert_no_errors(*servers)
