"""A save that fails is told to everybody, with its reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support.cluster import saver_of
from support.rtc_client import RtcClient, equal
from support.told import Console
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess

LIMIT_BYTES = 200_000
REASON = "File too large"


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2)")
async def test_why_a_save_fails_is_told_on_every_server(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path
) -> None:
    import resource

    path = shared_folder / "large.txt"
    path.write_text("small")
    session = await servers[0].session("large.txt", "text", "file")
    async with (
        Console(servers[0]) as on_a,
        Console(servers[1]) as on_b,
        RtcClient(servers[0], session, name="ann") as ann,
        RtcClient(servers[1], session, name="bob") as bob,
    ):
        saver, _ = await saver_of(servers, session.room_id)
        assert saver.pid is not None
        before = resource.prlimit(saver.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(saver.pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, before[1]))
        ann.write("x" * (2 * LIMIT_BYTES))
        for console in (on_a, on_b):
            await console.wait("large.txt", REASON)
        for client in (ann, bob):
            assert (await client.save())["status"] == "failed"
        assert path.read_text() == "small"
        bob.write("!")
        await equal([ann, bob])
        resource.prlimit(saver.pid, resource.RLIMIT_FSIZE, before)
        await until(lambda: path.read_text() == ann.text, what="the next save")
        for console in (on_a, on_b):
            await console.wait("large.txt", "Content saved.")
