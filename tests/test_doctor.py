"""`jupyter teleportal doctor`, as somebody types it, against a real Redis and real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.notebooks import write_notebook
from support.rtc_client import RtcClient
from support.tcp_proxy import TcpProxy
from support.waiting import until

from jupyter_teleportal.transports.base import MAP_ENTRIES_MAX
from jupyter_teleportal.transports.redis.accounts import COMMANDS, account_rules, hash_password

if TYPE_CHECKING:
    from support.fixtures import MakeServer
    from support.redis_server import RedisServer

PREFIX = "teleportal:sync:"


class Doctor:
    """The doctor in a folder of its own, without any configuration of the machine's."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self._folder = folder

    async def __call__(
        self, url: str, *arguments: str, server: tuple[str, ...] = ()
    ) -> tuple[int, dict[str, dict[str, str]]]:
        """Return the exit status, and the checks by their names."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jupyter_teleportal.tools.cli", "doctor", "--json", *arguments),
            *("--", f"--ServerApp.root_dir={self.root}", *server),
            env={
                **os.environ,
                "JUPYTER_TELEPORTAL_REDIS_URL": url,
                "JUPYTER_CONFIG_DIR": str(self._folder / "config"),
                "HOME": str(self._folder),
            },
            cwd=self._folder,
            stdout=subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        checks: list[dict[str, Any]] = json.loads(out)
        assert len({check["name"] for check in checks}) == len(checks)
        return process.returncode or 0, {check["name"]: check for check in checks}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


def failures(checks: dict[str, dict[str, str]]) -> set[str]:
    return {name for name, check in checks.items() if check["result"] == "failure"}


async def test_all_is_well(doctor: Doctor, redis_server: RedisServer) -> None:
    code, checks = await doctor(redis_server.url)
    assert code == 0
    results = {name: check["result"] for name, check in checks.items()}
    assert results.pop("WebSockets") == "skipped"
    assert results.pop("same folder: default") == "skipped"
    assert set(results.values()) == {"ok"}
    assert {"reachable", "TLS", "persistence", "rights: default", "API path: default"} <= set(
        results
    )


async def test_it_leaves_nothing_behind(doctor: Doctor, redis_server: RedisServer) -> None:
    await doctor(redis_server.url)
    with redis_server.cli() as client:
        for key in client.scan_iter():
            # What a second can leave is about to go.
            assert 0 < client.pttl(key) <= 1000


async def test_redis_that_forgets(doctor: Doctor, redis_server: RedisServer) -> None:
    with redis_server.cli() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("client-output-buffer-limit", "pubsub 65536 65536 60")
    code, checks = await doctor(redis_server.url)
    assert code == 1
    assert failures(checks) == {"persistence", "eviction", "pub/sub buffer"}
    assert "appendonly yes" in checks["persistence"]["mend"]


async def test_redis_that_is_not_there_or_not_open(
    doctor: Doctor, redis_server: RedisServer
) -> None:
    code, checks = await doctor(f"redis://nobody:wrong@127.0.0.1:{redis_server.port}")
    assert (code, failures(checks)) == (1, {"reachable"})
    assert "password" in checks["reachable"]["mend"]
    assert "wrong" not in checks["reachable"]["found"]

    code, checks = await doctor(f"rediss://127.0.0.1:{redis_server.port}")
    assert (code, failures(checks)) == (1, {"reachable"})

    redis_server.kill()
    code, checks = await doctor(redis_server.url)
    assert (code, failures(checks)) == (1, {"reachable"})
    assert "runs there" in checks["reachable"]["mend"]


async def test_redis_that_takes_no_writes_or_lacks_the_scripts(
    doctor: Doctor, redis_server: RedisServer
) -> None:
    with redis_server.cli() as client:
        rules = account_rules(PREFIX, ["default"], hash_password("secret"))
        client.execute_command("ACL", "SETUSER", "alice", *rules)
    code, checks = await doctor(f"redis://alice:secret@127.0.0.1:{redis_server.port}")
    assert (code, failures(checks)) == (1, {"reachable"})
    assert "hub" in checks["reachable"]["mend"]

    with redis_server.cli() as client:
        client.replicaof("127.0.0.1", 1)
    code, checks = await doctor(redis_server.url)
    assert (code, failures(checks)) == (1, {"reachable"})
    assert "primary" in checks["reachable"]["mend"]


async def test_rights_of_an_account(doctor: Doctor, redis_server: RedisServer) -> None:
    (doctor.root / "shared").mkdir()
    shares = ('--TeleportalExtension.shares={"shared": "team1"}',)
    url = f"redis://alice:secret@127.0.0.1:{redis_server.port}"
    rules = account_rules(PREFIX, ["team1"], hash_password("secret"))
    redis_server.load_scripts()
    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "alice", *rules)
    code, checks = await doctor(url, server=shares)
    assert (code, failures(checks)) == (0, set())
    assert checks["rights: team1"]["result"] == checks["rights: the cluster"]["result"] == "ok"
    # It may not look at these, which is as it should be.
    assert checks["persistence"]["result"] == "skipped"
    assert "administrator" in checks["persistence"]["mend"]

    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "alice", "-xadd")
    code, checks = await doctor(url, server=shares)
    assert (code, failures(checks)) == (1, {"rights: team1"})
    assert "begin a document" in checks["rights: team1"]["found"]

    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "alice", "+xadd", "-subscribe")
    _, checks = await doctor(url, server=shares)
    assert "listen" in checks["rights: team1"]["found"]

    # What a script needs besides, and what cleaning up does.
    for right in ("zadd", "zremrangebyscore", "pexpire", "set"):
        with redis_server.cli() as client:
            client.execute_command("ACL", "SETUSER", "alice", *rules, f"-{right}")
        code, checks = await doctor(url, server=shares)
        assert (code, failures(checks)) == (1, {"rights: team1"}), right
    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "alice", *rules)
        await until(
            lambda: not [key for key in client.scan_iter() if b"doctor" in key],
            what="nothing left behind",
        )

    # Another team's share.
    code, checks = await doctor(url, server=('--TeleportalExtension.shares={"shared": "team2"}',))
    assert "rights: team2" in failures(checks)


@pytest.mark.parametrize("right", COMMANDS)
async def test_a_right_that_an_account_lacks_is_noticed(
    doctor: Doctor, redis_server: RedisServer, right: str
) -> None:
    (doctor.root / "shared").mkdir()
    rules = account_rules(PREFIX, ["team1"], hash_password("secret"))
    redis_server.load_scripts()
    with redis_server.cli() as client:
        client.execute_command("ACL", "SETUSER", "alice", *rules, f"-{right}")
    # SELECT is sent only for another database than the first.
    database = 2 if right == "select" else 0
    code, checks = await doctor(
        f"redis://alice:secret@127.0.0.1:{redis_server.port}/{database}",
        server=('--TeleportalExtension.shares={"shared": "team1"}',),
    )
    assert code == 1
    lacking = failures(checks)
    assert lacking
    assert lacking <= {"reachable", "rights: the cluster", "rights: team1"}
    assert all("docs/protocol.md" in checks[name]["mend"] for name in lacking)


async def test_a_map_that_is_too_large_is_no_lack_of_rights(
    doctor: Doctor, redis_server: RedisServer
) -> None:
    with redis_server.cli() as client:
        for name in ("files", "paths"):
            fields = {str(n): "x" for n in range(MAP_ENTRIES_MAX + 1)}
            client.hset(f"{PREFIX}default:{name}", mapping=fields)
    code, checks = await doctor(redis_server.url)
    assert (code, failures(checks)) == (0, set())
    assert checks["same folder: default"]["result"] == "warning"
    assert "`about`" in checks["same folder: default"]["mend"]


async def test_settings_and_folders(doctor: Doctor, redis_server: RedisServer) -> None:
    code, checks = await doctor("")
    assert (code, failures(checks)) == (1, {"settings"})
    assert "redis_url" in checks["settings"]["mend"]

    code, checks = await doctor(
        redis_server.url, server=('--TeleportalExtension.shares={"shared": "team 1"}',)
    )
    assert (code, failures(checks)) == (1, {"settings"})
    assert "team 1" in checks["settings"]["found"]

    code, checks = await doctor(
        redis_server.url, server=('--TeleportalExtension.shares={"absent": "team1"}',)
    )
    assert (code, failures(checks)) == (1, {"folder: team1"})


async def test_another_folder_than_the_other_servers(
    doctor: Doctor, make_server: MakeServer, redis_server: RedisServer, shared_folder: Path
) -> None:
    (shared_folder / "shared").mkdir()
    write_notebook(shared_folder / "shared" / "one.ipynb", ["x"])
    server = await make_server(redis_server=redis_server, shares={"shared": "team1"})
    async with RtcClient(server, await server.session("shared/one.ipynb")):
        for folder in ("shared", "elsewhere"):
            (doctor.root / folder).mkdir()
        _, checks = await doctor(
            redis_server.url, server=('--TeleportalExtension.shares={"elsewhere": "team1"}',)
        )
        assert failures(checks) == {"API path: team1"}
        _, checks = await doctor(
            redis_server.url, server=('--TeleportalExtension.shares={"shared": "team1"}',)
        )
        assert failures(checks) == {"same folder: team1"}
        write_notebook(doctor.root / "shared" / "one.ipynb", ["x"])
        _, checks = await doctor(
            redis_server.url, server=('--TeleportalExtension.shares={"shared": "team1"}',)
        )
        assert failures(checks) == set()


async def test_extensions(doctor: Doctor, redis_server: RedisServer) -> None:
    extensions = {"jupyter_server_ydoc": False, "jupyter_server_documents": True}
    code, checks = await doctor(
        redis_server.url,
        server=tuple(
            f"--ServerApp.jpserver_extensions={name}={on}" for name, on in extensions.items()
        ),
    )
    assert code == 1
    assert failures(checks) == {f"extension: {name}" for name in extensions}


async def test_websockets_through_a_proxy(
    doctor: Doctor, make_server: MakeServer, redis_server: RedisServer
) -> None:
    server = await make_server(redis_server=redis_server)
    address = f"{server.url}/lab?token={server.token}"
    code, checks = await doctor(redis_server.url, "--url", address)
    assert (code, checks["WebSockets"]["result"]) == (0, "ok")

    async with TcpProxy(server.port) as proxy:
        through = address.replace(f":{server.port}", f":{proxy.port}")
        code, checks = await doctor(redis_server.url, "--url", through)
        assert (code, checks["WebSockets"]["result"]) == (0, "ok")

    async with StrippingProxy(server.port) as stripping:
        through = address.replace(f":{server.port}", f":{stripping.port}")
        code, checks = await doctor(redis_server.url, "--url", through)
        assert (code, failures(checks)) == (1, {"WebSockets"})
        assert "Upgrade" in checks["WebSockets"]["mend"]

    server.terminate()
    _, checks = await doctor(redis_server.url, "--url", address, "--timeout", "2")
    assert failures(checks) == {"WebSockets"}


class StrippingProxy:
    """A proxy that does not pass on the headers for the next hop, as HTTP has it."""

    def __init__(self, to: int) -> None:
        self._to = to

    async def __aenter__(self) -> StrippingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        kept = [line for line in head if not line.lower().startswith((b"upgrade:", b"connection:"))]
        there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        onward.write(b"\r\n".join([kept[0], b"Connection: close", *kept[1:]]))
        try:
            while data := await there.read(65536):
                writer.write(data)
        finally:
            onward.close()
            writer.close()
