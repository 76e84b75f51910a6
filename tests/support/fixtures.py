"""The fixtures of the acceptance tests, imported by `conftest.py`."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.jupyter_process import JupyterProcess
from support.processes import GRACE_SECONDS
from support.redis_server import RedisServer

CONFINED_TO = ("default", "mine", "s", "share", "team1", "team2")
"""The shares that tests share."""

MakeServer = Callable[..., Awaitable[JupyterProcess]]


@pytest.fixture
def seed() -> int:
    """A random seed, printed so that a failed run can be repeated: TELEPORTAL_SEED sets it."""
    value = int(os.environ.get("TELEPORTAL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"TELEPORTAL_SEED={value}")
    random.seed(value)
    return value


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A started Redis with an append-only file."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def confined_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A started Redis whose `url` is that of an account with the rights that a hub gives."""
    server = RedisServer(tmp_path / "redis", shares=CONFINED_TO)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A started Redis that speaks TLS alone."""
    server = RedisServer(tmp_path / "redis", tls=True)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def shared_folder(tmp_path: Path) -> Path:
    """The folder that servers serve."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def artefacts(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where a test leaves screenshots and logs: a folder in TELEPORTAL_ARTEFACTS, or temporary."""
    base = os.environ.get("TELEPORTAL_ARTEFACTS")
    folder = Path(base) / request.node.name if base else tmp_path / "artefacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def make_server(
    tmp_path: Path, shared_folder: Path, request: pytest.FixtureRequest
) -> AsyncIterator[MakeServer]:
    """Make (and by default start) servers; all are stopped at the end.

    `await make_server(redis_url=…, start=True, root_dir=shared_folder, name=…, **JupyterProcess)`
    """
    if "redis_server" in request.fixturenames:
        # Set up first, so that it outlives the servers: they leave faster with it.
        request.getfixturevalue("redis_server")
    made: list[JupyterProcess] = []
    names = (f"server-{letter}" for letter in itertools.chain("abcdefgh"))

    async def make(
        *,
        start: bool = True,
        root_dir: Path | None = None,
        name: str | None = None,
        redis_server: RedisServer | None = None,
        **options: Any,
    ) -> JupyterProcess:
        name = name or next(names)
        if redis_server is not None:
            options.setdefault("redis_url", redis_server.url)
        server = JupyterProcess(
            root_dir or shared_folder, work_dir=tmp_path / name, name=name, **options
        )
        made.append(server)
        if start:
            await server.start()
        return server

    try:
        yield make
    finally:
        for server in made:
            with contextlib.suppress(ProcessLookupError):
                server.ask_to_stop()
        deadline = time.monotonic() + GRACE_SECONDS
        for server in made:
            server.terminate(max(0.0, deadline - time.monotonic()))
        if _failed(request.node):
            for server in made:
                print(f"\n--- the end of the log of {server.name}\n{server.log_tail()}")


@pytest.fixture
async def servers(
    make_server: MakeServer, redis_server: RedisServer
) -> tuple[JupyterProcess, JupyterProcess]:
    """Two servers on one folder and one Redis."""
    return await start_pair(make_server, redis_server)


async def start_pair(
    make_server: MakeServer, redis_server: RedisServer, **options: Any
) -> tuple[JupyterProcess, JupyterProcess]:
    """Two servers with the same options, started at the same time."""
    first, second = [
        await make_server(start=False, redis_server=redis_server, **options) for _ in range(2)
    ]
    await first.launch()
    await second.launch()
    await first.wait_until_up()
    await second.wait_until_up()
    return first, second


OUTCOMES: pytest.StashKey[dict[str, pytest.TestReport]] = pytest.StashKey()


def _failed(node: pytest.Item) -> bool:
    reports = node.stash.get(OUTCOMES, {})
    return any(report.failed for report in reports.values())
