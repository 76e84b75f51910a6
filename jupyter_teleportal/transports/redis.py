"""The Redis transport: streams as logs, pub/sub as channels, keys with an expiry as leases."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from logging import Logger
from typing import Any

from ..errors import LogChanged, TransportError, TransportRefused, TransportUnavailable
from ..model import (
    ZERO_OFFSET,
    Appended,
    ClusterView,
    Entry,
    History,
    LeaseView,
    LeaseWish,
    LogRead,
    Scope,
    Seeded,
)
from . import redis_scripts as scripts
from .redis_acl import granted_key, parse_granted
from .redis_client import DEFAULT_KEY_PREFIX, Command, RedisClient
from .redis_refusals import SCRIPTS_MISSING, SENTINEL, lacks_right, useless
from .redis_wire import ErrorReply, Wire

INLINE_MAX_BYTES = 64 * 1024
READ_PAGE_ENTRIES = 1000
READ_PAGE_BYTES = 1024 * 1024
"""So much of a log is read at once; Redis does nothing else meanwhile."""
_READ_TRIES = 3
_MEMBERS_MAX = 1000
_SAID_MAX = 100
_NAME_MAX_BYTES = 200
_OFFSET = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_PRINTABLE = bytes(range(0x21, 0x7F))
_LEASES_AT_ONCE = 50
"""Redis does nothing else meanwhile."""


class RedisSyncTransport(RedisClient):
    """Shares rooms through a Redis or Valkey server; create it with
    `create_redis_sync_transport`."""

    name = "redis"

    def __init__(self, **arguments: Any) -> None:
        """The arguments are those of `RedisClient`."""
        super().__init__(**arguments)
        self._said: set[str] = set()

    async def _prove(self, wire: Wire) -> None:
        runs = [(*("EVALSHA", script.sha), 0) for script in scripts.SCRIPTS]
        # Removes nothing; who may do this, on a Redis that lets him, can do the rest.
        *known, write = await self.ask(wire, *runs, ("ZREM", f"{self.prefix}replicas", ""))
        for reply in (*known, write):
            if isinstance(reply, ErrorReply) and not _bearable(str(reply)):
                if "unknown command" in str(reply):
                    (role,) = await self.ask(wire, ("ROLE",))
                    if isinstance(role, list) and role[:1] == [b"sentinel"]:
                        raise TransportUnavailable(SENTINEL)
                raise TransportUnavailable(useless(str(reply)))
        for script, reply in zip(scripts.SCRIPTS, known, strict=True):
            if isinstance(reply, ErrorReply):
                await self._load(wire, script)

    async def _load(self, wire: Wire, script: scripts.Script) -> None:
        """Let Redis know `script`.

        Raises:
            TransportUnavailable: if this account may not.
        """
        for command in (("EVAL", script.source, 0), ("SCRIPT", "LOAD", script.source)):
            (reply,) = await self.ask(wire, command)
            if not isinstance(reply, ErrorReply):
                return
            if not lacks_right(str(reply)):
                raise TransportUnavailable(useless(str(reply)))
        raise TransportUnavailable(SCRIPTS_MISSING)

    # -- logs ------------------------------------------------------------------------------

    async def seed_log(self, scope: Scope, lineage: str, replica: str, payload: bytes) -> Seeded:
        log = f"{lineage}/{secrets.token_hex(4)}"
        won, log_there, offset = await self.call(
            scripts.SEED,
            self.log_keys(scope),
            log,
            replica,
            payload,
            self.channel(scope),
            INLINE_MAX_BYTES,
        )
        return Seeded(bool(won), log_there.decode(), offset.decode())

    def append_log(
        self, scope: Scope, log: str, replica: str, payload: bytes
    ) -> Awaitable[Appended]:
        return self.begin(
            scripts.APPEND,
            self.log_keys(scope),
            log,
            replica,
            payload,
            self.channel(scope),
            INLINE_MAX_BYTES,
            convert=partial(_appended, log),
        )

    async def read_log(self, scope: Scope, log: str | None, after: str) -> LogRead:
        async with self.bulk_client() as client:
            for _ in range(_READ_TRIES):
                try:
                    return await self._read(client, scope, log, after)
                except LogChanged as error:
                    self.log.debug("Room %s is read again: %s", scope.room, error)
        raise LogChanged(f"the log of room {scope.room} changes all the time")

    async def _read(self, client: Any, scope: Scope, log: str | None, after: str) -> LogRead:
        if log is not None:
            there, entries, more = await self._page(client, scope, log, after)
            if there == log and entries and entries[0].offset == after:
                if more:
                    entries += await self._read_on(client, scope, log, entries[-1].offset)
                return LogRead(log, True, entries[1:], None, after)
        _, checkpoint_key, _ = self.log_keys(scope)
        raw, offset, checkpoint = await self._fields(
            client, checkpoint_key, "log", "offset", "update"
        )
        if raw is None:
            return LogRead(None, False, [])
        if (there := _name(raw)) is None:
            # The script makes it one.
            there, _, _ = await self._page(client, scope, "", ZERO_OFFSET)
            raise LogChanged(f"the log was {raw[:40]!r}, which is no id, and is {there} now")
        start = _offset(offset) or ZERO_OFFSET
        # Entries are trimmed only up to a checkpoint, so one read of an older checkpoint
        # and a later read of its tail miss nothing but what a newer checkpoint holds; the
        # gap is seen by the entry that follows.
        entries = await self._read_on(client, scope, there, start)
        return LogRead(there, False, entries, checkpoint, start)

    async def _fields(self, client: Any, key: str, *names: str) -> list[Any]:
        """Return fields of a hash; what is no hash has none."""
        fields = await self.hash_fields(client, key, *names)
        if fields is None:
            self._pass_over(f"The key {key} is of another kind, and is replaced")
            return [None for _ in names]
        return fields

    async def _read_on(self, client: Any, scope: Scope, log: str, after: str) -> list[Entry]:
        """Return all entries behind `after`.

        Raises:
            LogChanged: if the room has another log meanwhile, whose entries are no sequel.
        """
        entries: list[Entry] = []
        more = True
        while more:
            there, page, more = await self._page(client, scope, log, f"({after}")
            if there != log:
                raise LogChanged(f"the log is {there or 'gone'}, not {log}")
            entries += page
            after = entries[-1].offset if entries else after
        return entries

    async def _page(
        self, client: Any, scope: Scope, log: str, first: str
    ) -> tuple[str | None, list[Entry], bool]:
        """Return the id of the log that is there, some of its entries if it is `log`, and whether
        there are more."""
        keys = self.log_keys(scope)[:2]
        there, *page = await self.call_on(
            client, scripts.READ, keys, log, first, READ_PAGE_ENTRIES, READ_PAGE_BYTES
        )
        if not there:
            return page[0].decode() or None, [], False
        return log, _entries(page[0]), not page[1]

    async def compact_log(self, scope: Scope, log: str, offset: str, payload: bytes) -> None:
        _, checkpoint_key, _ = self.log_keys(scope)
        _expect(log, await self.call(scripts.COMPACT, [checkpoint_key], log, offset, payload))

    async def read_history(self, scope: Scope) -> History:
        _, checkpoint_key, _ = self.log_keys(scope)
        async with self.bulk_client() as client:
            raw, base = await self._fields(client, checkpoint_key, "log", "base")
            if (log := _name(raw)) is None:
                return History(None, [])
            return History(base, await self._read_on(client, scope, log, ZERO_OFFSET))

    async def trim_history(self, scope: Scope, log: str, first: str, base: bytes) -> None:
        keys = self.log_keys(scope)[:2]
        _expect(log, await self.call(scripts.TRIM, keys, log, first, base))

    # -- leases, maps, the cluster ---------------------------------------------------------

    async def hold_lease(
        self, scope: Scope, replica: str, *, want: bool, ttl_s: float, keep_s: float
    ) -> LeaseView:
        (outcome,) = await self.hold_leases(
            [LeaseWish(scope, want)], replica, ttl_s=ttl_s, keep_s=keep_s
        )
        if isinstance(outcome, TransportError):
            raise outcome
        return outcome

    async def hold_leases(
        self, wishes: Sequence[LeaseWish], replica: str, *, ttl_s: float, keep_s: float
    ) -> list[LeaseView | TransportError]:
        # An ACL refuses a script for one key, so that the rooms of a share go together.
        batches: list[list[int]] = []
        by_share: dict[str, list[int]] = defaultdict(list)
        for number, wish in enumerate(wishes):
            by_share[wish.scope.share].append(number)
        for numbers in by_share.values():
            batches += [
                numbers[start : start + _LEASES_AT_ONCE]
                for start in range(0, len(numbers), _LEASES_AT_ONCE)
            ]
        outcomes: dict[int, LeaseView | TransportError] = {}

        async def hold(numbers: list[int]) -> None:
            batch = [wishes[number] for number in numbers]
            keys = [key for wish in batch for key in self._lease_keys(wish.scope)]
            wanted = ["1" if wish.want else "0" for wish in batch]
            try:
                answers = await self.call(
                    scripts.LEASES, keys, replica, _ms(ttl_s), _ms(keep_s), *wanted
                )
            except TransportError as error:
                outcomes.update(dict.fromkeys(numbers, error))
            else:
                outcomes.update(zip(numbers, map(self._lease_view, answers), strict=True))

        await asyncio.gather(*map(hold, batches))
        return [outcomes[number] for number in range(len(wishes))]

    def _lease_view(self, answer: Any) -> LeaseView | TransportError:
        holder, fence, log, tail, refused, wrong = answer
        if wrong:
            return self.refusal(_text(wrong))
        if refused:
            # Where Redis takes writes from nobody, the connection is given up.
            self.refusal(_text(refused))
        return LeaseView(
            holder.decode() or None, fence, log.decode() or None, tail.decode(), _text(refused)
        )

    def _lease_keys(self, scope: Scope) -> tuple[str, ...]:
        return (self._key(scope, "saver"), *self.log_keys(scope))

    async def mark_saved(
        self, scope: Scope, log: str, offset: str, record: Mapping[str, str], keep_s: float
    ) -> None:
        fields = [part for pair in record.items() for part in pair]
        reply = await self.call(
            scripts.MARK_SAVED, self.log_keys(scope), log, offset, _ms(keep_s), *fields
        )
        _expect(log, reply)

    async def read_map(
        self, scope: Scope, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, str]:
        key = self._key(scope, name)
        if keys is None:
            reply = await self._ask_map(key, "HGETALL", key) or []
            flat = (
                [part for pair in reply.items() for part in pair]
                if isinstance(reply, dict)
                else reply
            )
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
        else:
            names = list(keys)
            if not names:
                return {}
            values = await self._ask_map(key, "HMGET", key, *names) or [None for _ in names]
            pairs = [(name.encode(), value) for name, value in zip(names, values, strict=True)]
        return self._readable(key, pairs)

    async def _ask_map(self, key: str, *command: str) -> Any:
        """The reply to a command that reads the map in `key`; None if it is no map."""
        try:
            return await self.execute(*command)
        except TransportRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._pass_over(f"The key {key} is of another kind, and is replaced")
            return None

    def _readable(self, key: str, pairs: Iterable[tuple[bytes, bytes | None]]) -> dict[str, str]:
        readable: dict[str, str] = {}
        for name, value in pairs:
            if value is None:
                continue
            try:
                readable[name.decode()] = value.decode()
            except UnicodeDecodeError:
                self._pass_over(
                    f"The field {name[:100]!r} of {key} cannot be read and is passed over"
                )
        return readable

    async def write_map(
        self, scope: Scope, name: str, values: Mapping[str, str | None], *, keep: bool = False
    ) -> dict[str, str]:
        key = self._key(scope, name)
        changes = [_map_change(key, field, value, keep) for field, value in values.items()]
        try:
            await self._change_map(changes)
        except TransportRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._pass_over(f"The key {key} is of another kind, and is replaced")
            await self.execute("UNLINK", key)
            await self._change_map(changes)
        return await self.read_map(scope, name, values)

    async def _change_map(self, changes: Sequence[tuple[str, ...]]) -> None:
        commands = [Command(change) for change in changes]
        for command in commands:
            self.submit(command)
        for command in commands:
            await command.reply

    def _pass_over(self, message: str) -> None:
        """Count something that cannot be read, and say it once."""
        self.counters["unreadable"] += 1
        if message not in self._said and len(self._said) < _SAID_MAX:
            self._said.add(message)
            self.log.warning("%s", message)

    async def expire_room(
        self, scope: Scope, log: str, after_s: float, *, tail: str | None = None
    ) -> None:
        # The lease expires by itself, and sooner.
        keys = self.log_keys(scope)
        _expect(log, await self.call(scripts.EXPIRE, keys, log, tail or "", _ms(after_s)))

    async def heartbeat(
        self, replica: str, session: str, *, forget_s: float, keep_s: float
    ) -> ClusterView:
        claim = self.begin(scripts.SESSION, [f"{self.prefix}session"], session, _ms(keep_s))
        beat = self.begin(
            scripts.HEARTBEAT,
            [f"{self.prefix}replicas"],
            replica,
            _ms(forget_s),
            _ms(keep_s),
            _MEMBERS_MAX,
        )
        there, replaced = await claim
        if replaced:
            self._pass_over("The cluster's session id was no id, and is replaced")
        now, scores, refused = await beat
        beats: dict[str, float] = {}
        for name, score in zip(scores[::2], scores[1::2], strict=True):
            if (text := _name(name)) is None:
                self._pass_over(f"{name[:40]!r} is no server's name and is passed over")
            else:
                beats[text] = max(0.0, (now - float(score)) / 1000)
        if refused:
            # Where Redis takes writes from nobody, the connection is given up.
            self.refusal(_text(refused))
        return ClusterView(there.decode(), beats, _text(refused))

    async def farewell(self, replica: str) -> None:
        await self.execute("ZREM", f"{self.prefix}replicas", replica)

    async def granted(self) -> frozenset[str] | None:
        if self.account is None:
            return None
        try:
            raw = await self.execute("GET", granted_key(self.prefix, self.account))
            return None if raw is None else parse_granted(raw)
        except TransportRefused:  # another account than a hub's
            return None


async def create_redis_sync_transport(
    url: str | None = None,
    *,
    key_prefix: str = DEFAULT_KEY_PREFIX,
    log: Logger | None = None,
    **options: Any,
) -> RedisSyncTransport:
    """Create a Redis transport and connect it.

    ``await create_redis_sync_transport("redis://localhost:6379")`` is all that is needed; the
    same can be said in full: ``await create_redis_sync_transport(host="redis.example",
    port=6380, username="jupyter", password="…", db=2, ssl=True, ssl_ca_certs="ca.pem",
    backoff_base_s=0.2, backoff_cap_s=5)``.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
        key_prefix: begins the name of every key and channel.
        log: where to log.
        options: those of `RedisOptions`, and any keyword argument of redis-py's client.

    Returns:
        The transport. If Redis cannot be reached its state is `TransportState.DEGRADED`: rooms
        work on this server alone, and are shared as soon as Redis answers.

    Raises:
        SettingsError: if the URL or an option cannot be used.
    """
    transport = RedisSyncTransport(url=url, key_prefix=key_prefix, log=log, options=options)
    await transport.start()
    return transport


def _bearable(error: str) -> bool:
    """Whether an error of the first commands is mended later on: a script that is not known, and a
    key of the wrong kind."""
    return error.startswith(("NOSCRIPT", "WRONGTYPE"))


def _text(raw: bytes) -> str:
    """`raw` as text for people."""
    return raw.decode(errors="replace")


def _name(raw: bytes | None) -> str | None:
    """`raw` as a name of ours, which is short and of printable ASCII; None if it is none."""
    if raw and len(raw) <= _NAME_MAX_BYTES and not raw.translate(None, _PRINTABLE):
        return raw.decode()
    return None


def _appended(log: str, reply: list[bytes]) -> Appended:
    previous, offset = reply
    if not previous:
        raise LogChanged(f"the log is {offset.decode() or 'gone'}, not {log}")
    return Appended(previous.decode(), offset.decode())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _entries(raw: Any) -> list[Entry]:
    """Entries of a stream's reply; a field that is missing makes an empty payload, which the
    reader reports and passes over."""
    entries = []
    for offset, parts in raw:
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        entries.append(
            Entry(
                offset.decode(),
                fields.get(b"u", b""),
                fields.get(b"r", b"").decode(errors="replace"),
                _offset(fields.get(b"p")),
            )
        )
    return entries


def _offset(raw: bytes | None) -> str | None:
    return raw.decode() if raw is not None and _OFFSET.fullmatch(raw) else None


def _map_change(key: str, field: str, value: str | None, keep: bool) -> tuple[str, ...]:
    if value is None:
        return ("HDEL", key, field)
    return ("HSETNX" if keep else "HSET", key, field, value)


def _expect(log: str, reply: list[bytes]) -> None:
    if not reply[0]:
        there = reply[1].decode() or "gone"
        changed = f"the log is {there}, not {log}" if there != log else f"{log} has gone on"
        raise LogChanged(changed)
