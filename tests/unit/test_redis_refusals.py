"""What Redis' errors mean."""

from __future__ import annotations

import pytest

from jupyter_teleportal.transports.redis.refusals import serves_nobody, useless


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("READONLY You can't write against a read only replica.", "master"),
        ("ERR Error running script (call to f_1): @user_script: 1: -READONLY You can't", "master"),
        ("MISCONF Redis is configured to save RDB snapshots", "disk"),
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("MASTERDOWN Link with MASTER is down", "master"),
        ("MOVED 3999 127.0.0.1:6381", "Cluster"),
        ("CLUSTERDOWN Hash slot not served", "Cluster"),
        ("NOAUTH Authentication required.", "password"),
        ("ERR max number of clients reached", "maxclients"),
    ],
)
def test_errors_of_a_redis_that_serves_nobody(error: str, word: str) -> None:
    why = serves_nobody(error)
    assert why is not None
    assert word in why
    assert error in why


@pytest.mark.parametrize(
    "error",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOPERM No permissions to access a key",
        "ERR MOVEDX",
    ],
)
def test_errors_about_one_command_or_key(error: str) -> None:
    assert serves_nobody(error) is None
    assert error in useless(error)
