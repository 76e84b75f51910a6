"""The door to redis-py, the only module that imports ``redis``: connections as it makes and closes
them, how they log in, and what its errors say."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from ...core.errors import SettingsError, TransportUnavailable
from ..redaction import SECRETS, check_url, passwords_in_url
from .options import RedisOptions
from .refusals import CLUSTER, SENTINEL, serves_nobody
from .wire import ErrorReply, Wire

_CLOSE_S = 0.5
"""For so long the other side may take to close a connection too."""
LOST = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, asyncio.TimeoutError)
"""Errors that mean that a connection is of no use any more."""

# redis-py takes the first word off the errors that it knows.
_FIRST_WORDS = {
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.NoScriptError: "NOSCRIPT",
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.MovedError: "MOVED",
    redis_errors.AskError: "ASK",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.ClusterCrossSlotError: "CROSSSLOT",
    redis_errors.AuthenticationError: "WRONGPASS",
    redis_errors.BusyLoadingError: "LOADING",
}


class PasswordFile(CredentialProvider):
    """The password in a file, read whenever a connection is made."""

    def __init__(self, path: str) -> None:
        """
        Args:
            path: the file's; a line break at its end is not part of the password.

        Raises:
            SettingsError: if it cannot be read now.
        """
        self._path = path
        self._username: str | None = None
        try:
            self._read()
        except OSError as error:
            raise SettingsError(f"redis_password_file cannot be used: {error}") from None

    def log_in(self, connection: dict[str, Any]) -> None:
        """Let connections log in with it.

        Args:
            connection: the keyword arguments of redis-py's connections; changed.

        Raises:
            ValueError: if there is another password.
        """
        if connection.pop("password", None):
            raise ValueError("there is a password besides redis_password_file; remove one of them")
        self._username = connection.pop("username", None) or self._username
        connection["credential_provider"] = self

    @property
    def username(self) -> str | None:
        return self._username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._read()
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
            password = file.read().rstrip("\r\n")
        if not password:
            raise OSError(f"the file is empty: {self._path!r}")
        SECRETS.add({password})
        return password


class Driver:
    """One connection to Redis, made by redis-py each time that it is needed and not there."""

    def __init__(
        self,
        url: str | None,
        options: RedisOptions,
        password: PasswordFile | None,
        *,
        purpose: str,
        timeout_s: float,
        **more: Any,
    ) -> None:
        """
        Args:
            url: where Redis is; None if `options` say where.
            options: the transport's.
            password: where the password is; None if it is in `url` or `options`.
            purpose: what the connection is for, as its name in Redis says.
            timeout_s: for the answer to a command.
            more: more keyword arguments of redis-py's client.

        Raises:
            SettingsError: if the URL or an option cannot be used.
        """
        self._password = password
        keywords: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": options.connect_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "client_name": f"teleportal-{purpose}",
            "max_connections": 1,
            **more,
            **options.client,
            "decode_responses": False,
        }
        try:
            if url is not None:
                check_url(url)
                self._redis: Redis = Redis.from_url(url, **keywords)
            else:
                self._redis = Redis(**keywords)
            self.pool = self._redis.connection_pool
            if password is not None:
                password.log_in(self.pool.connection_kwargs)
            # redis-py looks at most options only when it makes a connection.
            self.pool.make_connection()  # type: ignore[no-untyped-call]
        except (TypeError, ValueError, redis_errors.RedisError) as error:
            # The error itself may quote a part of a password, as the port or the host.
            why = SECRETS.hide(str(error))
            if isinstance(error, ValueError) and passwords_in_url(url or ""):
                why = (
                    "it is no address; signs such as / ? # @ : [ in its name and password have to "
                    "be percent-encoded"
                    if "percent-encode" not in why
                    else why
                )
            raise SettingsError(f"redis_url or redis_options cannot be used: {why}") from None

    @property
    def address(self) -> str:
        """Where Redis is, for messages; without the password."""
        where = self.pool.connection_kwargs
        if "path" in where:
            return str(where["path"])
        return f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"

    @property
    def account(self) -> str | None:
        """What this logs in to Redis as, None for its user `default`."""
        if self._password is not None:
            return self._password.username
        return self.pool.connection_kwargs.get("username") or None

    async def wire(self) -> Wire:
        """Connect, and return what speaks on the connection from now on.

        Raises:
            TransportUnavailable: if this is no Redis that serves documents.
        """
        pool: Any = self.pool
        connection = await pool.get_connection()
        mode = (getattr(connection, "handshake_metadata", None) or {}).get(b"mode")
        if mode in (b"cluster", b"sentinel"):
            raise TransportUnavailable(CLUSTER if mode == b"cluster" else SENTINEL)
        # Whether it answers, and not that it is loading its data.
        await connection.send_command("PING")
        await connection.read_response()
        return Wire(connection)

    async def execute(self, *arguments: Any) -> Any:
        """Run one command, on a connection that no `wire` speaks on.

        Raises:
            ErrorReply: Redis refuses it.
        """
        try:
            return await self._redis.execute_command(*arguments)  # type: ignore[no-untyped-call]
        except LOST:
            raise
        except redis_errors.RedisError as error:
            raise ErrorReply(_words(error)) from error

    async def disconnect(self) -> None:
        """Close the connection, and wait a moment for the other side to do so too."""
        with anyio.move_on_after(_CLOSE_S):
            await self.pool.disconnect()

    def forget(self) -> None:
        """Have the next connection made anew: wires never give theirs back."""
        self.pool.reset()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        await self._redis.aclose()


def _words(error: BaseException) -> str:
    """The text of an error of redis-py, as Redis has said it."""
    text = str(error)
    for kind, word in _FIRST_WORDS.items():
        if isinstance(error, kind) and not text.startswith(word):
            return f"{'NOAUTH' if text.startswith('Authentication required') else word} {text}"
    return text


def cause_of(error: BaseException) -> str:
    """The text of the innermost error of a task group's error."""
    while isinstance(nested := getattr(error, "exceptions", None), tuple | list) and nested:
        error = nested[0]
    words = _words(error)
    return serves_nobody(words) or words or type(error).__name__
