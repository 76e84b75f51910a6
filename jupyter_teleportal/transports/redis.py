"""The Redis transport: streams as logs, pub/sub as channels, keys with an expiry as leases."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from logging import Logger
from typing import Any

from ..errors import LogChanged, TransportError, TransportRefused
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
    offset_key,
)
from . import redis_scripts as scripts
from .redis_acl import granted_key, parse_granted
from .redis_client import DEFAULT_KEY_PREFIX, Command, RedisClient

INLINE_MAX_BYTES = 64 * 1024
READ_PAGE_ENTRIES = 1000
READ_PAGE_BYTES = 1024 * 1024
"""So much of a log is read at once; Redis does nothing else meanwhile."""
_READ_TRIES = 3
_LEASES_AT_ONCE = 50
"""Redis does nothing else meanwhile."""


class RedisSyncTransport(RedisClient):
    """Shares rooms through a Redis or Valkey server; create it with
    `create_redis_sync_transport`."""

    name = "redis"

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
        raw, offset, checkpoint = await client.execute_command(
            "HMGET", checkpoint_key, "log", "offset", "update"
        )
        if raw is None:
            return LogRead(None, False, [])
        there, start = raw.decode(), offset.decode() if offset else ZERO_OFFSET
        # Entries are trimmed only up to a checkpoint, so one read of an older checkpoint
        # and a later read of its tail miss nothing but what a newer checkpoint holds; the
        # gap is seen by the entry that follows.
        entries = await self._read_on(client, scope, there, start)
        return LogRead(there, False, entries, checkpoint, start)

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
            reader: Any = client
            log, base = await reader.execute_command("HMGET", checkpoint_key, "log", "base")
            if log is None:
                return History(None, [])
            return History(base, await self._read_on(client, scope, log.decode(), ZERO_OFFSET))

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
                outcomes.update(zip(numbers, map(_lease_view, answers), strict=True))

        await asyncio.gather(*map(hold, batches))
        return [outcomes[number] for number in range(len(wishes))]

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
            reply = await self.execute("HGETALL", key)
            pairs = (
                reply.items() if isinstance(reply, dict) else zip(*[iter(reply)] * 2, strict=True)
            )
            return {name.decode(): value.decode() for name, value in pairs}
        names = list(keys)
        if not names:
            return {}
        values = await self.execute("HMGET", key, *names)
        return {
            name: value.decode()
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    async def write_map(
        self, scope: Scope, name: str, values: Mapping[str, str | None], *, keep: bool = False
    ) -> dict[str, str]:
        key = self._key(scope, name)
        changes = [Command(_map_change(key, field, value, keep)) for field, value in values.items()]
        for command in changes:
            self.submit(command)
        for command in changes:
            await command.reply
        return await self.read_map(scope, name, values)

    async def expire_room(
        self, scope: Scope, log: str, after_s: float, *, tail: str | None = None
    ) -> None:
        # The lease expires by itself, and sooner.
        keys = self.log_keys(scope)
        _expect(log, await self.call(scripts.EXPIRE, keys, log, tail or "", _ms(after_s)))

    async def heartbeat(
        self, replica: str, session: str, *, forget_s: float, keep_s: float
    ) -> ClusterView:
        session_key = f"{self.prefix}session"
        claim = Command(("SET", session_key, session, "NX"))
        keep = Command(("PEXPIRE", session_key, _ms(keep_s)))
        read = Command(("GET", session_key))
        for command in (claim, keep, read):
            self.submit(command)
        now, scores, refused = await self.call(
            scripts.HEARTBEAT, [f"{self.prefix}replicas"], replica, _ms(forget_s), _ms(keep_s)
        )
        there = await read.reply
        beats = {
            name.decode(): max(0.0, (now - float(score)) / 1000)
            for name, score in zip(scores[::2], scores[1::2], strict=True)
        }
        return ClusterView(there.decode() if there else session, beats, refused.decode())

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


def _appended(log: str, reply: list[bytes]) -> Appended:
    previous, offset = reply
    if not previous:
        raise LogChanged(f"the log is {offset.decode() or 'gone'}, not {log}")
    return Appended(previous.decode(), offset.decode())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _lease_view(answer: Any) -> LeaseView | TransportError:
    holder, fence, log, tail, refused, wrong = answer
    if wrong:
        return TransportRefused(f"Redis refused a command: {wrong.decode(errors='replace')}")
    return LeaseView(
        holder.decode() or None,
        fence,
        log.decode() or None,
        tail.decode(),
        refused.decode(errors="replace"),
    )


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
    try:
        text = raw.decode() if raw is not None else ""
        offset_key(text)
    except ValueError:
        return None
    return text


def _map_change(key: str, field: str, value: str | None, keep: bool) -> tuple[str, ...]:
    if value is None:
        return ("HDEL", key, field)
    return ("HSETNX" if keep else "HSET", key, field, value)


def _expect(log: str, reply: list[bytes]) -> None:
    if not reply[0]:
        there = reply[1].decode() or "gone"
        changed = f"the log is {there}, not {log}" if there != log else f"{log} has gone on"
        raise LogChanged(changed)
