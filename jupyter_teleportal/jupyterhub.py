"""For hubs: each server gets its user's shares, and an account in Redis that reaches just those.

Three lines in ``jupyterhub_config.py``, whatever the spawner::

    from jupyter_teleportal.jupyterhub import sharing

    c.JupyterHub.spawner_class = sharing("localprocess")
    c.GroupSharing.groups = {"team1": "team1", "team2": "team2"}

and where Redis is, with an account that may do everything, in the hub's environment as
``JUPYTER_TELEPORTAL_HUB_REDIS_URL``. In an environment of its own a hub needs
``jupyter-teleportal-core[hub]``, which does without JupyterLab.

An account is made anew, with a new password, at each start of its server, with the rights that
the user's groups give at that moment, and is removed when the server has stopped. Somebody who is
taken out of a group meanwhile loses the share at once. What the hub's database keeps of an account
is a hash. Redis forgets accounts when it restarts, unless it has an
``aclfile``, and does not replicate them: the hub puts them back.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from jupyterhub import orm
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from traitlets import Bool, Callable, Dict, Float, TraitError, Unicode, Union, default, validate
from traitlets.config import Config, LoggingConfigurable
from traitlets.utils.importstring import import_item

from .core.errors import SettingsError
from .core.hub_groups import GroupShares, usable_shares
from .core.settings import check_key_prefix
from .core.shares import Shares
from .transports import redaction
from .transports.redis.account_keeper import Account, Accounts
from .transports.redis.accounts import hash_password, with_credentials
from .transports.redis.client import RedisClient
from .transports.redis.options import DEFAULT_KEY_PREFIX

URL_VARIABLE = "JUPYTER_TELEPORTAL_HUB_REDIS_URL"
# The hub logs its whole configuration with --debug.
redaction.install(os.environ.get(URL_VARIABLE, ""))
_STATE = "teleportal"

__all__ = ["URL_VARIABLE", "GroupSharing", "sharing", "with_credentials"]


def sharing(spawner_class: str | type[Spawner]) -> type[Spawner]:
    """Return the spawner `spawner_class` with `GroupSharing`.

    Args:
        spawner_class: as for ``c.JupyterHub.spawner_class``: a class, its full name, or the name
            under which it is registered.

    Raises:
        SettingsError: if there is no such spawner.
    """
    base: Any = spawner_class
    if isinstance(spawner_class, str):
        registered = list(entry_points(group="jupyterhub.spawners", name=spawner_class.lower()))
        try:
            base = registered[0].load() if registered else import_item(spawner_class)
        except ImportError as error:
            raise SettingsError(f"There is no spawner {spawner_class!r}: {error}") from error
    if not (isinstance(base, type) and issubclass(base, Spawner)):
        raise SettingsError(f"{spawner_class!r} is no spawner")
    made = type(f"Sharing{base.__name__}", (GroupSharing, base), {"__module__": __name__})
    _check_when_configured(made)
    return made


def _check_when_configured(spawner_class: type[Spawner]) -> None:
    """Stop the hub that is just reading its configuration if that cannot be used.

    JupyterHub looks at a spawner's settings only when it makes one: at somebody's login.
    """
    from jupyterhub.app import JupyterHub

    if not JupyterHub.initialized():
        return
    hub: Any = JupyterHub.instance()
    take_over = hub.update_config

    def update_config(config: Config) -> None:
        take_over(config)
        settings = Config()
        for section in spawner_class.section_names():
            for name, value in hub.config.get(section, {}).items():
                if name in GroupSharing.class_own_traits(config=True):
                    settings.GroupSharing[name] = value
        try:
            GroupSharing(config=settings).check()
        except SettingsError as error:
            # This is what JupyterHub shows without a traceback before it exits.
            raise TraitError(str(error)) from error

    # The configuration file calls this, and JupyterHub that when it has read the file.
    hub.update_config = update_config


# JupyterHub wants every subclass of Spawner to start and stop something.
if TYPE_CHECKING:
    _Part = Spawner
else:
    _Part = LoggingConfigurable


class GroupSharing(_Part):
    """A spawner's part that hands each server its shares and its account; see `sharing`."""

    groups = Union(
        [Dict(), Callable()],
        default_value={},
        config=True,
        help="""Which groups of the hub share something: name of the group to name of the share.
        A share has the same name for all its members, and what is in no group here is shared by
        nobody. With one * in it, a group's name is a pattern; {group} in the share's name is the
        group's name, and {rest} what the * stands for: {"team-*": "{group}"}. Or a function that
        takes the spawner and returns the names of the shares of its user.""",
    )

    follow_groups_s = Float(
        2.0,
        config=True,
        help="""Seconds between two looks at the groups of those whose servers run. Who is in a
        group no more loses its share then.""",
    )

    folder = Unicode(
        "{share}",
        config=True,
        help="""API path of a share's folder in its members' servers; {share} is its name. The
        hub does not make the folder: a volume, a mount or a symlink has to be there.""",
    )

    redis_url = Unicode(
        config=True,
        help=f"""Where Redis or Valkey is, for the hub: with the name and password of an account
        that may make accounts. Defaults to the environment variable {URL_VARIABLE}.""",
    )

    redis_options = Dict(
        key_trait=Unicode(),
        config=True,
        help="""More options for the hub's connection, such as username, password or ssl_ca_certs;
        as redis_options of the server extension.""",
    )

    servers_may_load_scripts = Bool(
        False,
        config=True,
        help="""Whether the servers' accounts may run any Lua script in Redis (`+eval`). They need
        not where the hub loads the scripts, which it does if its own account may `SCRIPT LOAD` and
        the servers have its version of jupyter_teleportal. A script that does not end stops Redis
        for everybody.""",
    )

    server_redis_url = Unicode(
        config=True,
        help="""Where Redis is, for the servers; each gets it with its own name and password in
        it. Defaults to redis_url without the hub's.""",
    )

    key_prefix = Unicode(
        DEFAULT_KEY_PREFIX,
        config=True,
        help="""Begins the name of every key, channel and account. Hubs on one Redis need
        different ones.""",
    )

    accounts: ClassVar[Accounts | None] = None
    """Those of all servers of this hub."""

    _running: ClassVar[dict[str, GroupSharing]] = {}
    """The spawners of all servers that have an account, by its name."""
    _following: ClassVar[asyncio.Task[None] | None] = None

    _said: ClassVar[set[str]] = set()
    """What was said of groups that share nothing although they should."""

    _account: Account | None = None
    _started_with: tuple[str, ...] = ()
    _url: str = ""

    @default("redis_url")
    def _default_redis_url(self) -> str:
        return os.environ.get(URL_VARIABLE, "")

    @default("server_redis_url")
    def _default_server_redis_url(self) -> str:
        return self.redis_url

    @validate("redis_url", "server_redis_url")
    def _check_redis_url(self, proposal: Any) -> str:
        if urlsplit(proposal.value).scheme not in ("redis", "rediss", "unix", ""):
            raise SettingsError(
                f"GroupSharing.{proposal.trait.name} has to begin with redis://, rediss:// or "
                "unix:// (an embedded server has no accounts)"
            )
        return str(proposal.value)

    @validate("key_prefix")
    def _check_key_prefix(self, proposal: Any) -> str:
        return check_key_prefix(proposal.value)

    @validate("groups")
    def _check_groups(self, proposal: Any) -> Any:
        if not callable(proposal.value):
            try:
                GroupShares(proposal.value)
            except SettingsError as error:
                raise SettingsError(f"GroupSharing.groups: {error}") from error
        return proposal.value

    @validate("folder")
    def _check_folder(self, proposal: Any) -> str:
        try:
            Shares({proposal.value.replace("{share}", "x"): "x"})
        except SettingsError as error:
            raise SettingsError(f"GroupSharing.folder: {error}") from error
        return str(proposal.value)

    @validate("follow_groups_s")
    def _check_follow_groups(self, proposal: Any) -> float:
        if not 0 < proposal.value < float("inf"):
            raise SettingsError(
                f"GroupSharing.follow_groups_s is {proposal.value!r}, not a number of seconds "
                "above 0"
            )
        return float(proposal.value)

    def check(self) -> None:
        """Check what only comes together here: the folder with the groups, the URL with its
        options, and what comes from the environment.

        Raises:
            SettingsError: if they cannot be used.
        """
        if (
            "{share}" not in self.folder
            and not callable(self.groups)
            and GroupShares(self.groups).several
        ):
            raise SettingsError(
                f"GroupSharing.folder is {self.folder!r}, which is one folder for all shares that "
                'GroupSharing.groups gives a user; it has to have "{share}" in it'
            )
        if self.redis_url:
            self.redis_url = self.redis_url  # the environment's has not been checked
            self._make_client()

    def shares(self) -> dict[str, str]:
        """What this server's user shares by the groups that the user is in now: API path of a
        folder to name of the share, as ``JUPYTER_TELEPORTAL_SHARES``. For hooks that mount or
        link these folders.

        Raises:
            SettingsError: if `folder` is one folder for several of them.
        """
        shares = self._share_names() or []
        folders = [self.folder.replace("{share}", share) for share in shares]
        if len(set(folders)) < len(shares):
            raise SettingsError(
                f"GroupSharing.folder is {self.folder!r}, which is one folder for the shares "
                f'{", ".join(shares)}; it has to have "{{share}}" in it'
            )
        return Shares(dict(zip(folders, shares, strict=True))).folders

    def _share_names(self) -> list[str] | None:
        """What cannot be used is said and passed over: the server starts with the rest. None if
        nobody knows, because the function `groups` fails."""
        if callable(self.groups):
            try:
                shares, problems = usable_shares(self.groups(self))
            except Exception:
                self.log.exception(
                    "The function GroupSharing.groups has failed for %s, whose server shares "
                    "nothing if it starts now, and what it shared if it runs",
                    self.user.name,
                )
                return None
        else:
            shares, problems = _parsed(tuple(self.groups.items())).shares(self._groups())
        for problem in problems:
            said = f"GroupSharing.groups, for {self.user.name}: {problem}"
            if said not in self._said:
                self._said.add(said)
                self.log.error("%s", said)
        return shares

    # -- what JupyterHub calls -------------------------------------------------------------

    async def run_pre_spawn_hook(self) -> None:
        """Make the server's account, then run the hook."""
        await self._make_account()
        await maybe_future(super().run_pre_spawn_hook())

    async def run_post_stop_hook(self) -> None:
        """Run the hook, then remove the account."""
        await maybe_future(super().run_post_stop_hook())
        self._forget_account()
        if self.redis_url:
            await self._all_accounts().remove(self._account_name())

    def get_env(self) -> dict[str, str]:
        """The environment, with what the server extension reads."""
        env: dict[str, str] = super().get_env()
        env.pop("JUPYTER_TELEPORTAL_REDIS_URL", None)
        if self._url:
            env["JUPYTER_TELEPORTAL_REDIS_URL"] = self._url
        env["JUPYTER_TELEPORTAL_SHARES"] = json.dumps(self.shares())
        return env

    def get_args(self) -> list[str]:
        """The command line, with the key prefix if it is another one."""
        args: list[str] = list(super().get_args())
        if self.key_prefix != DEFAULT_KEY_PREFIX:
            args.append(f"--TeleportalExtension.key_prefix={self.key_prefix}")
        return args

    def get_state(self) -> dict[str, Any]:
        """What has to be known of a running server when the hub restarts."""
        state: dict[str, Any] = super().get_state()
        if self._account is not None:
            state[_STATE] = {**asdict(self._account), "started_with": self._started_with}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the account of a server that ran on without the hub."""
        super().load_state(state)
        if _STATE in state and self.redis_url:
            kept = dict(state[_STATE])
            shares = tuple(kept.pop("shares"))
            started_with = tuple(kept.pop("started_with", shares))
            self._use(Account(**kept, shares=shares), started_with)
            self._all_accounts().keep(Account(**kept, shares=shares))

    # -- the account -----------------------------------------------------------------------

    async def _make_account(self) -> None:
        self._refresh_groups()
        shares = self.shares()
        name = self._account_name()
        self._forget_account()
        if not self.redis_url:
            self.log.warning("No GroupSharing.redis_url is set: %s shares nothing", name)
            return
        if not shares:
            await self._all_accounts().remove(name)
            return
        password = secrets.token_urlsafe(32)
        redaction.SECRETS.add({password})
        account = Account(name, tuple(shares.values()), hash_password(password))
        self._url = with_credentials(self.server_redis_url, name, password)
        self._use(account, account.shares)
        await self._all_accounts().create(account)

    def _use(self, account: Account, started_with: tuple[str, ...]) -> None:
        self._account, self._started_with = account, started_with
        self._running[account.name] = self
        if GroupSharing._following is None:
            GroupSharing._following = asyncio.ensure_future(self._follow_all(self.follow_groups_s))

    def _forget_account(self) -> None:
        self._url, self._account, self._started_with = "", None, ()
        self._running.pop(self._account_name(), None)

    def _account_name(self) -> str:
        """Without blanks, and another one for each of a user's named servers."""
        parts = [self.user.name, self.name] if self.name else [self.user.name]
        return self.key_prefix + "/".join(quote(part, safe="") for part in parts)

    def _all_accounts(self) -> Accounts:
        if GroupSharing.accounts is None:
            GroupSharing.accounts = Accounts(
                self._make_client(), log=self.log, may_eval=self.servers_may_load_scripts
            )
        return GroupSharing.accounts

    def _make_client(self) -> RedisClient:
        return RedisClient(
            url=self.redis_url,
            key_prefix=self.key_prefix,
            log=self.log,
            options=self.redis_options,
        )

    # -- who is in which group while servers run -------------------------------------------

    @classmethod
    async def _follow_all(cls, interval_s: float) -> None:
        """Look at the groups of all whose servers run, for as long as the hub runs."""
        while True:
            await asyncio.sleep(interval_s)
            running = list(cls._running.values())
            if not running:
                continue
            log = running[0].log
            try:
                members = _members(running[0].db)
                for spawner in running:
                    if members.get(spawner.user.name, set()) != spawner._groups():
                        spawner._refresh_groups()
                    await spawner._follow()
            except Exception:
                log.exception(
                    "The groups of users whose servers run could not be looked at; who has left "
                    "one keeps its share until that succeeds"
                )

    async def _follow(self) -> None:
        """Give the account the shares that the server was started with and the user still has.

        A share that came later needs its folder in the server as well, and so a new start.
        """
        account = self._account
        if account is None:
            return
        now = self._share_names()
        if now is None:
            return
        shares = tuple(share for share in self._started_with if share in now)
        if shares == account.shares:
            return
        lost = sorted(set(account.shares) - set(shares))
        self.log.info("%s reaches the shares %s from now on", account.name, list(shares))
        if lost:
            self.log.info("%s has lost the shares %s", account.name, lost)
        self._account = replace(account, shares=shares)
        self.orm_spawner.state = self.get_state()
        self.db.commit()
        await self._all_accounts().change(self._account)

    def _groups(self) -> set[str]:
        return {group.name for group in self.user.groups}

    def _refresh_groups(self) -> None:
        """A group that was deleted stays among a user's groups until they are read again."""
        self.db.refresh(self.user.orm_user, ["groups"])


@lru_cache(maxsize=8)
def _parsed(groups: tuple[tuple[str, str], ...]) -> GroupShares:
    return GroupShares(dict(groups))


def _members(db: Any) -> dict[str, set[str]]:
    """The groups of all users of the hub that are in any, with one question to its database."""
    groups: dict[str, set[str]] = {}
    for user, group in db.query(orm.User.name, orm.Group.name).join(orm.User.groups):
        groups.setdefault(user, set()).add(group)
    return groups
