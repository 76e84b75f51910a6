"""What a client puts into a notebook keeps nobody's words from the file."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import nbformat
from pycrdt import Map, Text
from support.cluster import assert_no_out_of_band
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess

SAVED_SECONDS = 10


async def test_others_words_are_saved_whatever_a_client_puts_into_a_notebook(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
) -> None:
    path = shared_folder / "victim.ipynb"
    write_notebook(path, ["begin"])
    session = await servers[0].session("victim.ipynb")
    async with (
        RtcClient(servers[0], session, name="ann") as ann,
        RtcClient(servers[1], session, name="eve") as eve,
    ):
        own = ann.notebook.ycells[0]["source"]
        with eve.doc.transaction():
            for foreign in (3, None, Text("words of no cell")):
                eve.notebook.ycells.insert(0, foreign)
            eve.notebook._ymeta["nbformat"] = "four"
            eve.notebook._ymeta["metadata"]["n"] = math.nan
        await until(lambda: len(ann.notebook.ycells) >= 2, what="it has come")
        own += " and after"
        await until(
            lambda: "begin and after" in (file_sources(path) or []),
            timeout=SAVED_SECONDS,
            what="the other's words on disk",
        )
        assert file_sources(path) == ["words of no cell", "begin and after"]
        notebook = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
        nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]

        def shown(client: RtcClient) -> bool:
            return all(isinstance(cell, Map) for cell in client.notebook.ycells)

        await until(lambda: shown(ann) and shown(eve), what="cells that a browser shows")
        assert ann.sources == file_sources(path)
        complaints: list[dict[str, Any]] = []
        for server in servers:
            complaints += (await server.status())["complaints"]
        told = [c["message"] for c in complaints if c["subject"].startswith("repaired ")]
        assert len(told) == 1, "one server saves, and says so"
        assert "3 is no cell and is left out" in told[0]
    assert_no_out_of_band(*servers)
