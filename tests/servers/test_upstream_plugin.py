"""Upstream's pytest plugin and its fixtures, against servers with this extension on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.redis_server import RedisServer

SUITE = Path(__file__).parent / "upstream_suite"
PLUGINS = [
    *("-p", "no:asyncio"),
    *("-p", "no:anyio"),
    *("-p", "no:cacheprovider"),
    *("-p", "pytest_jupyter.jupyter_server"),
    *("-p", "jupyter_server_fileid.pytest_plugin"),
    *("-p", "jupyter_server_ydoc.pytest_plugin"),
]


@pytest.mark.parametrize("with_redis", [True, False], ids=["redis", "no-redis"])
def test_upstream_fixtures(redis_server: RedisServer, tmp_path: Path, with_redis: bool):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "PYTEST"))
    }
    if with_redis:
        environment["JUPYTER_TELEPORTAL_REDIS_URL"] = redis_server.url
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", *PLUGINS),
            *("-c", str(tmp_path / "pytest.ini"), f"--rootdir={SUITE}", f"--confcutdir={SUITE}"),
            *(f"--basetemp={tmp_path / 'runs'}", str(SUITE / "check_documents.py")),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    print(run.stdout[-20000:], run.stderr[-5000:])
    assert run.returncode == 0
    if with_redis:
        with redis_server.cli() as client:
            assert client.dbsize(), "the servers did not use Redis"
