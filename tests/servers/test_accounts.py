"""Two servers under two accounts of the operating system, on one folder."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.accounts import (
    ANN,
    BOB,
    CARL,
    GROUP,
    Account,
    group_folder,
    needs_accounts,
    open_to_accounts,
)
from support.cluster import assert_no_errors, saver_of
from support.jupyter_process import JupyterProcess
from support.notebooks import file_sources, write_notebook
from support.redis_server import RedisServer
from support.rtc_client import RtcClient
from support.waiting import until

MakeOwn = Callable[[Account, Path], Awaitable[JupyterProcess]]


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that all accounts can reach."""
    needs_accounts()
    with open_to_accounts() as folder:
        yield folder


@pytest.fixture
async def make_own(redis_server: RedisServer, top: Path) -> AsyncIterator[MakeOwn]:
    """Start a server under an account, on a folder beside which it keeps its own files."""
    made: list[JupyterProcess] = []

    async def make(account: Account, folder: Path) -> JupyterProcess:
        name = {ANN: "ann", BOB: "bob"}[account]
        server = JupyterProcess(
            folder,
            work_dir=folder.parent / name,
            name=name,
            redis_url=redis_server.url,
            account=account,
            config={"ServerApp": {"jpserver_extensions": {"support.dying_writer": True}}},
            env={"DIE_WHILE_WRITING": str(folder.parent / f"{name} dies")},
        )
        made.append(server)
        return await server.start()

    try:
        yield make
    finally:
        for server in made:
            server.terminate()
            print(f"\n--- the end of the log of {server.name}\n{server.log_tail()}")


def notebook(path: Path, mode: int = 0o664) -> Path:
    write_notebook(path, ["x" * 200_000])
    os.chown(path, ANN.user, GROUP)
    path.chmod(mode)
    return path


def read_for_long(path: Path, done: Path) -> tuple[int, int]:
    """How many reads find no whole notebook, and how many one."""
    broken = whole = 0
    while not done.exists():
        try:
            json.loads(path.read_text())
            whole += 1
        except ValueError:
            broken += 1
    return broken, whole


async def test_everybody_reads_whole_what_members_save_in_turn(
    make_own: MakeOwn, top: Path
) -> None:
    folder = group_folder(top / "group")
    path = notebook(folder / "plan.ipynb")
    ann_server, bob_server = [await make_own(each, folder) for each in (ANN, BOB)]
    session = await ann_server.session("plan.ipynb")
    reader = CARL.start(lambda: read_for_long(path, top / "done"))
    owners: set[int] = set()
    async with (
        RtcClient(ann_server, session, name="ann") as ann,
        RtcClient(bob_server, session, name="bob") as bob,
    ):

        def saved() -> bool:
            return bool(file_sources(path) == ann.sources == bob.sources)

        for number in range(6):
            (ann, bob)[number % 2].write(f" {number}")
            await until(saved, what="the saved file")
            owners.add(path.stat().st_uid)
            saver, _ = await saver_of([ann_server, bob_server], session.room_id)
            if number == 2:
                await saver.restart()
                await until(lambda: ann.synced and bob.synced, what="everybody back")
    (top / "done").touch()
    broken, whole = reader.result()
    assert not broken
    assert whole
    assert owners == {ANN.user, BOB.user}
    assert path.stat().st_gid == GROUP
    for account in (ANN, BOB, CARL):
        account.run(lambda: os.close(os.open(path, os.O_RDWR)))
    assert sorted(set(os.listdir(folder)) - {".ipynb_checkpoints"}) == ["plan.ipynb"]
    assert_no_errors(ann_server, bob_server)


@pytest.mark.parametrize("mode", [0o3775, 0o755], ids=["sticky", "closed"])
async def test_a_save_that_was_cut_off_is_finished_by_another_accounts_server(
    make_own: MakeOwn, top: Path, mode: int
) -> None:
    """In a folder where nobody can replace another's file."""
    folder = group_folder(top / "group", mode)
    os.chown(folder, 0, GROUP)
    path = notebook(folder / "plan.ipynb")
    bob_server = await make_own(BOB, folder)
    session = await bob_server.session("plan.ipynb")
    async with RtcClient(bob_server, session, name="bob") as bob:
        (top / "bob dies").touch()
        bob.write(" by bob")
        await until(lambda: not bob_server.running, what="the end of bob's server")
        expected = bob.sources
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(path.read_text())
    ann_server = await make_own(ANN, folder)
    async with RtcClient(ann_server, await ann_server.session("plan.ipynb"), name="ann") as ann:
        assert ann.sources == expected
        await until(lambda: file_sources(path) == expected, 20, what="the finished file")
        ann.write(" and ann")
        await until(lambda: file_sources(path) == ann.sources, what="the saved file")
    assert path.stat().st_uid == ANN.user
    assert not [name for name in os.listdir(folder) if "conflict" in name]
    assert_no_errors(ann_server)
