"""The JupyterHub example: a real hub, three users with a server each, two teams."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
import websockets
import yaml
from redis.exceptions import NoPermissionError
from support.cluster import wait_connected
from support.jupyter_process import JupyterProcess
from support.leftovers import kill_processes_in, processes_in
from support.missing import missing
from support.notebooks import file_sources, write_notebook
from support.processes import ChildProcess, free_port
from support.programs import require_binary
from support.rtc_client import RtcClient, equal
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer


EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "jupyterhub"
PASSWORD = "a password for tests"
OPERATOR_TOKEN = "operator-token-for-tests"
PREFIX = "teleportal:sync:"
START_SECONDS = 60.0
LOST_SECONDS = 5.0

pytestmark = pytest.mark.timeout(180)


def require_jupyterhub() -> str:
    """The path of the proxy; without the hub or the proxy the test is skipped, in CI it fails."""
    if importlib.util.find_spec("jupyterhub") is None:
        missing("needs the package jupyterhub")
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
    """The example's hub in a folder of its own, on free ports.

    Args:
        settings: lines of configuration in addition to the example's.
    """

    def __init__(self, folder: Path, redis_url: str | None = None, settings: str = "") -> None:
        proxy = Path(require_jupyterhub())
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hub"
        self._users: list[str] = []
        self._admin: dict[str, httpx.AsyncClient] = {}
        env = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        if redis_url is not None:
            env["JUPYTER_TELEPORTAL_HUB_REDIS_URL"] = redis_url
        folder.mkdir(exist_ok=True)
        self._config = folder / "test_config.py"
        self._config.write_text(
            f"load_subconfig({str(EXAMPLE / 'jupyterhub_config.py')!r})\n"
            "c.JupyterHub.services = [*(c.JupyterHub.get('services') or []), "
            f"{{'name': 'operator', 'api_token': {OPERATOR_TOKEN!r}}}]\n"
            "c.JupyterHub.load_roles = [{'name': 'operator', 'services': ['operator'], "
            "'scopes': ['admin:groups']}]\n" + settings
        )
        self.process = ChildProcess(
            [
                *(sys.executable, "-m", "jupyterhub", "-f", str(self._config)),
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

    async def stop_server(self, user: str) -> None:
        await self._call(user, "DELETE", "server")
        self._users.remove(user)

        async def stopped() -> bool:
            return not (await self._call(user, "GET"))["servers"]

        await until(stopped, 30, what=f"the end of the server of {user}")

    async def leave_group(self, user: str, group: str) -> None:
        """Take a user out of a group, as an operator does."""
        await self.operate("DELETE", f"{group}/users", {"users": [user]})

    async def operate(self, method: str, path: str, body: Any = None) -> Any:
        """What an operator does to groups, through the hub's API."""
        async with httpx.AsyncClient() as client:
            reply = await client.request(
                method,
                f"{self.url}/api/groups/{path}",
                headers={"Authorization": f"token {OPERATOR_TOKEN}"},
                json=body,
            )
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

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

    async def kill(self) -> None:
        """End everything that it has started."""
        self.process.kill()
        await kill_processes_in(self.folder)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """The hub as one command starts it, in a folder that holds a socket (`tmp_path` is too
    deep)."""
    with tempfile.TemporaryDirectory(prefix="h", ignore_cleanup_errors=True) as folder:
        hub = Hub(Path(folder) / "hub", None)
        try:
            await hub.wait_until_up()
            yield hub
            await hub.stop()
        finally:
            await hub.kill()


def redis_url_of(server: UserServer) -> str | None:
    """What the server has in its environment."""
    found = None
    for process in processes_in(server.root_dir):
        env = process.environ()
        if env.get("JUPYTERHUB_USER") == server.name:
            found = env.get("JUPYTER_TELEPORTAL_REDIS_URL", found)
    return found


