"""A short run of what a hostile client, and a hostile account of Redis, can do to two servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz.hostile_world import run

SEED = int(os.environ.get("JUPYTER_TELEPORTAL_FUZZ_SEED", "1"))
SECONDS = 25.0
MOST_WAIT_S = 2.0
"""Other tests run beside it; `python -m tests.fuzz.servers` on a quiet machine allows 0.5 s."""


@pytest.mark.timeout(SECONDS + 120)
async def test_nobody_else_is_harmed(tmp_path: Path) -> None:
    outcome = await run(SEED, SECONDS, tmp_path, most_wait_s=MOST_WAIT_S)
    print(outcome.summary())
    assert not outcome.problems, "\n".join([*outcome.story, *outcome.problems])
    assert len(outcome.story) > 20
    assert outcome.typed > 50
