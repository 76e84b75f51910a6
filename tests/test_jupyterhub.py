"""The JupyterHub example: a real hub, two users with a server each, one shared folder."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support.cluster import wait_connected
from support.jupyter_process import JupyterProcess
from support.leftovers import kill_processes_in, processes_in
from support.notebooks import file_sources, write_notebook
from support.processes import ChildProcess, free_port
from support.redis_server import require_binary
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "jupyterhub"
PASSWORD = "a password for tests"
START_SECONDS = 60.0

pytestmark = pytest.mark.timeout(180)


def require_jupyterhub() -> str:
    """The path of the proxy; without the hub or the proxy the test is skipped, in CI it fails."""
    if importlib.util.find_spec("jupyterhub") is None:
        message = "needs the package jupyterhub"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(message)
        pytest.skip(message)
    return require_binary("configurable-http-proxy")


class UserServer(JupyterProcess):
    """One user's server behind the hub; the hub starts and stops it."""

    def __init__(self, hub: Hub, user: str) -> None:
        super().__init__(hub.folder / "homes" / user, work_dir=hub.folder, name=user, port=hub.port)

    @property
    def url(self) -> str:
        return f"{super().url}/user/{self.name}"

    @property
    def ws_url(self) -> str:
        return f"{super().ws_url}/user/{self.name}"


