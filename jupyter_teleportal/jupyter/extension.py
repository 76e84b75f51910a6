"""The Jupyter server extension."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Dict, Float, Int, Unicode
from traitlets.traitlets import TraitType

from ..core.client_limits import ClientLimits
from ..core.errors import SettingsError, TeleportalError, reason_of
from ..core.settings import (
    Timing,
    check_drain_s,
    check_key_prefix,
    describe_options,
    effective_shares,
    is_hub_server,
)
from ..core.shares import Shares
from ..transports import redaction
from .endpoints import HealthHandler, StatusHandler

# Whatever is logged before this extension has its settings may show all settings.
redaction.install(os.environ.get("JUPYTER_TELEPORTAL_REDIS_URL", ""))

if TYPE_CHECKING:
    from ..sync.cluster import Replica
    from ..transports.base import SyncTransport
    from .file_ids import FileRegistry
    from .seam import Seam

TRANSPORTS = "jupyter_teleportal.transports"
EMBEDDED = "embedded"
START_AGAIN_S, START_AGAIN_MAX_S = 1.0, 30.0
"""How long to wait before a start that failed is tried again: at first, and at most."""


def _limit(trait: type[TraitType[Any, Any]], field: str, help: str) -> Any:
    return trait(getattr(ClientLimits, field), config=True, help=help)


def _timing(trait: type[TraitType[Any, Any]], field: str, help: str) -> Any:
    return trait(getattr(Timing, field), config=True, help=help)


class TeleportalExtension(ExtensionApp):
    """Shares the documents of several Jupyter servers through Redis."""

    name = "jupyter_teleportal"
    app_name = "Teleportal"
    description = "Share notebooks live between several Jupyter servers."

    redis_url = Unicode(
        "",
        config=True,
        help="""Where Redis or Valkey is: redis://[user:password@]host:port/db, rediss://… for
        TLS, unix:///path/to/socket, or "embedded" for a server that is started on this machine
        for all of a user's Jupyter servers. Defaults to the environment variable
        JUPYTER_TELEPORTAL_REDIS_URL. Empty: nothing is shared.""",
    )

    redis_options = Dict(
        key_trait=Unicode(),
        config=True,
        help="""More options for the connection: host, port, username, password, db, ssl and any
        other keyword of redis-py's client, and connect_timeout_s, command_timeout_s,
        bulk_timeout_s, ping_interval_s, backoff_base_s, backoff_cap_s (seconds),
        log_max_bytes, share_max_bytes. With a host in here no URL is needed.""",
    )

    redis_password_file = Unicode(
        "",
        config=True,
        help="""A file with Redis' password, in place of one in redis_url or redis_options. It is
        read whenever a connection is made, so that a new password needs no restart. Defaults to
        the environment variable JUPYTER_TELEPORTAL_REDIS_PASSWORD_FILE.""",
    )

    key_prefix = Unicode(
        "teleportal:sync:",
        config=True,
        help="Begins the name of every key and channel. Servers share documents only with "
        "servers that have the same prefix.",
    )

    shares = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        default_value=None,
        allow_none=True,
        config=True,
        help="""What is shared: API path of a folder ("" is the root) to the name of the share. A
        share has to have the same API path on all its servers. Documents outside every share
        never leave the server. Defaults to the environment variable JUPYTER_TELEPORTAL_SHARES
        (JSON), otherwise to {"": "default"}; under JupyterHub to nothing.""",
    )

    transport = Unicode(
        "redis",
        config=True,
        help="""The transport, by the name of an entry point in the group
        jupyter_teleportal.transports. Built in: redis, noop (shares nothing) and memory (within
        one process, for tests).""",
    )

    heartbeat_interval_s = _timing(
        Float,
        "heartbeat_interval_s",
        "Seconds between two heartbeats of a server; leases are renewed as often.",
    )
    dead_after_s = _timing(
        Float, "dead_after_s", "Seconds without a heartbeat after which a server counts as dead."
    )
    lease_ttl_s = _timing(
        Float,
        "lease_ttl_s",
        "Seconds after which another server may save a document whose saver has died.",
    )
    save_ceiling_s = _timing(
        Float,
        "save_ceiling_s",
        "Seconds after which a document is saved although somebody never stops typing.",
    )
    save_reply_timeout_s = _timing(
        Float,
        "save_reply_timeout_s",
        "Seconds to wait until another server has saved a document on request.",
    )
    join_timeout_s = _timing(
        Float,
        "join_timeout_s",
        "Seconds to wait for a document's log before it is opened on this server alone.",
    )
    stop_timeout_s = _timing(
        Float, "stop_timeout_s", "Seconds that a stopping server takes to share and save."
    )
    history_keep_s = _timing(
        Float,
        "history_keep_s",
        "Seconds that a document's history, and the log of a saved and closed document, is kept.",
    )
    history_max_entries = _timing(
        Int, "history_max_entries", "Most entries kept of a document's history."
    )
    history_max_bytes = _timing(
        Int, "history_max_bytes", "Most bytes kept of a document's history."
    )
    checkpoint_entries = _timing(
        Int, "checkpoint_entries", "Entries of a log after which a checkpoint is written."
    )
    checkpoint_bytes = _timing(
        Int, "checkpoint_bytes", "Bytes of a log after which a checkpoint is written."
    )

    client_queue_max_bytes = _timing(
        Int,
        "client_queue_max_bytes",
        "Bytes that may wait for a browser that does not read, besides the message on its way to "
        "it. Above that it is disconnected, and gets what it lacks when it connects again.",
    )

    client_messages_per_s = _limit(
        Float,
        "client_messages_per_s",
        "Messages that a browser's tab may send in a second, and ten times as many at once. What "
        "sends more is read from more slowly.",
    )
    client_bytes_per_s = _limit(
        Float,
        "client_bytes_per_s",
        "Bytes that a browser's tab may send in a second, and ten times as many at once. What "
        "sends more is read from more slowly.",
    )
    client_slowed_max_s = _limit(
        Float,
        "client_slowed_max_s",
        "Seconds after which a tab that is read from more slowly, and goes on sending too much, is "
        "disconnected.",
    )
    client_turn_s = _limit(
        Float,
        "client_turn_s",
        "Seconds of each turn of the event loop that all tabs together have; what is left then "
        "waits for the next turn, and whoever has used least comes first.",
    )
    client_message_max_bytes = _limit(
        Int, "client_message_max_bytes", "Most bytes of one message of a tab."
    )
    client_question_max_bytes = _limit(
        Int,
        "client_question_max_bytes",
        "Most bytes of a state vector with which a tab asks for what it lacks.",
    )
    client_cursors_max = _limit(
        Int,
        "client_cursors_max",
        "Most cursors (awareness states) that one connection may show to the others.",
    )
    client_cursor_max_bytes = _limit(
        Int, "client_cursor_max_bytes", "Most bytes of one cursor (awareness state)."
    )
    document_max_bytes = _limit(
        Int,
        "document_max_bytes",
        "Most bytes of a document. Edits that would make it larger are refused.",
    )
    room_clients_max = _limit(
        Int, "room_clients_max", "Most tabs that may have one document open on this server."
    )
    user_rooms_max = _limit(
        Int,
        "user_rooms_max",
        "Most documents that one user may have open on this server. All programs that come with "
        "the server's token are one user.",
    )
    user_abandoned_rooms_max = _limit(
        Int,
        "user_abandoned_rooms_max",
        "Most documents that one user has left which are kept open for jupyter_server_ydoc's "
        "document_cleanup_delay; more are closed at once.",
    )
    recheck_interval_s = _timing(
        Float,
        "recheck_interval_s",
        "Seconds after which Jupyter's identity provider and authorizer are asked again whether "
        "somebody who has a document open is still known, and may still read and write it.",
    )

    drain_s = Float(
        0.0,
        config=True,
        help="""Seconds that a server which is told to stop goes on serving while its health
        endpoint already says 503, so that a balancer sends nobody there any more. Told a second
        time, it stops at once. 0: it stops at once.""",
    )

    _shares: Shares = Shares({})
    _limits: ClientLimits = ClientLimits()
    _replica: Replica | None = None
    _registry: FileRegistry | None = None
    _seam: Seam | None = None
    _problem: str = ""
    _drain_s: float = 0.0
    _embedded = False
    _keeper: asyncio.Task[None] | None = None
    _workers: asyncio.Task[None] | None = None
    _starting: asyncio.Future[None] | None = None
    _start_problem: str = ""
    _restarting: asyncio.Task[None] | None = None
    _stopping = False
    _draining: asyncio.TimerHandle | None = None

    # -- life ------------------------------------------------------------------------------

    def _link_jupyter_server_extension(self, serverapp: Any) -> None:
        """All extensions have their configuration now, and none has built anything."""
        super()._link_jupyter_server_extension(serverapp)
        self._drain_before_stop(serverapp)
        try:
            self._connect_parts()
        except TeleportalError as error:
            self._give_up(error)

    def initialize_handlers(self) -> None:
        """jupyter_server_ydoc, which comes before this one, has built its rooms' server."""
        if self._replica is not None:
            try:
                self._install_seam()
            except TeleportalError as error:
                self._give_up(error)
        self.handlers.append((r"/api/teleportal/status", StatusHandler, {"describe": self.status}))
        self.handlers.append((r"/api/teleportal/health", HealthHandler, {"health": self.health}))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        await self.ensure_started()

    async def ensure_started(self) -> None:
        """Connect, once. Whoever embeds a server without running its start hooks is connected
        when the first room is opened. A start that fails is tried again by itself; documents that
        are opened meanwhile stay on this server."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start_sharing())
        await asyncio.shield(self._starting)

    async def _start_sharing(self) -> None:
        if self._seam is None or self._replica is None or self._registry is None:
            return
        from ..sync.threads import hold_workers
        from ..transports.embedded.processes import stop_at_interrupt

        stop_at_interrupt(also_if_ignored=is_hub_server(os.environ))
        self._workers = hold_workers()
        if not await self._try_to_start():
            self._restarting = asyncio.create_task(self._start_again())

    async def _start_again(self) -> None:
        pause_s = START_AGAIN_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._try_to_start():
                return
            pause_s = min(2 * pause_s, START_AGAIN_MAX_S)

    async def _try_to_start(self) -> bool:
        """Begin to share, as far as that is not done; return whether it is now."""
        assert self._replica is not None
        assert self._registry is not None
        try:
            await self._replica.start()
            await self._registry.start()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is tried again)
            self._start_problem = f"Sharing could not begin: {reason_of(error)}"
            self._replica.complain(
                "errors start",
                "Sharing could not begin, so documents stay on this server; it is tried again",
                error,
            )
            return False
        self._start_problem = ""
        self._replica.settle("errors start")
        if self._embedded and self._keeper is None:
            from ..transports.embedded.server import keep_embedded

            replica = self._replica
            self._keeper = asyncio.create_task(keep_embedded(lambda: replica.connected))
        self.log.info(
            "Sharing %s through %s, which is %s; this is replica %s",
            self._shares.folders,
            self._replica.transport.name,
            self._replica.transport.state.value,
            self._replica.id,
        )
        return True

    async def stop_extension(self) -> None:
        """Share and save what is left, and disconnect, within `stop_timeout_s`."""
        for task in (self._keeper, self._restarting):
            if task is not None:
                task.cancel()
        if self._registry is not None:
            await self._registry.aclose()
        if self._replica is not None:
            from ..sync.threads import let_workers_go

            await self._replica.aclose()
            let_workers_go()
        if self._seam is not None:
            self._seam.close()
        if self._workers is not None:
            self._workers.cancel()

    def _drain_before_stop(self, serverapp: Any) -> None:
        """Let `serverapp.stop`, which every way to stop a server goes through, say first that the
        server stops, and wait for `drain_s`, if it can be used."""
        stop = serverapp.stop

        def drain_and_stop(from_signal: bool = False) -> None:
            again, self._stopping = self._stopping, True
            if self._draining is not None:
                self._draining.cancel()
                self._draining = None
            if again or self._drain_s <= 0:
                stop(from_signal=from_signal)
                return
            self.log.info(
                "Stopping in %g s; the health endpoint says so from now on", self._drain_s
            )
            loop = serverapp.io_loop.asyncio_loop
            loop.call_soon_threadsafe(wait_and_stop)

        def wait_and_stop() -> None:
            self._draining = asyncio.get_running_loop().call_later(self._drain_s, stop)

        serverapp.stop = drain_and_stop

    def health(self) -> str:
        """How this server is doing, for the health endpoint: ``starting``, ``ok``, ``degraded``
        (not everything is shared now), ``failed`` (it was to share and never will) or
        ``stopping``."""
        if self._stopping:
            return "stopping"
        if self._problem:
            return "failed"
        if self._starting is None or not self._starting.done():
            return "starting"
        return "degraded" if self._reason() else "ok"

    def _reason(self) -> str:
        """Why not everything is shared now; empty, if all is well."""
        if self._replica is None:
            return ""
        from .status import reason

        return self._start_problem or reason(self._replica)

    def status(self) -> dict[str, Any]:
        """What the status endpoint says."""
        from .status import describe

        if self._seam is None:
            return {**describe(None, Shares({})), "problem": self._problem}
        reason = self._reason()
        return {
            **describe(
                self._replica,
                self._shares,
                clients=self._seam.room_clients,
                path=self._seam.room_path,
            ),
            "degraded": bool(reason),
            "reason": reason,
            "problem": self._problem,
        }

    # -- parts -----------------------------------------------------------------------------

    def _connect_parts(self) -> None:
        self._drain_s = check_drain_s(self.drain_s)
        url = self.redis_url or os.environ.get("JUPYTER_TELEPORTAL_REDIS_URL", "")
        reachable = bool(url or "host" in self.redis_options) or self.transport != "redis"
        self._shares = effective_shares(
            self.shares, os.environ, shared=reachable and self.transport != "noop"
        )
        if not reachable or self.transport == "noop":
            self.log.info("No redis_url is set: documents stay on this server")
            return
        if not self._shares:
            self.log.warning(
                "Nothing is shared: under JupyterHub a server's root is somebody's home, so shares "
                "have to be named, such as "
                "c.TeleportalExtension.shares = {'shared': 'team1'}"
            )
            return
        self._check_neighbours()
        # Only now is there anything to import these for.
        from ..sync.cluster import Replica
        from .file_id_manager import shared_manager
        from .file_ids import FileRegistry

        timing = Timing(**{name: getattr(self, name) for name in _TIMING_TRAITS})
        self._limits = ClientLimits(**{name: getattr(self, name) for name in _LIMIT_TRAITS})
        self._replica = Replica(self._make_transport(url), timing=timing, log=self.log)
        self._registry = FileRegistry(self._replica, self._shares)
        fileid = self._extension("jupyter_server_fileid")
        fileid.file_id_manager_class = shared_manager(fileid.file_id_manager_class, self._registry)

    def _check_neighbours(self) -> None:
        """Before anything of the server is touched: what this extension builds on is there.

        Raises:
            SeamError: if a package has another version or other insides.
            SettingsError: if another extension is missing, or in the way.
        """
        from .compatibility import check_installed

        check_installed(redis=self.transport == "redis")
        self._extension("jupyter_server_ydoc")
        if "jupyter_server_documents" in self._extensions.extensions:
            raise SettingsError(
                "jupyter_server_documents is enabled too; it replaces what this extension shares "
                "documents through. Disable one of them with `jupyter server extension disable`"
            )

    def _make_transport(self, url: str) -> SyncTransport:
        check_key_prefix(self.key_prefix)
        found = entry_points(group=TRANSPORTS, name=self.transport)
        if not found:
            known = sorted(point.name for point in entry_points(group=TRANSPORTS))
            raise SettingsError(
                f"transport is {self.transport!r}; there are {', '.join(known)} (entry points of "
                f"the group {TRANSPORTS})"
            )
        if url == EMBEDDED:
            from ..transports.embedded.server import ensure_embedded

            url = ensure_embedded()
            self._embedded = True
        if redaction.password_on_command_line(sys.argv):
            self.log.warning(
                "Redis' password is on the command line, where every user of this machine can read "
                "it; move it to redis_password_file, a configuration file or "
                "JUPYTER_TELEPORTAL_REDIS_URL"
            )
        self.log.debug("redis_options: %s", describe_options(self.redis_options))
        (point, *_) = found
        transport: SyncTransport = point.load()(
            url=url or None, key_prefix=self.key_prefix, log=self.log, options=self.connection
        )
        return transport

    @property
    def connection(self) -> dict[str, Any]:
        """The options of the connection, with the file of the password."""
        named = os.environ.get("JUPYTER_TELEPORTAL_REDIS_PASSWORD_FILE", "")
        file = self.redis_password_file or named
        return {**self.redis_options, **({"password_file": file} if file else {})}

    def _install_seam(self) -> None:
        from .seam import Seam

        assert self._replica is not None
        assert self._registry is not None
        self._seam = Seam(
            self._replica,
            self._shares,
            self._registry,
            self._extension("jupyter_server_ydoc"),
            ready=self.ensure_started,
            limits=self._limits,
        )
        self._seam.install()

    @property
    def _extensions(self) -> Any:
        assert self.serverapp is not None
        return self.serverapp.extension_manager

    def _extension(self, name: str) -> Any:
        apps = self._extensions.extension_apps.get(name)
        if not apps:
            raise SettingsError(
                f"{name} is not enabled, and without it there is nothing to share; enable it with "
                f"`jupyter server extension enable {name}`"
            )
        return next(iter(apps))

    def _give_up(self, error: TeleportalError) -> None:
        """Say what is wrong and leave the server as it would be without this extension."""
        self._problem = str(error)
        self._replica = self._registry = self._seam = None
        self.log.error("jupyter_teleportal shares nothing: %s", error)


_TIMING_TRAITS = [name for name in Timing.__dataclass_fields__ if name != "lease_margin_s"]
_LIMIT_TRAITS = list(ClientLimits.__dataclass_fields__)
