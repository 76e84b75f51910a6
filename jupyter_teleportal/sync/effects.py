"""Carries out what the replicator decides: reads and writes the log, and changes the document."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ..core import log_effects as protocol
from ..core.authors import nobodys_message
from ..core.content import SeedContent
from ..core.crdt import EMPTY_UPDATE, Door, merge
from ..core.envelopes import encode_payload
from ..core.errors import (
    DocumentBroken,
    LogChanged,
    LogFull,
    TransportError,
    TransportRefused,
)
from ..core.log_decoding import Decoded, admitted, lineage_of
from ..core.log_effects import Effect, Phase
from ..core.schedule import RetryPace
from ..core.values import Appended, LogRead
from ..transports.base import loop_time
from .checkpoints import Checkpoints
from .lease_keeper import LeaseKeeper
from .live_doc import LiveDoc
from .log_reading import read_entries
from .peers import Peers
from .room import Room
from .threads import LARGE_BYTES, off_loop

LINGER_S = 0.05


class Effects:
    """Carries out one room's effects.

    Attributes:
        load_error: why the room's content could not be loaded.
    """

    def __init__(
        self,
        room: Room,
        live: LiveDoc,
        *,
        checkpoints: Checkpoints,
        lease_keeper: LeaseKeeper,
        peers: Peers,
    ) -> None:
        self.load_error: Exception | None = None
        self._room = room
        self._replica = room.replica
        self._scope = room.scope
        self._replicator = room.replicator
        self._changes = room.changes
        self._live = live
        self._checkpoints = checkpoints
        self._compactor = checkpoints.compactor
        self._lease_keeper = lease_keeper
        self._peers = peers
        self._under_way = room.background.tasks
        self._making_room = False
        self._retries = RetryPace()
        self._attempt_began: float | None = None

    def disconnected(self) -> None:
        """The transport is gone."""
        # What was read again and again has nothing to do with what is read after an outage.
        self._retries = RetryPace()
        self.perform(self._replicator.disconnected())

    def settled(self) -> None:
        """The log has taken everything."""
        self._attempt_began = None

    def perform(self, effects: list[Effect]) -> None:
        """Carry out `effects`, unless the document is broken."""
        if self._replicator.door.broken:
            return
        try:
            self._carry_out(effects)
        except DocumentBroken as error:
            self._room.broke(error)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case protocol.Apply() | protocol.Convert():
                    if not self._take_from_log(effect):
                        break
                case protocol.Read():
                    self._room.background.spawn(self._read(effect))
                case protocol.Append(log, updates):
                    self._append(effect, log, merge(updates))
                case protocol.AppendState(log, since):
                    self._append_state(effect, log, self._live.doc.get_update(since))
                case protocol.Seed(_, update):
                    seed = update or self._live.doc.get_update()
                    self._room.background.spawn(self._seed(effect, seed))
                case protocol.LoadContent():
                    self._room.background.spawn(self._load())
                case protocol.Gapped():
                    self._room.background.spawn(self._peers.mend(effect))
                case protocol.Linger():
                    self._room.background.spawn(self._linger())
                case protocol.Problem() | protocol.Quarantined():
                    self._room.complaints.problem(effect)
        self._changes.set()

    # -- the document ----------------------------------------------------------------------

    def _take_from_log(self, effect: protocol.Apply | protocol.Convert) -> bool:
        """Bring into the document what the log says; return whether that was done. If not, the
        document does not follow the log until it is."""
        try:
            with nobodys_message():
                if isinstance(effect, protocol.Apply):
                    self._live.apply(effect.updates, effect.offsets)
                else:
                    self._room.content.convert(effect.updates)
        except DocumentBroken:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is about this room alone)
            self._replicator.failed(effect)
            self._cannot_follow(error)
            return False
        return True

    def _cannot_follow(self, error: Exception) -> None:
        """What the log says does not come into the document. The next tick tries again; until then
        it is as if the transport refused the room."""
        reason = f"what others have written cannot be taken over: {error!r}"
        self._room.complaints.fault(
            f"edits stay on this server, which is tried again: {reason}", error
        )
        self._room.refusals.stand_alone("log", reason)

    async def _load(self) -> None:
        if await self._peers.hold_document():
            self.perform(self._replicator.look_again())
            return
        try:
            seed = await self._room.content.load()
        except Exception as error:  # noqa: BLE001 (raised again to whoever opens the room)
            self.load_error = error
            self._changes.set()
            return
        self.provide(seed)

    def provide(self, seed: SeedContent) -> None:
        """The document begins with this seed, unless another replica has come first."""
        effects = self._replicator.provide(seed.lineage, seed.update)
        if effects:
            self._room.content.provided(seed)
        self.perform(effects)
        if effects:
            self._room.background.spawn(self._live.learn_seed(seed.update))

    # -- reading the log -------------------------------------------------------------------

    async def _linger(self) -> None:
        await asyncio.sleep(LINGER_S)
        self.perform(self._replicator.lingered())

    async def _read(self, effect: protocol.Read) -> None:
        # To read all of a log takes time. Somebody may make it necessary all the time, by writing
        # into the log's id or announcing offsets that it does not have, and a log that is full
        # makes it so whenever it is tried again.
        if pause_s := self._retries.pause(loop_time()):
            await asyncio.sleep(pause_s)
            if not self._replicator.waits_for(effect):
                return
        began = self._attempt_began = loop_time()
        try:
            read = await self._replica.transport.read_log(self._scope, effect.log, effect.after)
        except TransportError as error:
            self._failed(effect, error)
            return
        if self._replicator.lost_by(read) is not None:
            await self._room.content.before_put_back()
        if self._room.closed:
            return
        fresh = self._replicator.lineage is None and not read.contiguous
        entries, door = await read_entries(
            read, self._live.doc, self._replicator.door, self._replica.trials, fresh=fresh
        )
        if self._room.closed or (fresh and self._replicator.lineage is not None):
            return
        tail = read.tail
        if read.contiguous:
            # Others wait for what this room takes in at once; the rest is read again.
            read = replace(read, entries=read.entries[: len(entries)])
        self._compactor.read(read)
        if self._replicator.converts(read) and not await self._prepare(effect, read, entries):
            return
        misses, lost = self._replicator.misses(read), self._replicator.lost_by(read)
        if lost is not None:
            self._room.content.log_lost(lost)
        effects = self._replicator.read_done(effect, read, entries, door)
        self.perform(effects)
        if effect.log is None or not read.contiguous or "log" in self._room.refusals:
            # What it takes here is the longer part of it.
            self._retries.took(began, loop_time())
        if read.tail != tail:
            await asyncio.sleep(0)
            self.perform(self._replicator.observed(read.log, tail, read.tail))
        misses = misses or (not read.contiguous and bool(self._replicator.held))
        if misses and not self._room.closed:
            self._peers.ask_for_lost()

    async def _prepare(self, effect: protocol.Read, read: LogRead, entries: list[Decoded]) -> bool:
        """The document is about to become the log's, which is another one: return whether it may
        now."""
        known = admitted(entries, Door())
        try:
            await self._room.content.before_convert(
                lineage_of(read.log or ""),
                tuple(one.update for one in known if one.error is None and one.lacks is None),
            )
        except TransportError as error:
            self._failed(effect, error)
            return False
        except DocumentBroken:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, nothing was changed)
            self.perform(self._replicator.failed(effect))
            self._cannot_follow(error)
            return False
        return not self._room.closed

    # -- writing the log -------------------------------------------------------------------

    def _append_state(self, effect: protocol.AppendState, log: str, update: bytes) -> None:
        if update == EMPTY_UPDATE:
            skip = self._replicator.nothing_to_append
            asyncio.get_running_loop().call_soon(lambda: self.perform(skip(effect)))
        else:
            self._append(effect, log, update)

    def _append(
        self, effect: protocol.Append | protocol.AppendState, log: str, update: bytes
    ) -> None:
        sender, transport = self._replicator.sender, self._replica.transport
        size = 0

        async def append_large() -> Appended:
            nonlocal size
            payload = await asyncio.to_thread(encode_payload, update)
            size = len(payload)
            return await transport.append_log(self._scope, log, sender, payload)

        def done(appending: asyncio.Future[Appended]) -> None:
            self._appended(effect, size, appending)

        if len(update) < LARGE_BYTES:
            # Sent here and now; only the answer is waited for.
            payload = encode_payload(update)
            size = len(payload)
            appended = transport.append_log(self._scope, log, sender, payload)
        else:
            appended = append_large()
        appending = asyncio.ensure_future(appended)
        self._under_way.add(appending)
        appending.add_done_callback(done)

    def _appended(
        self,
        effect: protocol.Append | protocol.AppendState,
        size: int,
        appending: asyncio.Future[Appended],
    ) -> None:
        self._under_way.discard(appending)
        if appending.cancelled():
            return
        error = appending.exception()
        if error is None:
            self._attempt_began = None
            self._lease_keeper.appended()
            appended = appending.result()
            # The announcement of a large one does not say how large it is.
            self._compactor.appended(appended.offset, size)
            self.perform(self._replicator.append_done(effect, appended))
        elif isinstance(error, TransportError):
            self._failed(effect, error)
        else:
            self._room.went_wrong(error)

    async def _seed(self, effect: protocol.Seed, update: bytes) -> None:
        transport = self._replica.transport
        sender = self._replicator.sender
        try:
            payload = await off_loop(len(update), encode_payload, update)
            await self._room.content.before_put_back()
            seeded = await transport.seed_log(self._scope, effect.lineage, sender, payload)
        except TransportError as error:
            self._failed(effect, error)
        else:
            self.perform(self._replicator.seed_done(effect, seeded))

    # -- what fails ------------------------------------------------------------------------

    def _failed(self, effect: Effect, error: TransportError) -> None:
        if isinstance(error, LogFull):
            # A heartbeat may have tried again before there is room.
            if not self._making_room:
                self._making_room = True
                self._room.background.spawn(self._make_room(error))
        elif isinstance(error, TransportRefused):
            self._room.refusals.refuse("log", str(error))
        elif self._replica.connected and not isinstance(error, LogChanged):
            self._room.complain(f"Sharing is interrupted and tried again: {error}")
        changed, full = isinstance(error, LogChanged), isinstance(error, LogFull)
        self.perform(self._replicator.failed(effect, changed=changed, full=full))

    async def _make_room(self, error: LogFull) -> None:
        """The log is full, or all of the share's: see whether its history can go. Only if it
        cannot, the transport refuses the room."""
        began = loop_time() if self._attempt_began is None else self._attempt_began
        try:
            made = await self._checkpoints.make_room(error)
        finally:
            self._making_room = False
        self._retries.took(began, loop_time())
        if not made and self._replica.connected:
            self._room.refusals.refuse("log", str(error))
        away = self._replicator.phase is Phase.AWAY
        if made and away and not self._room.closed and self._replica.connected:
            self.perform(self._replicator.connected())
