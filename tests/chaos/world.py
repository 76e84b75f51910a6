"""Everything that runs: Redis, a proxy before it for each server, the servers, and the tabs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.accounts import ANN, BOB, CARL, GROUP, may_become_others
from support.disks import Disk, can_mount, can_protect
from support.jupyter_process import JupyterProcess
from support.notebooks import write_notebook
from support.redis_server import RedisServer
from support.save_log import VARIABLE
from support.tcp_proxy import TcpProxy
from support.waiting import until

from .tabs import END, Tab

if TYPE_CHECKING:
    from .timeline import Timeline

# Tokens are counted strictly in the first two; other programs write the last two.
NOTEBOOKS = ("one.ipynb", "two.ipynb", "outside.ipynb")
TEXT = "notes.txt"
DOCUMENTS = (*NOTEBOOKS, TEXT)
FOREIGN = ("outside.ipynb", TEXT)
LETTERS = "abcdefgh"
HZ = 3.0
# What a document is called for a while.
AWAY = "away-"
DISK_BYTES = 2 << 30
# Members of one group, who take different permissions from what they make.
ACCOUNTS = (ANN, replace(BOB, umask=0o022), replace(CARL, umask=0o077))
# A copy takes less than a millisecond, and its reader may have to wait for a processor.
COPY_SECONDS = 2.0


def traits(seed: int) -> set[str]:
    """What the world of a run with this seed is like, as far as this machine allows it.

    `confined`: the servers' account has the rights in Redis that a hub gives. `accounts`: each
    server has an account of its own in the system. `disk`: the shared folder is a disk of its own.
    `protected`: files can be made read-only.
    """
    found = {
        "confined": bool(seed % 2),
        "accounts": bool(seed // 2 % 2) and may_become_others(),
        "disk": can_mount(),
        "protected": can_protect(),
    }
    return {name for name, there in found.items() if there}


class World:
    """One run's servers, Redis, documents and tabs, on `folder`."""

    def __init__(
        self, folder: Path, timeline: Timeline, *, seed: int, replicas: int, clients: int
    ) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.timeline = timeline
        self.seed = seed
        self.replicas = replicas
        self.clients = clients
        self.traits = traits(seed)
        self.disk: Disk | None = None
        self.copied_until = float("-inf")
        """When files may be torn for other programs; on the monotonic clock."""
        shares = ("default",) if "confined" in self.traits else ()
        self.redis = RedisServer(folder / "redis", shares=shares)
        self.proxies: list[TcpProxy] = []
        self.servers: list[JupyterProcess] = []
        self.typists: list[Tab] = []
        self.readers: list[Tab] = []
        self.guests: list[Tab] = []
        self.foreign_tokens: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self.stopped_at = float("-inf")
        self.baseline: dict[str, Any] = {}
        self.save_log = folder / "saves.jsonl"
        self._typing: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        self._make_files()
        self.redis.start()
        self._stack.callback(self.redis.kill)
        for letter in LETTERS[: self.replicas]:
            proxy = await self._stack.enter_async_context(TcpProxy(self.redis.port))
            self.proxies.append(proxy)
            number = len(self.servers)
            server = JupyterProcess(
                self.shared,
                account=ACCOUNTS[number % 3] if "accounts" in self.traits else None,
                work_dir=self.folder / letter,
                name=letter.upper(),
                redis_url=self.redis.url_at(proxy.port),
                probe=True,
                cookie_secret_file=self.folder / "cookie-secret",
                # With one arena, what is free can be given back before memory is compared: glibc
                # keeps up to 64 MB of each thread's arena, once large blocks have been in it.
                env={VARIABLE: str(self.save_log), "MALLOC_ARENA_MAX": "1"},
                config={
                    "ServerApp": {"jpserver_extensions": {"support.save_log": True}},
                    "YDocExtension": {"document_cleanup_delay": 10},
                },
            )
            self.servers.append(server)
            self._stack.callback(server.kill)
        await asyncio.gather(*map(self.start, self.servers))
        for server in self.servers:
            self.baseline[server.name] = await server.call("GET", "/api/probe/leftovers")
        await self._open_tabs()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop_typing()
        await asyncio.gather(*(tab.close(goodbye=False) for tab in self.tabs))
        await self._stack.aclose()

    def _make_files(self) -> None:
        self.shared.mkdir(parents=True)
        if "disk" in self.traits:
            self.disk = self._stack.enter_context(Disk(self.shared, DISK_BYTES))
        for name in NOTEBOOKS:
            write_notebook(self.shared / name, ["<seed>", "", ""])
        (self.shared / TEXT).write_text(f"<seed>\n{END}\n")
        if "accounts" not in self.traits:
            return
        # What several accounts need, and what belongs to the first of them.
        self.folder.chmod(0o755)
        self.save_log.touch()
        self.save_log.chmod(0o666)
        secret = self.folder / "cookie-secret"
        secret.write_text(random.Random(self.seed).randbytes(32).hex())
        secret.chmod(0o644)
        for path in (self.shared, *self.shared.iterdir()):
            os.chown(path, ANN.user, GROUP)
            path.chmod(0o2775 if path.is_dir() else 0o664)

    @property
    def tabs(self) -> list[Tab]:
        return [*self.typists, *self.readers, *self.guests]

    def tabs_on(self, document: str) -> list[Tab]:
        return [tab for tab in (*self.typists, *self.readers) if tab.file == document]

    def reader_of(self, document: str, pick: float) -> Tab:
        """One of those who only read this document."""
        tabs = [tab for tab in self.readers if tab.file == document]
        return tabs[int(pick * len(tabs))]

    async def start(self, server: JupyterProcess) -> None:
        self.starts[server.name] = self.starts.get(server.name, 0) + 1
        await server.start(60)

    def proxy_of(self, server: JupyterProcess) -> TcpProxy:
        return self.proxies[self.servers.index(server)]

    async def _open_tabs(self) -> None:
        sessions = {name: await self.servers[0].session(name) for name in NOTEBOOKS}
        sessions[TEXT] = await self.servers[0].session(TEXT, "text", "file")
        for number in range(self.clients):
            # Where a server dies, its typists go to the next one.
            at = number % self.replicas
            order = [*self.servers[at:], *self.servers[:at]]
            path = DOCUMENTS[number % len(DOCUMENTS)]
            self.typists.append(Tab(order, sessions[path], path, f"t{number + 1}", self.timeline))
        for server in self.servers:
            for path in DOCUMENTS:
                # One on each server, so that each server's document is seen, and stays open.
                name = f"{server.name}-{path.split('.')[0]}"
                self.readers.append(Tab([server], sessions[path], path, name, self.timeline))
        for tab in self.tabs:
            tab.start()
        await asyncio.gather(*(tab.wait_synced(30) for tab in self.tabs))
        self._typing = [
            asyncio.create_task(tab.type_for_ever(random.Random(f"{self.seed}/{tab.name}"), HZ))
            for tab in self.typists
        ]

    def pause(self) -> None:
        for tab in self.typists:
            tab.pause()

    def go_on(self) -> None:
        for tab in self.typists:
            tab.go_on()

    def stop_typing(self) -> None:
        for task in self._typing:
            task.cancel()

    # -- what a fault needs ----------------------------------------------------------------

    def others(self, server: JupyterProcess) -> list[JupyterProcess]:
        return [other for other in self.servers if other is not server]

    async def ready(self, *servers: JupyterProcess, timeout: float = 60) -> None:
        """Wait until these servers are up, connected, and have every document open."""

        async def connected(server: JupyterProcess) -> bool:
            with contextlib.suppress(Exception):
                return bool((await server.status())["transport"]["state"] == "connected")
            return False

        for server in servers:
            await until(lambda s=server: connected(s), timeout, what=f"{server.name} connected")
        mine = [tab for tab in self.readers if tab.servers[0] in servers]
        for tab in mine:
            await tab.wait_synced(timeout)

    def room_keys(self, kind: str = "") -> list[bytes]:
        with self.redis.cli() as client:
            return sorted(
                key
                for key in client.scan_iter(match=f"teleportal:sync:default:{{*}}:{kind or '*'}")
            )

    @contextlib.contextmanager
    def copied_into_place(self) -> Iterator[None]:
        """Inside, servers cannot replace files, and copy into them: others may see part of one."""
        self.copied_until = float("inf")
        try:
            yield
        finally:
            self.copied_until = time.monotonic() + COPY_SECONDS

    def write_file(self, path: Path, content: bytes, *, like: Path, back: float = 0) -> None:
        """Let another program put a file there, whole, which the same people may write as `like`;
        its time is set `back` by so many seconds."""
        aside = path.with_name(f".{path.name}.new")
        aside.write_bytes(content)
        before = like.stat()
        shutil.copymode(like, aside)
        if os.geteuid() == 0:
            os.chown(aside, before.st_uid, before.st_gid)
        if back:
            os.utime(aside, (before.st_mtime - back,) * 2)
        os.replace(aside, path)

    def replace_file(self, name: str, change: Any, *, back: float = 0) -> str | None:
        """Let another program change a file: read it, `change` the text, and replace it whole.

        Returns None if a server wrote it in between, for then that program would wipe out what
        it had not seen, as it would on any folder.
        """
        path = self.shared / name
        before = path.read_bytes()
        after = change(before.decode())
        if after is None:
            return None
        if path.read_bytes() != before:
            return None
        self.write_file(path, after.encode(), like=path, back=back)
        return str(after)

    def copies(self) -> list[Path]:
        """The conflict copies that lie beside the documents."""
        return sorted(self.shared.glob("* (conflict *"))

    def leftovers(self) -> list[str]:
        """What lies beside the documents that should not stay there."""
        known = {*DOCUMENTS, ".ipynb_checkpoints", *(path.name for path in self.copies())}
        found = set(os.listdir(self.shared)) - known
        # A disk has a trash of its own.
        return sorted(name for name in found if not name.startswith(".Trash-"))

    def keep(self, folder: Path) -> None:
        """Copy the logs and the shared folder to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for server in self.servers:
            if server.log_path.exists():
                shutil.copy(server.log_path, folder / f"{server.name}.log")
        shutil.copytree(self.shared, folder / "shared", dirs_exist_ok=True)
        for path in (self.save_log, self.folder / "redis" / "redis.log"):
            if path.exists():
                shutil.copy(path, folder / path.name)


async def at_least(seconds: float, began: float) -> None:
    """Sleep until `seconds` have passed since `began` on the monotonic clock."""
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
