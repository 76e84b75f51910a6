"""Keeps the servers' accounts in a Redis: all that are wanted are there whenever it is reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ...core.errors import TransportError, TransportUnavailable
from ..base import TransportState
from .accounts import account_rules, format_granted, granted_key, has_rules, listed_categories
from .client import RedisClient
from .scripts import SCRIPTS

LOOK_INTERVAL_S = 30.0


@dataclass(frozen=True)
class Account:
    """One server's account: what the hub's database keeps of it.

    Attributes:
        name: what the server logs in as.
        shares: names of the shares that it reaches.
        password_hash: as Redis takes it.
    """

    name: str
    shares: tuple[str, ...]
    password_hash: str


class Accounts:
    """The accounts in one Redis. It has all that are wanted whenever it can be reached."""

    def __init__(
        self,
        client: RedisClient,
        *,
        log: logging.Logger,
        look_interval_s: float = LOOK_INTERVAL_S,
        may_eval: bool = False,
    ) -> None:
        """
        Args:
            client: not started yet; with an account that may make accounts.
            log: where to log.
            look_interval_s: how often to look whether all are there; besides, they are put back
                whenever the connection was lost.
            may_eval: whether the accounts may run any script.
        """
        self._client = client
        self._log = log
        self._look_interval_s = look_interval_s
        self._may_eval = may_eval
        self._wanted: dict[str, Account] = {}
        self._unwanted: set[str] = set()
        self._said: set[str] = set()
        self._categories: dict[str, set[str]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        client.watch(self._on_state)

    async def create(self, account: Account) -> None:
        """Make `account` in place of whatever had its name; who was connected as that is not any
        more. If Redis is away it is made when Redis is back."""
        self._wanted[account.name] = account
        self._unwanted.discard(account.name)
        await self._load_scripts()
        await self._carry_out(*self._delete(account.name), *self._set(account))

    async def change(self, account: Account) -> None:
        """Give an account that is there other shares. Its password stays; who is connected with
        it has to connect again, and learns of it then."""
        self._wanted[account.name] = account
        disconnect = ("CLIENT", "KILL", "USER", account.name)
        await self._carry_out(*self._set(account), disconnect)

    async def remove(self, name: str) -> None:
        """Remove the account, and disconnect who is connected with it."""
        self._wanted.pop(name, None)
        self._unwanted.add(name)
        if await self._carry_out(*self._delete(name)):
            self._unwanted.discard(name)

    def keep(self, account: Account) -> None:
        """`account` was made before this hub was started, and is still wanted."""
        self._wanted[account.name] = account
        self._news.set()
        self._begin()

    async def aclose(self) -> None:
        """Disconnect. The accounts stay."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._client.aclose()

    def _begin(self) -> None:
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_for_ever())

    def _on_state(self, state: TransportState) -> None:
        if state is TransportState.CONNECTED:
            self._said.clear()
            self._categories.clear()  # it may be another version
            self._news.set()

    async def _carry_out(self, *commands: tuple[str, ...]) -> bool:
        """Send `commands`; return whether all were done. It says so where they were not."""
        self._begin()
        try:
            await self._client.start()
            for command in commands:
                await self._client.execute(*command)
        except TransportError as error:
            self._refused_or_away(error)
            return False
        return True

    async def _load_scripts(self) -> None:
        """See that Redis knows the scripts, which the accounts may run, but not load."""
        if self._may_eval:
            return
        try:
            await self._client.start()
            known = await self._client.execute("SCRIPT", "EXISTS", *(it.sha for it in SCRIPTS))
            for script, there in zip(SCRIPTS, known, strict=True):
                if not there:
                    await self._client.execute("SCRIPT", "LOAD", script.source)
        except TransportUnavailable as error:
            self._log.debug("The scripts are loaded later: %s", error)
        except TransportError as error:
            self._say(
                logging.ERROR,
                f"Servers share nothing, for the scripts cannot be loaded: {error}. Give the hub's "
                "own account the right to SCRIPT LOAD and SCRIPT EXISTS, or set "
                "GroupSharing.servers_may_load_scripts",
            )

    def _refused_or_away(self, error: TransportError) -> None:
        if isinstance(error, TransportUnavailable):
            self._say(
                logging.WARNING,
                f"Redis cannot be reached ({error}); the servers' accounts are made when it is "
                "back, and until then they share nothing",
            )
        else:
            self._say(
                logging.ERROR,
                f"Servers share nothing, for they get no accounts: {error}. The hub's own account "
                "needs the right to ACL SETUSER, ACL DELUSER, ACL LIST, ACL CAT and CLIENT KILL, "
                f"and to SET and DEL keys that begin with {granted_key(self._client.prefix, '')}",
            )

    async def _look_for_ever(self) -> None:
        await self._client.start()
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), self._look_interval_s)
            except asyncio.TimeoutError:
                self._log.debug("Looking whether Redis has all accounts")
            self._news.clear()
            if self._client.state is TransportState.CONNECTED:
                await self._look()

    async def _look(self) -> None:
        await self._load_scripts()
        unwanted = set(self._unwanted)
        try:
            listed = await self._client.execute("ACL", "LIST")
        except TransportError as error:
            self._refused_or_away(error)
            return
        there = {words[1]: words for words in (line.decode().split() for line in listed)}
        await self._learn_categories(there)
        self._look_at_default(there.get("default", []))
        gone = [name for name in unwanted if name in there]
        missing = [
            account
            for name, account in self._wanted.items()
            if not has_rules(there.get(name, []), self._rules(account), self._categories)
        ]
        if missing:
            self._log.info(
                "Redis lacks %d accounts, or they have other rights; putting them back",
                len(missing),
            )
        commands = [*map(self._delete, gone), *map(self._set, missing)]
        if await self._carry_out(*chain.from_iterable(commands)):
            self._unwanted -= unwanted - set(self._wanted)

    def _look_at_default(self, rules: Sequence[str]) -> None:
        if _is_open(rules):
            self._say(
                logging.WARNING,
                "Redis lets everybody in without a password, so the servers' accounts keep nobody "
                "out: switch its user `default` off",
            )
        elif "off" in rules and not {"~*", "+@all"} <= set(rules):
            self._say(
                logging.WARNING,
                "Redis' user `default` is off and has no rights. Redis 7.0 reads its append-only "
                "file with these, and drops at a restart what servers have written: set "
                "`user default off ~* &* +@all`, with which still nobody comes in",
            )

    async def _learn_categories(self, there: Mapping[str, Sequence[str]]) -> None:
        """Learn which commands are meant by the categories that our accounts are listed with."""
        named = (listed_categories(there.get(name, [])) for name in self._wanted)
        for category in sorted(set().union(*named) - set(self._categories)):
            try:
                commands = await self._client.execute("ACL", "CAT", category)
            except TransportError as error:
                self._refused_or_away(error)
                return
            self._categories[category] = {command.decode() for command in commands}

    def _delete(self, name: str) -> list[tuple[str, ...]]:
        return [("ACL", "DELUSER", name), ("DEL", granted_key(self._client.prefix, name))]

    def _set(self, account: Account) -> list[tuple[str, ...]]:
        """What is granted comes first: who is refused asks for that."""
        granted = granted_key(self._client.prefix, account.name)
        return [
            ("SET", granted, format_granted(account.shares)),
            ("ACL", "SETUSER", account.name, *self._rules(account)),
        ]

    def _rules(self, account: Account) -> list[str]:
        return account_rules(
            self._client.prefix,
            account.shares,
            account.password_hash,
            account=account.name,
            may_eval=self._may_eval,
        )

    def _say(self, level: int, message: str) -> None:
        """Log it, once for each connection."""
        if message not in self._said:
            self._said.add(message)
            self._log.log(level, "%s", message)


def _is_open(rules: Sequence[str]) -> bool:
    """Whether an account, as ACL LIST shows it, reads keys without a password."""
    return "on" in rules and "nopass" in rules and any(rule.startswith("~") for rule in rules)
