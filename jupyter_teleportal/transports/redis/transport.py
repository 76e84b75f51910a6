"""The Redis transport: streams as logs, pub/sub as channels, keys with an expiry as leases."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from logging import Logger
from typing import Any

from ...core.errors import (
    LogChanged,
    LogFull,
    MapTooLarge,
    ShareFull,
    TransportError,
    TransportRefused,
    TransportUnavailable,
)
from ...core.values import (
    ZERO_OFFSET,
    Appended,
    ClusterView,
    History,
    LeaseView,
    LeaseWish,
    LogRead,
    LogSize,
    Scope,
    Seeded,
)
from .. import base
from . import scripts
from .accounts import granted_key, parse_granted
from .bulk import WHOLE_BYTES
from .client import Command, RedisClient
from .log_reader import SMALL_BYTES, LogReader
from .options import DEFAULT_KEY_PREFIX
from .refusals import SCRIPTS_MISSING, SENTINEL, lacks_right, useless
from .replies import expect, name_of, offset_of, text_of
from .usage import ShareUsage, megabytes
from .wire import ErrorReply, Wire

INLINE_MAX_BYTES = 64 * 1024
SIZE_PAGE_BYTES = 4 * 1024 * 1024
"""So much is counted at once; Redis does nothing else meanwhile."""
_FIELDS_AT_ONCE = 500
_MEMBERS_MAX = 1000
_SAID_MAX = 100
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
        self._reader = LogReader(self, self._pass_over)
        self._usage = ShareUsage(self._say_usage, self._sizes_of, self._options.share_max_bytes)
        self._part_bytes = self._options.log_max_bytes / 3
        """What a checkpoint may be, what stands for the history, and the history."""
        self._doubted: set[Scope] = set()
        """Whose logs are counted anew before anything is refused for their size again."""

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
        self._expect_room(scope, payload)
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
        try:
            self._expect_room(scope, payload)
        except LogFull as error:
            full: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            full.set_exception(error)
            return full
        if len(payload) > WHOLE_BYTES:
            return self._append_large(scope, log, replica, payload)
        return self._append(scope, log, replica, payload)

    async def _append_large(self, scope: Scope, log: str, replica: str, payload: bytes) -> Appended:
        # Before all of it is on its way.
        size = await self.log_size(scope, log)
        if size.payload_bytes + len(payload) > self._part_bytes:
            raise self._too_large(scope, size.payload_bytes + len(payload))
        return await self._append(scope, log, replica, payload)

    def _append(self, scope: Scope, log: str, replica: str, payload: bytes) -> Awaitable[Appended]:
        return self.begin(
            scripts.APPEND,
            self.log_keys(scope),
            log,
            replica,
            payload,
            self.channel(scope),
            INLINE_MAX_BYTES,
            int(_most(self._part_bytes, payload)),
            convert=partial(self._appended, scope, log, len(payload)),
        )

    def _appended(self, scope: Scope, log: str, size: int, reply: list[Any]) -> Appended:
        previous, offset, *bytes_there = reply
        if bytes_there:
            raise self._too_large(scope, bytes_there[0] + size)
        if not previous:
            raise LogChanged(f"the log is {offset.decode() or 'gone'}, not {log}")
        return Appended(previous.decode(), offset.decode())

    def _too_large(self, scope: Scope, size: int) -> LogFull:
        self._doubted.add(scope)
        return LogFull(
            f"the document, or its history, would take {megabytes(size)} in Redis, and may take no "
            f"more than {megabytes(self._part_bytes)}; remove large outputs from it, or raise "
            "log_max_bytes in redis_options, which is three times that"
        )

    def _expect_room(self, scope: Scope, payload: bytes) -> None:
        """
        Raises:
            LogFull: if the payload is too large, or what the share's documents take together.
        """
        if len(payload) > self._part_bytes:
            raise self._too_large(scope, len(payload))
        most, there = self._options.share_max_bytes, self._usage.total(scope.share)
        if there + len(payload) > _most(most, payload):
            raise ShareFull(
                f"the documents of the share {scope.share} take {megabytes(there)} in Redis, and "
                f"may take no more than {megabytes(most)}; remove large outputs, lower "
                "history_keep_s, or raise share_max_bytes in redis_options"
            )
        if len(payload) > INLINE_MAX_BYTES:
            self._usage.add(scope.share, len(payload))

    async def read_log(self, scope: Scope, log: str | None, after: str) -> LogRead:
        return await self._reader.read(scope, log, after)

    async def compact_log(self, scope: Scope, log: str, offset: str, payload: bytes) -> None:
        if len(payload) > self._part_bytes:
            raise self._too_large(scope, len(payload))
        _, checkpoint_key, _ = self.log_keys(scope)
        expect(log, await self.call(scripts.COMPACT, [checkpoint_key], log, offset, payload))

    async def log_size(self, scope: Scope, log: str) -> LogSize:
        keys = self.log_keys(scope)[:2]
        last, entries, size, first = ZERO_OFFSET, 0, 0, ZERO_OFFSET
        anew = "1" if scope in self._doubted else "0"
        self._doubted.discard(scope)
        while True:
            reply = await self.call(
                scripts.SIZE, keys, log, last, entries, size, first, SIZE_PAGE_BYTES, anew
            )
            expect(log, reply)
            _, counted, entries, size, raw_first, raw_last, other = reply
            first, last = offset_of(raw_first) or ZERO_OFFSET, offset_of(raw_last) or ZERO_OFFSET
            if counted:
                return LogSize(entries, size, first, last, other)

    async def read_history(
        self, scope: Scope, *, after: str | None = None, max_bytes: int | None = None
    ) -> History:
        joined, base = await self._reader.join(scope, "log" if after is not None else "base")
        if joined.log is None:
            return History(None, [])
        entries = await self._reader.read_on(scope, joined.log, after or ZERO_OFFSET, max_bytes)
        return History(None if after is not None else base, entries)

    async def trim_history(
        self,
        scope: Scope,
        log: str,
        first: str,
        base: bytes,
        *,
        entries: int = 0,
        payload_bytes: int = 0,
    ) -> None:
        keys = self.log_keys(scope)[:2]
        reply = await self.call(scripts.TRIM, keys, log, first, base, entries, payload_bytes)
        expect(log, reply)

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
        sizes: dict[str, dict[str | bytes | None, int]] = defaultdict(dict)

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
                for number, answer in zip(numbers, answers, strict=True):
                    # Whoever holds it says how large it is.
                    if answer[0].decode() == replica:
                        sizes[wishes[number].scope.share][wishes[number].scope.room] = answer[6]

        await asyncio.gather(*map(hold, batches))
        await asyncio.gather(*(self._note_usage(share, sizes[share], keep_s) for share in by_share))
        return [outcomes[number] for number in range(len(wishes))]

    async def _note_usage(
        self, share: str, sizes: Mapping[str | bytes | None, int], keep_s: float
    ) -> None:
        try:
            await self._usage.note(share, sizes, keep_s)
        except TransportError as error:
            self.log.debug("How much the share %s takes in Redis is not known: %s", share, error)

    async def _say_usage(self, share: str, *arguments: Any) -> list[Any]:
        reply: list[Any] = await self.call(
            scripts.USAGE, [self._key(Scope(share), "usage")], *arguments
        )
        return reply

    async def _sizes_of(self, share: str, rooms: Sequence[str]) -> list[int]:
        keys = [key for room in rooms for key in self._lease_keys(Scope(share, room))]
        # Nobody's name: it looks, and takes nothing.
        answers = await self.call(scripts.LEASES, keys, "", 1, 1, *("0" for _ in rooms))
        return [answer[6] for answer in answers]

    def _lease_view(self, answer: Any) -> LeaseView | TransportError:
        holder, fence, log, tail, refused, wrong, _ = answer
        if wrong:
            return self.refusal(text_of(wrong))
        if refused:
            # Where Redis takes writes from nobody, the connection is given up.
            self.refusal(text_of(refused))
        return LeaseView(
            holder.decode() or None, fence, log.decode() or None, tail.decode(), text_of(refused)
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
        expect(log, reply)

    async def read_map(
        self, scope: Scope, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, str]:
        key = self._key(scope, name)
        if keys is None:
            reply = await self._read_fields(key, base.MAP_ENTRIES_MAX, [])
            return await self._readable(scope, key, reply)
        names = list(keys)
        values: dict[str, str] = {}
        for start in range(0, len(names), _FIELDS_AT_ONCE):
            some = await self._read_fields(key, 0, names[start : start + _FIELDS_AT_ONCE])
            values.update(await self._readable(scope, key, some))
        return values

    async def _read_fields(self, key: str, most: int, fields: list[str]) -> list[Any]:
        """Return names and values of the map in `key`, all of them if `most` is not 0; none, if it
        is no map.

        Raises:
            MapTooLarge: if there are more than `most`.
        """
        try:
            reply: list[Any] | int = await self.call(
                scripts.READ_MAP, [key], most, SMALL_BYTES, *fields
            )
        except TransportRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._pass_over(f"The key {key} is of another kind, and is replaced")
            return []
        if isinstance(reply, int):
            self._pass_over(
                f"The key {key} has more than {most} entries, and is not read as a whole"
            )
            raise MapTooLarge(f"the map {key} has {reply} entries, more than {most}")
        return reply

    async def _readable(self, scope: Scope, key: str, reply: list[Any]) -> dict[str, str]:
        readable: dict[str, str] = {}
        for name, value in zip(reply[::2], reply[1::2], strict=True):
            if isinstance(value, int):
                value, _ = await self._reader.in_pieces(key, scope, "field", name)
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
        try:
            await self._change_map(key, values, keep)
        except TransportRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._pass_over(f"The key {key} is of another kind, and is replaced")
            await self.execute("UNLINK", key)
            await self._change_map(key, values, keep)
        return await self.read_map(scope, name, values)

    async def _change_map(self, key: str, values: Mapping[str, str | None], keep: bool) -> None:
        changes = [self._change(key, field, value, keep) for field, value in values.items()]
        for change in changes:
            await change

    def _change(self, key: str, field: str, value: str | None, keep: bool) -> asyncio.Future[Any]:
        if value is None:
            return self.submit(Command(("HDEL", key, field)))
        return self.begin(scripts.WRITE_MAP, [key], field, value.encode(), "1" if keep else "0")

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
        expect(log, await self.call(scripts.EXPIRE, keys, log, tail or "", _ms(after_s)))

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
            if (text := name_of(name)) is None:
                self._pass_over(f"{name[:40]!r} is no server's name and is passed over")
            else:
                beats[text] = max(0.0, (now - float(score)) / 1000)
        if refused:
            # Where Redis takes writes from nobody, the connection is given up.
            self.refusal(text_of(refused))
        return ClusterView(there.decode(), beats, text_of(refused))

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


def _most(most: float, payload: bytes) -> float:
    """What may be there with `payload`: for what is small, there is some room left."""
    return most if len(payload) > INLINE_MAX_BYTES else 1.1 * most


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