async def test_three_users_in_two_teams(hub: Hub) -> None:
    for team in ("team1", "team2"):
        write_notebook(hub.folder / "teams" / team / "plan.ipynb", [f"{team} = 1"])
    alice, bob, carol = [await hub.log_in(user) for user in ("alice", "bob", "carol")]
    teams = {
        alice: {"team1": "team1"},
        bob: {"team1": "team1", "team2": "team2"},
        carol: {"team2": "team2"},
    }
    for server, shares in teams.items():
        await wait_connected(server)
        assert (await server.status())["shares"] == shares

    await _edit_together(hub, "team1", alice, bob)
    await _edit_together(hub, "team2", bob, carol)
    await _cannot_be_opened(alice, carol)
    await _redis_keeps_out(alice, bob)
    await _keep_homes_apart(hub, alice, bob)
    await _run_kernels_of_their_own(alice, bob)
    assert await _http_status(bob, alice) in (403, 404)
    for server in (alice, bob, carol):
        assert not (await server.status())["complaints"]

    old_url = redis_url_of(bob)
    assert old_url is not None
    await hub.stop_server("bob")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(old_url).ping()
    await hub.leave_group("bob", "team2")
    bob = await hub.log_in("bob")
    await wait_connected(bob)
    assert (await bob.status())["shares"] == {"team1": "team1"}
    assert not await bob.exists("team2")
    _refused(redis_url_of(bob), "XLEN", f"{PREFIX}team2:{{x}}:log")
    await _edit_together(hub, "team1", alice, bob, again=" again")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("groups = {'team1': 'team 1'}", "the group 'team1' has the share 'team 1'"),
        ("groups = {'team-*': '{gruop}'}", "the group 'team-*' has the share '{gruop}'"),
        ("groups = 'team1'", "'team1'"),
        ("groups.update({'team1': 'team 1'})", "the group 'team1' has the share 'team 1'"),
        ("folder = '../{share}'", "GroupSharing.folder"),
        (
            "groups = {'team-*': '{group}'}\nc.GroupSharing.folder = 'team'",
            'it has to have "{share}" in it',
        ),
        ("redis_url = 'http://redis'", "GroupSharing.redis_url"),
        ("redis_options = {'nonsense': 1}", "nonsense"),
        ("redis_options = {'log_max_bytes': float('nan')}", "log_max_bytes is nan"),
        ("follow_groups_s = 0", "follow_groups_s is 0"),
        ("follow_groups_s = float('nan')", "follow_groups_s is nan"),
    ],
)
async def test_a_wrong_setting_stops_the_hub_at_its_start(
    tmp_path: Path, setting: str, said: str
) -> None:
    hub = Hub(
        tmp_path / "hub",
        "redis://127.0.0.1:1",
        f"del c.GroupSharing['groups']\nc.GroupSharing.{setting}\n",
    )
    try:
        await until(lambda: not hub.process.running, 30, what="the end of the hub")
    finally:
        await hub.kill()
    assert hub.process.returncode == 1, hub.log_tail()
    assert said in hub.log_tail()
    assert "Traceback" not in hub.log_tail()
    assert "Bad config" in hub.log_tail()


@pytest.mark.parametrize(
    "groups",
    [
        "{'team1': 'team1', 'class-*': '{group}'}",
        "lambda spawner: [one.name for one in spawner.user.groups if one.name != 'team2']",
    ],
    ids=["a pattern", "a function"],
)
async def test_groups_that_come_and_members_that_go_need_no_restart(
    tmp_path: Path, redis_server: RedisServer, groups: str
) -> None:
    """A pattern or a function gives a new group its share; who is taken out of a group, or whose
    group is deleted, loses the share within seconds, and gets it back."""
    hub = Hub(tmp_path / "hub", redis_server.url, f"c.GroupSharing.groups = {groups}\n")
    try:
        await hub.wait_until_up()
        await hub.operate("POST", "class-5", {"users": ["alice"]})
        (hub.folder / "teams" / "class-5").mkdir()
        alice = await hub.log_in("alice")
        assert (await alice.status())["shares"] == {"class-5": "class-5", "team1": "team1"}
        await rights_become(alice, class_5=True, team1=True, team2=False)
        await hub.leave_group("alice", "team1")
        await rights_become(alice, class_5=True, team1=False)
        await hub.operate("DELETE", "class-5")
        await rights_become(alice, class_5=False, team1=False)
        with redis_server.cli() as client:
            granted = client.get(f"{PREFIX}:granted:{PREFIX}alice")
        assert granted == b"[]"
        await hub.operate("POST", "team1/users", {"users": ["alice"]})
        await hub.operate("POST", "team2/users", {"users": ["alice"]})
        # What she was not started with has no folder in her server.
        await rights_become(alice, class_5=False, team1=True, team2=False)
        await hub.stop()
    except BaseException:
        print(hub.log_tail())
        raise
    finally:
        await hub.kill()


