"""Two versions side by side, as while servers are upgraded one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.cluster import assert_no_errors, saver_of
from support.newer_version import VARIABLE
from support.notebooks import file_sources, write_notebook
from support.rtc_client import RtcClient, equal
from support.waiting import holds, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.jupyter_process import JupyterProcess
    from support.redis_server import RedisServer


async def start_newer(
    make_server: MakeServer, redis_server: RedisServer, in_which_way: str
) -> JupyterProcess:
    return await make_server(
        redis_server=redis_server,
        env={VARIABLE: in_which_way},
        config={"ServerApp": {"jpserver_extensions": {"support.newer_version": True}}},
    )


@pytest.mark.parametrize("in_which_way", ["kinds", "announcements"])
async def test_messages_of_a_newer_version_are_passed_over_and_counted(
    make_server: MakeServer,
    redis_server: RedisServer,
    shared_folder: Path,
    in_which_way: str,
):
    path = shared_folder / "both.ipynb"
    write_notebook(path, [""])
    old = await make_server(redis_server=redis_server)
    new = await start_newer(make_server, redis_server, in_which_way)
    session = await old.session("both.ipynb")
    async with (
        RtcClient(old, session, name="ann") as ann,
        RtcClient(new, session, name="bob") as bob,
    ):
        for number in range(5):
            ann.write(f"old{number} ")
            bob.write(f"new{number} ")
        await equal([ann, bob])
        text = ann.sources[0]
        for number in range(5):
            assert text.count(f"old{number} ") == text.count(f"new{number} ") == 1
        await until(lambda: file_sources(path) == [text], timeout=15, what="the saved file")
        status = await old.status()
        # Edits that come quickly travel together, so nobody knows how many messages there are.
        assert status["counters"]["envelopes"] >= 2
        said = [one["message"] for one in status["complaints"]]
        assert any("version 2" in message or "kind b'Z'" in message for message in said)
        # Said once, however often it was met.
        assert len(old.grep("cannot be read are passed over")) <= 3
        assert_no_errors(old, new)


async def test_what_only_the_newer_version_reads_is_saved_by_it_alone(
    make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
):
    path = shared_folder / "newer.ipynb"
    write_notebook(path, [""])
    old = await make_server(redis_server=redis_server)
    session = await old.session("newer.ipynb")
    async with RtcClient(old, session, name="ann") as ann:
        ann.write("old ")
        await saver_of([old], session.room_id)
        await until(lambda: file_sources(path) == ["old "], what="the old one's save")
        new = await start_newer(make_server, redis_server, "payloads")
        async with RtcClient(new, session, name="bob") as bob:
            assert bob.sources == ["old "]
            bob.write("new ")
            await until(lambda: file_sources(path) == ["old new "], timeout=15, what="its save")
            saver, _ = await saver_of([new], session.room_id)
            assert saver is new
            complaints = (await old.status())["complaints"]
            assert any("newer version" in one["message"] for one in complaints)
            # The old one's edits reach the newer one and the file all the same.
            ann.write("more ")
            await until(lambda: "more " in bob.sources[0], what="the old one's edit")
            await until(
                lambda: file_sources(path) == [bob.sources[0]], timeout=15, what="the saved file"
            )
            await holds(
                lambda: file_sources(path) == [bob.sources[0]], 3, what="the newer one's file"
            )
        assert_no_errors(old, new)