class Hub:
    """The example's hub in a folder of its own, on free ports."""

    def __init__(self, folder: Path, redis_url: str | None) -> None:
        proxy = Path(require_jupyterhub())
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hub"
        self._users: list[str] = []
        self._admin: dict[str, httpx.AsyncClient] = {}
        env = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        if redis_url is not None:
            env["JUPYTER_TELEPORTAL_REDIS_URL"] = redis_url
        folder.mkdir()
        self.process = ChildProcess(
            [
                *(sys.executable, "-m", "jupyterhub", "-f", str(EXAMPLE / "jupyterhub_config.py")),
                f"--JupyterHub.bind_url=http://127.0.0.1:{self.port}",
                f"--JupyterHub.hub_port={free_port()}",
                f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}",
                f"--ConfigurableHTTPProxy.command={proxy}",
            ],
            log_path=folder / "hub.log",
            cwd=folder,
            env={**env, "TELEPORTAL_HUB_FOLDER": str(folder), "TELEPORTAL_HUB_PASSWORD": PASSWORD},
        )

    def log_tail(self) -> str:
        return self.process.log_path.read_text(errors="replace")[-6000:]

    async def wait_until_up(self) -> None:
        async def up() -> bool:
            assert self.process.running, self.log_tail()
            try:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"{self.url}/api/")).status_code == 200
            except httpx.HTTPError:
                return False

        await until(up, START_SECONDS, what="the hub")

    async def log_in(self, user: str) -> UserServer:
        """Log in through the form, as a browser does, and start the user's server."""
        client = self._admin[user] = httpx.AsyncClient(follow_redirects=True, timeout=30)
        await client.get(f"{self.url}/login")
        form = {"username": user, "password": PASSWORD, "_xsrf": client.cookies["_xsrf"]}
        # The page after it would start the server, and wait for it.
        reply = await client.post(f"{self.url}/login", data=form, follow_redirects=False)
        assert reply.status_code == 302, reply.text
        await client.get(f"{self.url}/home")
        token = await self._call(user, "POST", "tokens", json={"note": "test"})
        server = UserServer(self, user)
        server.token = token["token"]
        await self._call(user, "POST", "server")
        self._users.append(user)

        async def ready() -> bool:
            model = await self._call(user, "GET")
            return bool(model["servers"] and model["servers"][""]["ready"])

        try:
            await until(ready, START_SECONDS, what=f"the server of {user}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        return server

    async def _call(self, user: str, method: str, path: str = "", **options: Any) -> Any:
        client = self._admin[user]
        headers = {"X-XSRFToken": client.cookies.get("_xsrf", path="/hub/")}
        url = f"{self.url}/api/users/{user}/{path}".rstrip("/")
        reply = await client.request(method, url, headers=headers, **options)
        assert reply.is_success, f"{method} {url}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def stop(self) -> None:
        """Stop the servers through the hub, which takes long to end with servers running."""
        for user in self._users:
            await self._call(user, "DELETE", "server")
        for client in self._admin.values():
            await client.aclose()
        self.process.terminate(10)


@pytest.fixture
async def hub(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "hub", redis_server.url)
    try:
        await hub.wait_until_up()
        yield hub
        await hub.stop()
    finally:
        hub.process.kill()
        await kill_processes_in(hub.folder)


async def test_two_users_edit_together_and_keep_their_homes(
    hub: Hub, redis_server: RedisServer
) -> None:
    write_notebook(hub.folder / "shared" / "plan.ipynb", ["plan = 1"])
    alice, bob = await hub.log_in("alice"), await hub.log_in("bob")
    for server in (alice, bob):
        await wait_connected(server)
        assert (await server.status())["shares"] == {"shared": "team1"}

    await _edit_together(hub, alice, bob)
    await _keep_homes_apart(hub, alice, bob, redis_server)
    await _run_kernels_of_their_own(alice, bob)
    assert await _http_status(alice, bob) in (403, 404)


async def _edit_together(hub: Hub, alice: UserServer, bob: UserServer) -> None:
    path = "shared/plan.ipynb"
    async with (
        RtcClient(alice, await alice.session(path), name="alice") as ann,
        RtcClient(bob, await bob.session(path), name="bob") as ben,
    ):
        ann.write(" # alice was here")
        ben.insert_cell("bob = 2")
        await equal([ann, ben])
        assert ann.sources == ["plan = 1 # alice was here", "bob = 2"]
        await until(lambda: ann.remote_users() == ["bob"] and ben.remote_users() == ["alice"])
        file = hub.folder / "shared" / "plan.ipynb"
        await until(lambda: file_sources(file) == ann.sources, 15, what="the saved file")
        ann.assert_undisturbed()
        ben.assert_undisturbed()


async def _keep_homes_apart(
    hub: Hub, alice: UserServer, bob: UserServer, redis_server: RedisServer
) -> None:
    name = "diary-of-mine.ipynb"
    secrets = {"alice": "likes-chess", "bob": "likes-bridge"}
    for user, secret in secrets.items():
        write_notebook(hub.folder / "homes" / user / name, [secret])
    async with (
        RtcClient(alice, await alice.session(name)) as ann,
        RtcClient(bob, await bob.session(name)) as ben,
    ):
        ann.write(" and-rooks")
        ben.write(" and-trumps")
        expected = {"alice": ["likes-chess and-rooks"], "bob": ["likes-bridge and-trumps"]}
        for user, sources in expected.items():
            file = hub.folder / "homes" / user / name
            await until(lambda f=file, s=sources: file_sources(f) == s, 15, what=f"{file}")
        assert [ann.sources, ben.sources] == list(expected.values())
        assert ann.remote_users() == ben.remote_users() == []
    stored = list(redis_server.everything())
    assert stored
    for where, content in stored:
        for private in (b"diary", b"likes", b"rooks", b"trumps", b"homes"):
            assert private not in where + content


async def _run_kernels_of_their_own(alice: UserServer, bob: UserServer) -> None:
    kernels = [await s.call("POST", "/api/kernels", body={}) for s in (alice, bob)]
    for server, kernel in zip((alice, bob), kernels, strict=True):
        assert [k["id"] for k in await server.call("GET", "/api/kernels")] == [kernel["id"]]


async def _http_status(owner: UserServer, guest: UserServer) -> int:
    """What `guest` gets who asks for the files of `owner`."""
    async with httpx.AsyncClient() as client:
        reply = await client.get(
            f"{owner.url}/api/contents", headers={"Authorization": f"token {guest.token}"}
        )
        return reply.status_code


@pytest.fixture
async def short_folder() -> AsyncIterator[Path]:
    """A folder that holds a socket; `tmp_path` is too deep."""
    with tempfile.TemporaryDirectory(prefix="h", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        await kill_processes_in(Path(folder))


async def test_without_a_redis_of_its_own_it_uses_the_embedded_one(short_folder: Path) -> None:
    hub = Hub(short_folder / "hub", None)
    try:
        await hub.wait_until_up()
        await wait_connected(await hub.log_in("alice"))
        [valkey] = [p for p in processes_in(hub.folder) if "-server" in p.name()]
        assert Path(valkey.cwd()) == hub.folder / "valkey"
        await hub.stop()
    finally:
        hub.process.kill()
