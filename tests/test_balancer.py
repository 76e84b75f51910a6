"""The balancer example: what nginx and HAProxy say of its configuration."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
from support.processes import free_port
from support.redis_server import require_binary

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "balancer"
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
"""Debian puts both balancers where not everybody looks."""


@pytest.mark.parametrize(("name", "flag"), [("nginx", "-t"), ("haproxy", "-c")])
def test_the_configuration_is_valid(name: str, flag: str, tmp_path: Path) -> None:
    binary = require_binary(name, path=PATH)
    spec = importlib.util.spec_from_file_location("balancer_example", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    names = ("SERVER_A", "SERVER_B", "SERVER_C", name.upper(), f"{name.upper()}_AFFINITY")
    process = getattr(run, name)(tmp_path, {n: f"127.0.0.1:{free_port()}" for n in names})
    done = subprocess.run(
        [binary, *process.command[1:], flag],
        env=process.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).lower()
    assert "warn" not in said
    assert "alert" not in said
