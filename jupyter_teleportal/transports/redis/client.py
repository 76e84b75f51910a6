"""The connections of the Redis transport: kept, given up and made again, and what goes over them.

At most three, whatever the number of rooms: one for commands, one for subscriptions, and one for
bulk reads. The first two are made by redis-py and used directly (`Wire`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from logging import Logger, getLogger
from typing import Any

import anyio
from hiredis import PushNotification

from ...core.errors import TransportError, TransportRefused, TransportUnavailable
from ...core.values import Scope
from ..base import MISSED, Listener, TransportBase, TransportState, loop_time, passes_through
from ..channel_turns import ChannelTurns
from ..redaction import SECRETS, passwords_in_options, passwords_in_url
from . import scripts
from .bulk import WHOLE_BYTES, put, staging_key
from .driver import LOST, Driver, PasswordFile, cause_of
from .options import DEFAULT_KEY_PREFIX, RedisOptions
from .refusals import SCRIPTS_MISSING, lacks_right, serves_nobody
from .wire import ErrorReply, Wire

LARGE_BYTES = 1024 * 1024
_BULK_READ_BYTES = 1024 * 1024
_LOOKS = 3
_LOOK_PAUSE_S = 0.02
_CAUSES_MAX = 10
_FLOODED_MAX = 10
_NAMES_MAX = 5000


class Command:
    """A command whose reply is awaited, and what is made of that. Its arguments are bytes, text and
    integers."""

    def __init__(
        self,
        arguments: tuple[Any, ...],
        script: scripts.Script | None = None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self.arguments = arguments
        self.script = script
        self.convert = convert
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent_at = 0.0
        self.with_its_source = False

    def with_source(self) -> Command:
        """The same with the script's source, for a Redis that does not know the script yet."""
        assert self.script is not None
        arguments = ("EVAL", self.script.source, *self.arguments[2:])
        again = Command(arguments, convert=self.convert)
        again.reply = self.reply
        again.with_its_source = True
        return again

    def finish(self, reply: Any) -> None:
        """Take Redis' reply."""
        if self.reply.done():
            return
        try:
            self.reply.set_result(reply if self.convert is None else self.convert(reply))
        except TransportError as error:
            _fail(self.reply, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is about this reply alone)
            _fail(self.reply, TransportRefused(f"Redis' answer cannot be read: {error!r}"))


