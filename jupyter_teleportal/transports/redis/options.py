"""How the Redis transport reaches Redis and how patiently, as its settings say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import SettingsError
from ...core.settings import is_above_zero

DEFAULT_KEY_PREFIX = "teleportal:sync:"


@dataclass(frozen=True)
class RedisOptions:
    """How to reach Redis and how patiently. Times are in seconds.

    Attributes:
        client: keyword arguments of ``redis.asyncio.Redis`` (host, port, username, password, db,
            ssl and so on), used in addition to the URL.
        connect_timeout_s: for opening a connection.
        command_timeout_s: for the answer to a command.
        bulk_timeout_s: for the answer to a read of a log.
        ping_interval_s: the subscription connection is given up if it has been silent for three
            times as long.
        backoff_base_s, backoff_cap_s: the pause before the next attempt to connect doubles from
            the one to the other, with jitter.
        log_max_bytes: most bytes that Redis keeps of a document: a third for its checkpoint,
            one for what stands for its forgotten history, and one for its history. Nothing over
            64 KiB is added that would make it larger, although its history was cut, and a tenth
            above it nothing at all; the document goes on on each server, and is saved, as in an
            outage.
        share_max_bytes: the same for all documents of a share together. Above it nothing over
            64 KiB is added to any of them, and a tenth above it nothing at all.
    """

    client: Mapping[str, Any]
    connect_timeout_s: float = 2.0
    command_timeout_s: float = 5.0
    bulk_timeout_s: float = 60.0
    ping_interval_s: float = 2.0
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 2.0
    log_max_bytes: float = 1024 * 1024 * 1024
    share_max_bytes: float = 8 * 1024 * 1024 * 1024

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> RedisOptions:
        """Split `options` into ours and redis-py's.

        Raises:
            SettingsError: if one of ours is not a positive, finite number.
        """
        client = dict(options)
        ours: dict[str, float] = {}
        for name in cls.__dataclass_fields__:
            if name != "client" and name in client:
                value = client.pop(name)
                if not is_above_zero(value):
                    raise SettingsError(
                        f"redis_options: {name} is {value!r}, not a number above 0; for no limit, "
                        "set a very large one, such as 1e15"
                    )
                ours[name] = float(value)
        return cls(client, **ours)