async def test_while_the_function_fails_a_running_server_keeps_what_it_had(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """A server that starts meanwhile shares nothing."""
    fails = tmp_path / "fails"
    hub = Hub(
        tmp_path / "hub",
        redis_server.url,
        f"""
def groups(spawner):
    import os
    if os.path.exists({str(fails)!r}):
        raise OSError("the directory of groups is away")
    return [one.name for one in spawner.user.groups]

c.GroupSharing.groups = groups
""",
    )
    try:
        await hub.wait_until_up()
        alice = await hub.log_in("alice")
        await rights_become(alice, team1=True, team2=False)
        fails.touch()
        await hub.leave_group("alice", "team1")

        def failures() -> int:
            log = hub.process.log_path.read_text(errors="replace")
            return log.count("The function GroupSharing.groups has failed for alice")

        await until(lambda: failures() >= 2, what="two looks at her groups")
        await rights_become(alice, team1=True, team2=False)
        bob = await hub.log_in("bob")
        assert (await bob.status())["shares"] == {}
        assert redis_url_of(bob) is None
        fails.unlink()
        await rights_become(alice, team1=False, team2=False)
        await hub.stop()
    except BaseException:
        print(hub.log_tail())
        raise
    finally:
        await hub.kill()


async def rights_become(server: UserServer, **wanted: bool) -> None:
    """Wait until the server's account may read just these shares; _ stands for - in a name."""
    url = redis_url_of(server)
    assert url is not None

    def may(share: str) -> bool:
        with redis.Redis.from_url(url) as client:
            try:
                client.hgetall(f"{PREFIX}{share}:about")
            except NoPermissionError:
                return False
            except redis.ConnectionError:  # it has just been ended, as all of the account's
                return may(share)
        return True

    def are() -> bool:
        return {share: may(share.replace("_", "-")) for share in wanted} == wanted

    await until(are, LOST_SECONDS, what=f"the rights {wanted}")


async def test_a_member_who_is_taken_out_loses_the_share_at_once_and_no_words(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The hub takes the account's rights, and the member's running server the rest."""
    hub = Hub(
        tmp_path / "hub",
        redis_server.url,
        # Long enough that nothing typed at the end is in the file.
        "c.Spawner.args = [*c.Spawner.get('args', []), '--YDocExtension.document_save_delay=20']\n",
    )
    try:
        await hub.wait_until_up()
        file = hub.folder / "teams" / "team1" / "plan.ipynb"
        write_notebook(file, ["start"])
        alice, bob = [await hub.log_in(user) for user in ("alice", "bob")]
        for server in (alice, bob):
            await wait_connected(server)
        url = redis_url_of(alice)
        assert url is not None
        async with (
            RtcClient(alice, await alice.session("team1/plan.ipynb"), name="alice") as ann,
            RtcClient(bob, await bob.session("team1/plan.ipynb"), name="bob") as ben,
        ):
            ann.write(" # unsaved")
            await equal([ann, ben])
            with redis_server.cli() as client:
                before = connections_of(client, "alice")
            assert before
            began = time.monotonic()
            await hub.leave_group("alice", "team1")

            def left() -> float:
                return max(0.0, LOST_SECONDS - (time.monotonic() - began))

            await until(lambda: ann.closures, left(), what="the end of the tab's connection")
            assert ann.closures[0].code == 1003
            assert "no longer a member of team1" in ann.closures[0].reason
            home = hub.folder / "homes" / "alice"
            (copy,) = await until(
                lambda: list(home.glob("plan (kept *).ipynb")), left(), what="the copy"
            )
            with redis_server.cli() as client:
                await until(
                    lambda: not before & connections_of(client, "alice"),
                    left(),
                    what="the end of the account's connections",
                )
            _refused(url, "HGETALL", f"{PREFIX}team1:paths")
            assert time.monotonic() - began < LOST_SECONDS
            assert file_sources(copy) == ["start # unsaved"]
            assert file_sources(file) == ["start"]

            # The others go on, and have not lost anything either.
            ben.write(" # bob")
            await until(
                lambda: file_sources(file) == ["start # unsaved # bob"], 40, what="the saved file"
            )
            assert ann.sources == ["start # unsaved"]
            assert not ben.closures
            ben.assert_undisturbed()
        reply = await alice.request(
            "PUT",
            "/api/collaboration/session/team1/plan.ipynb",
            body={"format": "json", "type": "notebook"},
        )
        assert reply.status_code == 403
        assert "lost_shares" in str((await alice.status())["complaints"])
        # The server itself goes on: what is her own is opened as before.
        write_notebook(home / "diary.ipynb", ["dear"])
        async with RtcClient(alice, await alice.session("diary.ipynb")) as own:
            assert own.sources == ["dear"]
        await hub.stop()
    except BaseException:
        print(hub.log_tail())
        raise
    finally:
        await hub.kill()


def connections_of(client: redis.Redis, user: str) -> set[str]:
    """The ids of the connections that a user's server has."""
    return {each["id"] for each in client.client_list() if each["user"] == PREFIX + user}


@pytest.mark.parametrize("example", ["jupyterhub", "kubernetes"])
async def test_a_hub_that_is_started_again_brings_nobody_back(
    tmp_path: Path, redis_server: RedisServer, example: str
) -> None:
    settings = ""
    if example == "kubernetes":
        values = yaml.safe_load((EXAMPLE.parent / "kubernetes" / "values.yaml").read_text())
        settings = (
            f"c.JupyterHub.load_groups = {values['hub']['config']['JupyterHub']['load_groups']}"
        )
    hub = Hub(tmp_path / "hub", redis_server.url, settings)
    try:
        await hub.wait_until_up()
        for team, users in {"team1": ["alice", "bob"], "team2": ["bob", "carol"]}.items():
            await hub.operate("POST", f"{team}/users", {"users": users})
        await hub.leave_group("alice", "team1")
        await hub.stop()
    finally:
        await hub.kill()
    hub = Hub(tmp_path / "hub", redis_server.url, settings)
    try:
        await hub.wait_until_up()
        assert (await hub.operate("GET", "team1"))["users"] == ["bob"]
        assert set((await hub.operate("GET", "team2"))["users"]) == {"bob", "carol"}
        await hub.stop()
    finally:
        await hub.kill()


async def _edit_together(
    hub: Hub, team: str, first: UserServer, second: UserServer, again: str = ""
) -> None:
    path = f"{team}/plan.ipynb"
    async with (
        RtcClient(first, await first.session(path), name=first.name) as ann,
        RtcClient(second, await second.session(path), name=second.name) as ben,
    ):
        before = ann.sources
        ann.write(f" # {first.name} was here{again}")
        ben.insert_cell(f"{second.name} = 2")
        await equal([ann, ben])
        assert len(ann.sources) == len(before) + 1
        text = "\n".join(ann.sources)
        assert f"# {first.name} was here{again}" in text
        assert f"{second.name} = 2" in text
        await until(
            lambda: ann.remote_users() == [second.name] and ben.remote_users() == [first.name]
        )
        file = hub.folder / "teams" / team / "plan.ipynb"
        await until(lambda: file_sources(file) == ann.sources, 15, what="the saved file")
        ann.assert_undisturbed()
        ben.assert_undisturbed()


async def _cannot_be_opened(alice: UserServer, carol: UserServer) -> None:
    """Alice asks her server for what is in team2: by path, by id, by room."""
    session = await carol.session("team2/plan.ipynb")
    tries = [
        ("GET", "/api/contents/team2"),
        ("GET", "/api/contents/team2/plan.ipynb"),
        ("GET", "/api/contents/team1/%2e%2e/team2/plan.ipynb"),
        ("GET", "/api/contents/%2e%2e/%2e%2e/teams/team2/plan.ipynb"),
        ("GET", "/files/team1/%2e%2e/team2/plan.ipynb"),
        ("GET", "/files/team2/plan.ipynb"),
        ("GET", f"/api/fileid/path?id={session.file_id}"),
        ("GET", "/api/contents/team1/%2e%2e/%2e%2e/homes/carol"),
    ]
    for method, path in tries:
        reply = await alice.request(method, path)
        assert reply.status_code >= 400, f"{method} {path}: {reply.text}"
    room = session.room_id
    for url in (
        f"{alice.ws_url}/api/collaboration/room/{room}?token={alice.token}"
        f"&sessionId={session.session_id}",
        f"{alice.ws_url}/api/collaboration/room/json:notebook:team2?token={alice.token}",
    ):
        with pytest.raises((websockets.InvalidStatus, websockets.ConnectionClosed)):
            await _listen(url)
    for path in ("team2/plan.ipynb", "team1/%2e%2e/team2/plan.ipynb"):
        reply = await alice.request(
            "PUT",
            f"/api/collaboration/session/{path}",
            body={"format": "json", "type": "notebook"},
        )
        assert reply.status_code >= 400 or reply.json()["fileId"] != session.file_id
    assert not [room for room in (await alice.status())["rooms"] if room["share"] != "team1"]


async def _listen(url: str) -> None:
    """Read a room's WebSocket until it is closed."""
    async with websockets.connect(url, open_timeout=10) as connection:
        while True:
            await asyncio.wait_for(connection.recv(), 10)


def _refused(url: str | None, *command: str) -> None:
    assert url is not None
    with redis.Redis.from_url(url) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


async def _redis_keeps_out(alice: UserServer, bob: UserServer) -> None:
    """What the account in Alice's environment can do, and what not."""
    url, other = redis_url_of(alice), redis_url_of(bob)
    assert url is not None
    assert other is not None
    assert urlsplit(url).password != urlsplit(other).password
    with redis.Redis.from_url(other) as client:
        paths = client.hgetall(f"{PREFIX}team2:paths")
    assert b"plan.ipynb" in paths.values()
    room = f"{PREFIX}team2:{{json:notebook:{next(iter(paths)).decode()}}}"
    forbidden = [
        *(("SCAN", "0"), ("KEYS", "*"), ("RANDOMKEY",), ("DBSIZE",), ("MONITOR",), ("INFO",)),
        *(("PUBSUB", "CHANNELS"), ("CLIENT", "LIST"), ("ACL", "LIST"), ("CONFIG", "GET", "*")),
        *(("ACL", "SETUSER", "me", "on", "nopass", "+@all"), ("FLUSHALL",)),
        *(("HGETALL", f"{PREFIX}team2:paths"), ("XRANGE", f"{room}:log", "-", "+")),
        *(("HGETALL", f"{room}:checkpoint"), ("GET", f"{room}:saver"), ("DEL", f"{room}:log")),
        *(("XADD", f"{room}:log", "*", "u", "x"), ("SET", f"{PREFIX}team22:x", "1")),
        *(("PUBLISH", room, "x"), ("PUBLISH", f"{PREFIX}team2:all", "x")),
        *(("SUBSCRIBE", room), ("SUBSCRIBE", f"{PREFIX}team2:all"), ("PSUBSCRIBE", "*")),
        *(("PSUBSCRIBE", f"{PREFIX}team1:*"), ("SSUBSCRIBE", room)),
        ("EVAL", "return redis.call('HGETALL', KEYS[1])", "1", f"{PREFIX}team2:paths"),
    ]
    for command in forbidden:
        _refused(url, *command)
    # In a script the key need not be declared.
    script = f"return redis.call('HGETALL', '{PREFIX}team2:paths')"
    with redis.Redis.from_url(url) as client:
        with pytest.raises(redis.ResponseError):
            client.eval(script, 0)
        assert b"plan.ipynb" in client.hgetall(f"{PREFIX}team1:paths").values()
    parts = urlsplit(url)
    nobody = redis.Redis.from_url(f"unix://{parts.path}")
    with nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


async def _keep_homes_apart(hub: Hub, alice: UserServer, bob: UserServer) -> None:
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
    stored = b"".join(f.read_bytes() for f in (hub.folder / "valkey").rglob("*.aof"))
    assert b"plan.ipynb" in stored
    for private in (b"diary", b"likes", b"rooks", b"trumps", b"homes"):
        assert private not in stored


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
