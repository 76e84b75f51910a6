"""What the doctor makes of what it has found."""

from __future__ import annotations

import pytest

from jupyter_teleportal.tools import diagnosis
from jupyter_teleportal.tools.diagnosis import Check, Result
from jupyter_teleportal.transports.redis.refusals import CLUSTER, SCRIPTS_MISSING, SENTINEL, useless

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("WRONGPASS invalid username-password pair", "password"),
        ("Authentication required.", "password"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "rediss://"),
        ("Error -2 connecting to nowhere:6379. Name or service not known.", "host's name"),
        ("LOADING Redis is loading the dataset in memory", "wait"),
        ("Error 111 connecting to localhost:1. Connection refused.", "runs there"),
        (useless("READONLY You can't write against a read only replica."), "primary"),
        (useless("MOVED 1 127.0.0.1:1"), "no cluster"),
        (useless("MISCONF Redis is configured to save RDB snapshots"), "disk"),
        (useless("ERR max number of clients reached"), "maxclients"),
        (useless("NOPERM User x has no permissions to run the 'zrem' command"), "ACL SETUSER"),
        ("User x has no permissions to run the 'ping' command", "ACL SETUSER"),
        (CLUSTER, "no cluster"),
        (SENTINEL, "not a Sentinel"),
        (SCRIPTS_MISSING, "hub"),
    ],
)
def test_redis_that_cannot_be_used(reason: str, mend: str):
    check = diagnosis.unreachable("there:1", reason)
    assert check.result is Result.FAILURE
    assert reason in check.found
    assert mend in check.mend


@pytest.mark.parametrize("host", ["redis-2", "redis-auth", "ssl.example"])
def test_a_hosts_name_is_no_reason(host: str):
    reason = f"Error 111 connecting to {host}:6379. Connection refused."
    assert "runs there" in diagnosis.unreachable(f"{host}:6379", reason).mend


@pytest.mark.parametrize(
    ("check", "result"),
    [
        (diagnosis.transport_security(tls=True, local=False), Result.OK),
        (diagnosis.transport_security(tls=False, local=True), Result.OK),
        (diagnosis.transport_security(tls=False, local=False), Result.WARNING),
        (diagnosis.version({"redis_version": "6.0.16"}), Result.FAILURE),
        (diagnosis.version({"redis_version": "6.2.0"}), Result.OK),
        (diagnosis.version({"redis_version": "10.0.1"}), Result.OK),
        (diagnosis.version({"redis_version": "7.2.4", "valkey_version": "9.0.0"}), Result.OK),
        (diagnosis.role({"role": "master"}), Result.OK),
        (diagnosis.role({"role": "slave", "master_host": "h", "master_port": "1"}), Result.FAILURE),
        (diagnosis.persistence({"aof_enabled": "1"}), Result.OK),
        (diagnosis.persistence({"aof_enabled": "0"}), Result.FAILURE),
        (diagnosis.eviction({"maxmemory_policy": "noeviction", "maxmemory": "9"}), Result.OK),
        (diagnosis.eviction({"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}), Result.WARNING),
        (diagnosis.eviction({"maxmemory_policy": "allkeys-lru", "maxmemory": "9"}), Result.FAILURE),
        (diagnosis.pubsub_buffer(f"normal 0 0 0 pubsub {32 * MIB} 1 60"), Result.OK),
        (diagnosis.pubsub_buffer("normal 0 0 0 pubsub 0 0 0"), Result.OK),
        (diagnosis.pubsub_buffer(f"pubsub {8 * MIB} 1 60"), Result.WARNING),
        (diagnosis.pubsub_buffer("pubsub 65536 1 60"), Result.FAILURE),
        (diagnosis.pubsub_buffer(""), Result.SKIPPED),
        (diagnosis.latency([0.1, 0.2, 90.0]), Result.OK),
        (diagnosis.latency([30.0, 40.0, 0.1]), Result.WARNING),
        (diagnosis.clocks(-0.3), Result.OK),
        (diagnosis.clocks(-40.0), Result.WARNING),
        (diagnosis.refused("eviction", "NOPERM."), Result.SKIPPED),
        (diagnosis.rights("team1", {}), Result.OK),
        (diagnosis.rights("team1", {"append": "NOPERM xadd"}), Result.FAILURE),
        (
            diagnosis.folder("t", "/t", exists=False, readable=False, writable=False),
            Result.FAILURE,
        ),
        (
            diagnosis.folder("t", "/t", exists=True, readable=False, writable=False),
            Result.FAILURE,
        ),
        (diagnosis.folder("t", "/t", exists=True, readable=True, writable=False), Result.WARNING),
        (diagnosis.folder("t", "/t", exists=True, readable=True, writable=True), Result.OK),
        (diagnosis.api_path("t", "shared", None), Result.OK),
        (diagnosis.api_path("t", "shared", "shared"), Result.OK),
        (diagnosis.api_path("t", "shared", "other"), Result.FAILURE),
        (diagnosis.same_folder("t", 0, 0), Result.SKIPPED),
        (diagnosis.same_folder("t", 3, 0), Result.FAILURE),
        (diagnosis.same_folder("t", 3, 2), Result.OK),
        (diagnosis.websocket("http://x/", None, ""), Result.OK),
        (diagnosis.websocket("http://x/", 400, "HTTP 400"), Result.FAILURE),
        (diagnosis.websocket("http://x/", None, "nothing comes"), Result.FAILURE),
    ],
)
def test_verdicts(check: Check, result: Result):
    assert check.result is result
    assert check.found
    # Whatever is not well says how to mend it.
    assert bool(check.mend) == (result in (Result.WARNING, Result.FAILURE)) or (
        result is Result.SKIPPED
    )


def test_what_to_mend_is_named():
    assert "6.0" in diagnosis.version({"redis_version": "6.0.16"}).found
    assert "h:1" in diagnosis.role({"role": "slave", "master_host": "h", "master_port": "1"}).mend
    assert "append: NOPERM xadd" in diagnosis.rights("t", {"append": "NOPERM xadd"}).found
    assert "Upgrade" in diagnosis.websocket("http://x/", 400, "HTTP 400").mend
    assert "Host" in diagnosis.websocket("http://x/", 403, "HTTP 403").mend