class RedisClient(TransportBase):
    """The connections to one Redis or Valkey server: kept, given up and made again."""

    def __init__(
        self,
        *,
        url: str | None = None,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        log: Logger | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``; None if `options` say where.
            key_prefix: begins the name of every key and channel.
            log: where to log.
            options: those of `RedisOptions`, `password_file`, and any keyword argument of
                redis-py's client.

        Raises:
            SettingsError: if the URL or an option cannot be used.
        """
        super().__init__(log or getLogger(__name__))
        self._url = url
        self.prefix = key_prefix
        given = dict(options or {})
        password_file = given.pop("password_file", None)
        self._password = None if password_file is None else PasswordFile(password_file)
        self._options = RedisOptions.parse(given)
        SECRETS.add(passwords_in_url(url or "") | passwords_in_options(given))
        self._commands: deque[Command] = deque()
        self._listeners: dict[str, tuple[Scope, Listener]] = {}
        self._turns = ChannelTurns(self._hand_on, self._flood_on)
        self._confirmations: deque[tuple[str, asyncio.Future[None]]] = deque()
        """In the order in which they were asked for."""
        self._lost: asyncio.Future[None] | None = None
        self._command_wire: Wire | None = None
        self._channel_wire: Wire | None = None
        self._heard = 0.0
        self._bulk: Driver | None = None
        self._bulk_lock = asyncio.Lock()
        self._runner: asyncio.Task[None] | None = None
        self._attempted = asyncio.Event()
        self._flooded: set[str] = set()
        self._log_keys: dict[Scope, Sequence[str]] = {}
        """Each edit needs them."""
        self._causes: set[str] = set()
        """What the log was told of the present outage."""
        # Made once here, so that a wrong URL or option is an error of whoever configured it.
        self._command_driver = self._driver("command", self._options.command_timeout_s)
        self._channel_driver = self._driver("subscribe", self._options.command_timeout_s)

    # -- connections -----------------------------------------------------------------------

    def _driver(self, purpose: str, timeout_s: float, **more: Any) -> Driver:
        return Driver(
            self._url, self._options, self._password, purpose=purpose, timeout_s=timeout_s, **more
        )

    @property
    def address(self) -> str:
        """Where Redis is, for messages; without the password."""
        return self._command_driver.address

    @property
    def account(self) -> str | None:
        """What this logs in to Redis as, None for its user `default`."""
        return self._command_driver.account

    async def start(self) -> None:
        if self._runner is None:
            self._attempted.clear()
            self._set_state(TransportState.DEGRADED)
            self._begin_to_run()
        await self._attempted.wait()

    def _begin_to_run(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="teleportal-redis")
        self._runner.add_done_callback(self._runner_ended)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        """The task that keeps the connections has ended. It never does so by itself; whoever may
        have ended it, it is begun again."""
        if runner is not self._runner:
            return  # closed
        error = None if runner.cancelled() else runner.exception()
        self.counters["restarts"] += 1
        self.log.error(
            "The task that keeps the connections to Redis ended, and is begun again: %r",
            error or "it was cancelled",
            exc_info=error,
        )
        self._disconnected(error or RuntimeError("the task that keeps the connections ended"))
        self._attempted.set()
        asyncio.get_running_loop().call_later(self._options.backoff_cap_s, self._run_again, runner)

    def _run_again(self, ended: asyncio.Task[None]) -> None:
        if self._runner is ended:
            self._begin_to_run()

    async def aclose(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            # Unlike `await runner`, this tells the runner's cancellation from the caller's.
            await asyncio.gather(runner, return_exceptions=True)
        # A runner that was cancelled before its first step has not let go of who starts it.
        self._attempted.set()
        self._set_state(TransportState.LOCAL)
        self._fail_waiting(TransportUnavailable("the Redis transport is closed"))
        for driver in (self._command_driver, self._channel_driver, self._bulk):
            if driver is not None:
                await self._close(driver.aclose())

    async def _close(self, closing: Awaitable[None]) -> None:
        try:
            await closing
        except LOST as error:
            self.log.debug("Closing a connection to Redis: %s", error)

    async def _run(self) -> None:
        """Connect, serve until something breaks, pause, and again."""
        options = self._options
        pause_s = options.backoff_base_s
        own = asyncio.current_task()
        # A cancellation that meets an error of the connection may be lost in a task group.
        while self._runner is own:
            connected_at = None
            try:
                async with self._connected() as lost:
                    connected_at = loop_time()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._read_replies)
                        tasks.start_soon(self._read_channels)
                        tasks.start_soon(self._watch_commands)
                        tasks.start_soon(self._ping)
                        await lost
            except BaseException as error:
                if passes_through(error):
                    raise
                self._disconnected(error)
            finally:
                self._attempted.set()
            if self._runner is not own:
                return
            if connected_at is not None and loop_time() - connected_at > 2 * options.backoff_cap_s:
                # It has proved itself; one that is lost right after it was made has not.
                pause_s = options.backoff_base_s
            await asyncio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000))
            pause_s = min(2 * pause_s, options.backoff_cap_s)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncio.Future[None]]:
        """The connections; what is yielded fails when they are of no use any more."""
        options = self._options
        lost = asyncio.get_running_loop().create_future()
        try:
            with anyio.fail_after(options.connect_timeout_s + options.command_timeout_s):
                self._command_wire = await self._command_driver.wire()
                await self._prove(self._command_wire)
                self._channel_wire = await self._channel_driver.wire()
                channels = list(self._listeners)
                for channel in channels:
                    self._channel_wire.send(("SUBSCRIBE", channel))
                await self._await_confirmations(self._channel_wire, channels)
            self._heard = loop_time()
            self._lost = lost
            self.log.info("Connected to Redis at %s", self.address)
            self._set_state(TransportState.CONNECTED)
            self._attempted.set()
            yield lost
        finally:
            self._lost = None
            if not lost.cancel() and not lost.cancelled():
                lost.exception()  # It may not be what ended the connection.
            for wire in (self._command_wire, self._channel_wire):
                if wire is not None:
                    wire.close()
            self._command_wire = self._channel_wire = None
            with anyio.CancelScope(shield=True):
                for driver in (self._command_driver, self._channel_driver):
                    await self._close(driver.disconnect())
                    driver.forget()
                if self._bulk is not None:
                    await self._close(self._bulk.disconnect())

    async def _prove(self, wire: Wire) -> None:
        """See, before the state becomes `CONNECTED`, whether this Redis does what is needed.

        Raises:
            TransportUnavailable: if it does not.
        """

    def refusal(self, error: str) -> TransportError:
        """Return what Redis' `error` means for whoever asked. If it means that this Redis serves
        nobody, the connections are given up and made again: after a failover, the address leads
        elsewhere."""
        why = serves_nobody(error)
        if why is None:
            return TransportRefused(f"Redis refused a command: {error}")
        return self._give_up(why)

    def _give_up(self, why: str) -> TransportUnavailable:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(TransportUnavailable(why))
        return TransportUnavailable(f"Redis at {self.address}: {why}")

    @staticmethod
    async def ask(wire: Wire, *commands: tuple[Any, ...]) -> list[Any]:
        """Return the replies to `commands`, on a connection that is not in use yet; an
        `ErrorReply` where Redis refuses one."""
        for command in commands:
            wire.send(command)
        replies: list[Any] = []
        while len(replies) < len(commands):
            new = await wire.read()
            replies += [reply for reply in new if not isinstance(reply, PushNotification)]
        return replies

    async def _await_confirmations(self, wire: Wire, channels: list[str]) -> None:
        # In the order in which they were asked for; Redis does not say which one it refuses.
        waiting = deque(channels)
        while waiting:
            for reply in await wire.read():
                if isinstance(reply, ErrorReply):
                    self._refused(waiting.popleft(), reply)
                elif reply[0] == b"subscribe":
                    waiting.popleft()
                else:
                    self._on_push(reply)

    def _refused(self, channel: str, error: Exception) -> TransportRefused:
        self._listeners.pop(channel, None)
        self.counters["refused_channels"] += 1
        self.log.warning("Redis refuses the channel %s: %s", channel, error)
        return TransportRefused(f"Redis refused the channel {channel}: {error}")

    def _disconnected(self, error: BaseException) -> None:
        self._problem = f"Redis at {self.address}: {cause_of(error)}"
        self._fail_waiting(TransportUnavailable(self._problem))
        began = self._state is TransportState.CONNECTED or not self._attempted.is_set()
        if began:
            self.counters["outages"] += 1
            self._causes.clear()
        if (cause := cause_of(error)) not in self._causes and len(self._causes) < _CAUSES_MAX:
            self._causes.add(cause)
            self.log.warning(
                "Redis at %s cannot be reached (%s); documents stay editable on this server and "
                "are shared again when it is back",
                self.address,
                cause,
            )
        if self._state is not TransportState.DEGRADED:
            self._set_state(TransportState.DEGRADED)

    def _fail_waiting(self, error: TransportUnavailable) -> None:
        for command in self._commands:
            _fail(command.reply, error)
        self._commands.clear()
        for _, confirmation in self._confirmations:
            _fail(confirmation, error)
        self._confirmations.clear()
        # Whoever listens looks at everything anew when the connection is back.
        self._turns.clear()

    # -- commands --------------------------------------------------------------------------

    async def _read_replies(self) -> None:
        wire = self._command_wire
        assert wire is not None

        def take(replies: list[Any]) -> None:
            for reply in replies:
                # What Redis says by itself is no reply.
                if not isinstance(reply, PushNotification):
                    self._take_reply(wire, self._commands.popleft(), reply)

        await wire.listen(take)

    def _take_reply(self, wire: Wire, command: Command, reply: Any) -> None:
        if not isinstance(reply, ErrorReply):
            command.finish(reply)
            return
        text = str(reply)
        if text.startswith("NOSCRIPT") and command.script is not None:
            self._put(wire, command.with_source())
        elif command.with_its_source and lacks_right(text) and "eval" in text:
            _fail(command.reply, self._give_up(SCRIPTS_MISSING))
        else:
            _fail(command.reply, self.refusal(text))

    async def _watch_commands(self) -> None:
        """Give the connection up when an answer takes too long."""
        timeout_s = self._options.command_timeout_s
        while True:
            await asyncio.sleep(timeout_s / 5)
            for _ in range(_LOOKS):
                oldest = self._commands[0] if self._commands else None
                if oldest is None or loop_time() - oldest.sent_at < timeout_s:
                    break
                # If it was this process that stood still, the answer is there and is read now.
                await asyncio.sleep(_LOOK_PAUSE_S)
            else:
                raise TransportUnavailable(f"no answer for {timeout_s:g} s")

    def _put(self, wire: Wire, command: Command) -> None:
        # One that cannot be sent gets no reply either.
        wire.send(command.arguments)
        command.sent_at = loop_time()
        self._commands.append(command)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        wire = self._command_wire
        if wire is None or self._state is not TransportState.CONNECTED:
            raise TransportUnavailable(f"not connected to Redis at {self.address}")
        self._put(wire, command)
        return command.reply

    async def execute(self, *arguments: Any) -> Any:
        return await self.submit(Command(arguments))

    async def call(self, script: scripts.Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script and return its reply."""
        return await self.begin(script, keys, *arguments)

    def begin(
        self,
        script: scripts.Script,
        keys: Sequence[str],
        *arguments: Any,
        convert: Callable[[Any], Any] | None = None,
    ) -> asyncio.Future[Any]:
        """Begin to run a script; `convert` makes of its reply what is awaited. One with a
        large argument goes over the connection for bulk, in turns, where it may take its time."""
        command = Command(script.command(keys, arguments), script, convert)
        if script.large is not None and len(arguments[script.large]) >= LARGE_BYTES:
            return asyncio.ensure_future(self._call_in_pieces(command, script, keys, arguments))
        try:
            return self.submit(command)
        except TransportUnavailable as error:
            _fail(command.reply, error)
            return command.reply

    async def _call_in_pieces(
        self,
        command: Command,
        script: scripts.Script,
        keys: Sequence[str],
        arguments: tuple[Any, ...],
    ) -> Any:
        assert script.large is not None
        large = arguments[script.large]
        if len(large) <= WHOLE_BYTES:
            command.finish(await self.call_in_turn(script, keys, *arguments))
            return await command.reply
        staged = staging_key(keys[0])
        try:
            await put(self.in_turn, staged, large)
            last = Command(script.staged(keys, arguments, staged), script)
            async with self.bulk() as driver:
                reply = await self._run_on(driver, last)
        finally:
            self.remove(staged)
        command.finish(reply)
        return await command.reply

    async def in_turn(self, *arguments: Any) -> Any:
        """Send one command on the connection for bulk, when all who wait there have had a turn."""
        async with self.bulk() as driver:
            return await driver.execute(*arguments)

    async def call_in_turn(
        self, script: scripts.Script, keys: Sequence[str], *arguments: Any
    ) -> Any:
        """Run a script on the connection for bulk, when all who wait there have had a turn."""
        async with self.bulk() as driver:
            return await self._run_on(driver, Command(script.command(keys, arguments), script))

    def remove(self, key: str) -> None:
        """Remove a key in which something large was put together; if that fails, it expires."""
        if self._command_wire is not None and self._state is TransportState.CONNECTED:
            self._put(self._command_wire, Command(("UNLINK", key)))

    async def _run_on(self, driver: Driver, command: Command) -> Any:
        try:
            return await driver.execute(*command.arguments)
        except ErrorReply as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        try:
            return await driver.execute(*command.with_source().arguments)
        except ErrorReply as error:
            if lacks_right(str(error)) and "eval" in str(error):
                raise self._give_up(SCRIPTS_MISSING) from error
            raise

    # -- channels --------------------------------------------------------------------------

    async def _read_channels(self) -> None:
        wire = self._channel_wire
        assert wire is not None

        def take(replies: list[Any]) -> None:
            self._heard = loop_time()
            self._turns.behind(wire.behind)
            for reply in replies:
                if isinstance(reply, ErrorReply):
                    self._channel_error(reply)
                else:
                    self._on_push(reply)

        try:
            await wire.listen(take)
        except ConnectionError as error:
            raise TransportUnavailable(
                f"{error}, on the connection for subscriptions; Redis also does so when a "
                "message is larger than its client-output-buffer-limit for pubsub"
            ) from error

    def _channel_error(self, error: ErrorReply) -> None:
        if self._confirmations and str(error).startswith("NOPERM"):
            channel, confirmation = self._confirmations.popleft()
            _fail(confirmation, self._refused(channel, error))
        else:
            raise ConnectionError(str(error))

    async def _ping(self) -> None:
        silence_s = 3 * self._options.ping_interval_s
        while True:
            if self._channel_wire is not None:
                self._channel_wire.send(("PING",))
            await asyncio.sleep(self._options.ping_interval_s)
            for _ in range(_LOOKS):
                if loop_time() - self._heard < silence_s:
                    break
                await asyncio.sleep(_LOOK_PAUSE_S)
            else:
                raise TransportUnavailable(f"nothing heard for {silence_s:.0f} s")

    def _on_push(self, push: Any) -> None:
        """Take what comes on the connection for subscriptions: in RESP3 a push, in RESP2 a list;
        in RESP3 the answer to a ping is a bare status."""
        if not isinstance(push, list) or len(push) < 2:
            return
        kind, channel = push[0], push[1].decode(errors="replace")
        if kind == b"message":
            if channel in self._listeners:
                self._turns.take(channel, push[2])
        elif kind == b"subscribe":
            waiting = self._confirmations
            confirmation = waiting.popleft()[1] if waiting and waiting[0][0] == channel else None
            if confirmation is not None and not confirmation.done():
                confirmation.set_result(None)

    def _hand_on(self, channel: str, message: bytes) -> None:
        subscription = self._listeners.get(channel)
        if subscription is not None:
            scope, listener = subscription
            self._deliver(scope, listener, message)

    def _flood_on(self, channel: str) -> None:
        self.counters["floods"] += 1
        if channel not in self._flooded and len(self._flooded) < _FLOODED_MAX:
            self._flooded.add(channel)
            self.log.warning(
                "More is said on the channel %s than this server can handle, and some of it is "
                "dropped: edits come by the log all the same, other documents notice nothing",
                channel,
            )
        self._hand_on(channel, MISSED)

    async def subscribe(self, scope: Scope, listener: Listener) -> None:
        channel = self.channel(scope)
        self._listeners[channel] = (scope, listener)
        wire = self._channel_wire
        if wire is None or self._state is not TransportState.CONNECTED:
            raise TransportUnavailable(f"not connected to Redis at {self.address}")
        # Sent even if one is under way, which may be followed by the end of that subscription.
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations.append((channel, confirmation))
        wire.send(("SUBSCRIBE", channel))
        try:
            await asyncio.wait_for(asyncio.shield(confirmation), self._options.command_timeout_s)
        except asyncio.TimeoutError as error:
            raise TransportUnavailable(f"Redis does not confirm a subscription: {error}") from error

    async def unsubscribe(self, scope: Scope) -> None:
        channel = self.channel(scope)
        wire = self._channel_wire
        self._turns.forget(channel)
        if self._listeners.pop(channel, None) is not None and wire is not None:
            wire.send(("UNSUBSCRIBE", channel))

    async def publish(self, scope: Scope, message: bytes) -> int:
        return int(await self.execute("PUBLISH", self.channel(scope), message))

    # -- bulk reads ------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def bulk(self) -> AsyncIterator[Driver]:
        """The connection for bulk, for one turn: it goes to whoever has waited longest."""
        async with self._bulk_lock:
            if self._state is not TransportState.CONNECTED:
                raise TransportUnavailable(f"not connected to Redis at {self.address}")
            if self._bulk is None:
                self._bulk = self._driver(
                    "read", self._options.bulk_timeout_s, socket_read_size=_BULK_READ_BYTES
                )
            try:
                yield self._bulk
            except LOST as error:
                raise TransportUnavailable(f"Redis at {self.address}: {cause_of(error)}") from error
            except ErrorReply as error:
                raise self.refusal(str(error)) from error

    # -- names -----------------------------------------------------------------------------

    def channel(self, scope: Scope) -> str:
        """The name of the channel of `scope`."""
        room = "all" if scope.room is None else f"{{{scope.room}}}"
        return f"{self.prefix}{scope.share}:{room}"

    def _key(self, scope: Scope, name: str) -> str:
        if scope.room is None:
            return f"{self.prefix}{scope.share}:{name}"
        return f"{self.channel(scope)}:{name}"

    def log_keys(self, scope: Scope) -> Sequence[str]:
        keys = self._log_keys.get(scope)
        if keys is None:
            if len(self._log_keys) >= _NAMES_MAX:
                self._log_keys.clear()
            keys = [self._key(scope, name) for name in ("log", "checkpoint", "saved")]
            self._log_keys[scope] = keys
        return keys


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # Whoever asked may have been cancelled; then nobody is there to take the error.
        future.exception()
