"""A protocol-level collaboration client that behaves as JupyterLab's browser client does.

Like y-websocket in the browser it keeps one `Doc` for its whole life, over all reconnects, and
with it its session and room id; it sends its own updates and never those it received; it
broadcasts every awareness change it sees, renews its own state, and forgets the others while it
is offline.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import pycrdt
import websockets
from jupyter_ydoc import YNotebook, YUnicode
from pycrdt import Array, Awareness, Decoder, Doc, Encoder, Map, Text

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.jupyter_process import JupyterProcess, Session

SYNC, AWARENESS, RAW, QUERY_AWARENESS = range(4)
STEP1, STEP2, UPDATE = range(3)
SYNC_NAMES = {STEP1: "SYNC_STEP1", STEP2: "SYNC_STEP2", UPDATE: "SYNC_UPDATE"}
EMPTY_UPDATE = b"\x00\x00"

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 2.5
CONNECT_TIMEOUT = 5.0

_save_ids = itertools.count(1)


class Closure(NamedTuple):
    """How a connection ended. `code` is None where no WebSocket came about."""

    server: str
    code: int | None
    reason: str


class RtcClient:
    """One browser tab with one document open.

    Args:
        servers: where to connect; after a lost connection the next one is tried.
        session: room and session, from any server. None for a room without session.
        room_id: a room without a document session (awareness, fork, timeline).
        name: the user's name in awareness.
        autosave: the user's setting, if the tab says anything about it.
        cookie: sent instead of the token, as a browser that has logged in does.
        token: the user's, if it is not the server's own.
        origin: whose page the tab shows, if it says so.

    Use as an async context manager: it is synced inside.
    """

    def __init__(
        self,
        servers: JupyterProcess | Sequence[JupyterProcess],
        session: Session | None = None,
        *,
        room_id: str | None = None,
        name: str = "user",
        autosave: bool | None = None,
        cookie: str | None = None,
        token: str | None = None,
        origin: str | None = None,
    ) -> None:
        self.servers = list(servers) if isinstance(servers, (list, tuple)) else [servers]
        self.session = session
        if room_id is None:
            assert session is not None, "needs a session or a room id"
            room_id = session.room_id
        self.room_id = room_id
        self.cookie = cookie
        self.token = token
        self.origin = origin
        self.name = name
        self.doc: Doc[Any] = Doc()
        self.awareness = Awareness(self.doc)
        kind = room_id.split(":")[1] if room_id.count(":") >= 2 else "notebook"
        self.document = YNotebook(self.doc) if kind == "notebook" else YUnicode(self.doc)
        self.synced = asyncio.Event()
        self.connected = asyncio.Event()
        self.server: JupyterProcess | None = None
        self.closures: list[Closure] = []
        self.received: collections.Counter[str] = collections.Counter()
        self.sent: collections.Counter[str] = collections.Counter()
        self.first_sync: dict[str, Any] | str | None = None
        self.echoes = 0
        self.errors: list[Exception] = []
        self.notices: list[dict[str, Any]] = []
        self._sent_updates: set[bytes] = set()
        self._save_replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._applying = False
        self._stopping = False
        self._outgoing: asyncio.Queue[bytes] | None = None
        self._connection: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._doc_subscription = self.doc.observe(self._on_doc_change)
        self.awareness.observe(self._on_awareness_change)
        user = {"username": name, "name": name, "display_name": name, "initials": name[:2]}
        state: dict[str, Any] = {"user": user}
        if autosave is not None:
            state["autosave"] = autosave
        self.awareness.set_local_state(state)
        # As the browser does, before it is connected.
        if session is not None:
            self.document.ystate["document_id"] = room_id

    # --- life-cycle

    async def __aenter__(self) -> RtcClient:
        self.start()
        try:
            await self.wait_synced()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, and to reconnect, in the background."""
        self._tasks = [
            asyncio.create_task(self._run()),
            asyncio.create_task(self.awareness.start()),
        ]

    async def wait_synced(self, timeout: float = 15.0) -> None:
        """Wait for the first whole document on the present connection.

        Raises:
            AssertionError: with how the attempts ended.
        """
        try:
            await asyncio.wait_for(self.synced.wait(), timeout)
        except asyncio.TimeoutError:
            raise AssertionError(
                f"client {self.name} of {self.room_id} is not synced after {timeout:g} s; "
                f"received {dict(self.received)}, closed so far: {self.closures}, "
                f"own failures: {self._failures()}"
            ) from None

    def _failures(self) -> list[BaseException]:
        """Errors of the client itself, which would otherwise end its tasks without a word."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]

    async def close(self, goodbye: bool = True) -> None:
        """Close the tab. With `goodbye` the own awareness state is withdrawn first."""
        self._stopping = True
        if goodbye and self._connection is not None:
            self.awareness.set_local_state(None)
            with contextlib.suppress(AssertionError):
                await until(lambda: self._outgoing is None or self._outgoing.empty(), timeout=1)
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._connection.close(), 1)
        await self._end_tasks()

    async def crash(self) -> None:
        """The browser dies: the connection is aborted and nothing more is said."""
        self._stopping = True
        if self._connection is not None:
            self._connection.transport.abort()
        await self._end_tasks()

    async def disconnect(self) -> None:
        """Lose the connection; reconnecting begins at once."""
        self.synced.clear()
        if self._connection is not None:
            self._connection.transport.abort()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # --- the connection

    def _address(self, server: JupyterProcess) -> str:
        query = {} if self.cookie else {"token": self.token or server.token}
        if self.session is not None:
            query["sessionId"] = self.session.session_id
        room = quote(self.room_id, safe=":")
        return f"{server.ws_url}/api/collaboration/room/{room}?{urlencode(query)}"

    async def _run(self) -> None:
        failures = 0
        for server in itertools.cycle(self.servers):
            if self._stopping:
                return
            self.server = server
            synced_before = self.received["SYNC_STEP2"]
            closure = await self._connect_once(server)
            self.closures.append(closure)
            self._forget_others()
            if self.asked_to_reload or self._stopping:
                return
            failures = 0 if self.received["SYNC_STEP2"] > synced_before else failures + 1
            delay = min(FIRST_BACKOFF_SECONDS * 2**failures, MAX_BACKOFF_SECONDS)
            await asyncio.sleep(delay)

    async def _connect_once(self, server: JupyterProcess) -> Closure:
        try:
            async with websockets.connect(
                self._address(server),
                max_size=None,
                open_timeout=CONNECT_TIMEOUT,
                close_timeout=0.5,
                additional_headers={
                    # As browsers do; JupyterHub takes no token from an address without it.
                    "Sec-Fetch-Mode": "websocket",
                    **({"Cookie": self.cookie} if self.cookie else {}),
                    **({"Origin": self.origin} if self.origin else {}),
                },
                compression=None,
                proxy=None,
            ) as connection:
                await self._talk(connection)
        except websockets.ConnectionClosed as error:
            received = error.rcvd
            if received is None:
                return Closure(server.name, 1006, "connection lost")
            return Closure(server.name, received.code, received.reason)
        except websockets.InvalidStatus as error:
            return Closure(server.name, None, f"HTTP {error.response.status_code}")
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            return Closure(server.name, None, f"{type(error).__name__}: {error}")
        return Closure(server.name, connection.close_code, connection.close_reason or "")

    async def _talk(self, connection: Any) -> None:
        self._outgoing = outgoing = asyncio.Queue()
        self._connection = connection
        writer = asyncio.create_task(self._write(connection, outgoing))
        self.connected.set()
        try:
            self._put(pycrdt.create_sync_message(self.doc), "SYNC_STEP1")
            if self.awareness.get_local_state() is not None:
                self._put_awareness([self.doc.client_id])
            async for message in connection:
                try:
                    self._receive(message)
                except Exception as error:  # noqa: BLE001 (a browser says so in its console)
                    self.errors.append(error)
            await connection.wait_closed()
        finally:
            self.connected.clear()
            self.synced.clear()
            self._outgoing = None
            self._connection = None
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    @staticmethod
    async def _write(connection: Any, outgoing: asyncio.Queue[bytes]) -> None:
        while True:
            await connection.send(await outgoing.get())

    def _put(self, message: bytes, kind: str) -> None:
        # What is written while offline is not queued: the next sync step brings it.
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)
            self.sent[kind] += 1

    # --- messages in

    def _receive(self, message: bytes) -> None:
        kind = message[0]
        if kind == SYNC:
            self._receive_sync(message)
        elif kind == AWARENESS:
            self.received["AWARENESS"] += 1
            payload = pycrdt.read_message(message[1:])
            self.awareness.apply_awareness_update(payload, "remote")
        elif kind == QUERY_AWARENESS:
            self.received["QUERY_AWARENESS"] += 1
            self._put_awareness(list(self.awareness.states))
        elif kind == RAW:
            self.received["RAW"] += 1
            decoder = Decoder(message)
            decoder.read_var_uint()
            self._receive_raw(json.loads(decoder.read_var_string()))
        else:
            self.received[f"UNKNOWN_{kind}"] += 1

    def _receive_sync(self, message: bytes) -> None:
        kind = message[1]
        self.received[SYNC_NAMES.get(kind, f"SYNC_{kind}")] += 1
        payload = pycrdt.read_message(message[2:])
        if kind == STEP1:
            update = self.doc.get_update(payload)
            self._put(_step2(update), "SYNC_STEP2")
            return
        if kind == UPDATE and payload in self._sent_updates:
            self.echoes += 1
        if payload != EMPTY_UPDATE:
            self._applying = True
            try:
                self.doc.apply_update(payload)
            finally:
                self._applying = False
        if kind == STEP2:
            if self.first_sync is None:
                self.first_sync = self.content()
            self.synced.set()

    def _receive_raw(self, message: dict[str, Any]) -> None:
        reply = self._save_replies.pop(message.get("responseTo", -1), None)
        if reply is not None and not reply.done():
            reply.set_result(message)
        else:
            self.notices.append(message)

    # --- messages out

    def _on_doc_change(self, event: Any) -> None:
        if self._applying or event.update == EMPTY_UPDATE:
            return
        self._sent_updates.add(event.update)
        self._put(pycrdt.create_update_message(event.update), "SYNC_UPDATE")

    def _on_awareness_change(self, topic: str, change: tuple[dict[str, Any], Any]) -> None:
        if topic != "update":
            return
        clients = [client for group in change[0].values() for client in group]
        # A state that was never seen has no clock, so that it cannot be encoded.
        self._put_awareness([client for client in clients if client in self.awareness.meta])

    def _put_awareness(self, clients: Iterable[int]) -> None:
        payload = self.awareness.encode_awareness_update(list(clients))
        self._put(pycrdt.create_awareness_message(payload), "AWARENESS")

    def _forget_others(self) -> None:
        others = [client for client in self.awareness.states if client != self.doc.client_id]
        self.awareness.remove_awareness_states(others, "offline")

    async def settle(self, timeout: float = 5.0) -> None:
        """Wait until the server has applied all that was sent so far: a sync step and its answer.

        Raises:
            AssertionError: if there is no answer in time.
        """
        answers = self.received["SYNC_STEP2"]
        self._put(pycrdt.create_sync_message(self.doc), "SYNC_STEP1")
        await until(
            lambda: self.received["SYNC_STEP2"] > answers, timeout, what=f"{self.name}'s sync step"
        )

    async def save(self, timeout: float = 10.0) -> dict[str, Any]:
        """Ctrl-S, and the server's reply.

        Raises:
            AssertionError: if there is no reply in time.
        """
        save_id = next(_save_ids)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._save_replies[save_id] = reply
        encoder = Encoder()
        encoder.write_var_uint(RAW)
        encoder.write_var_string("save")
        encoder.write_var_uint(save_id)
        self._put(encoder.to_bytes(), "RAW")
        try:
            return await asyncio.wait_for(reply, timeout)
        except asyncio.TimeoutError:
            raise AssertionError(f"no reply to save {save_id} within {timeout:g} s") from None

    # --- what a test asks

    @property
    def own_updates(self) -> int:
        """How many transactions this client has made."""
        return len(self._sent_updates)

    @property
    def asked_to_reload(self) -> bool:
        """Whether a server closed the socket in a way that shows a dialog to the user."""
        return any(
            closure.code is not None and (closure.code == 1003 or closure.code >= 4000)
            for closure in self.closures
        )

    def assert_undisturbed(self) -> None:
        """Nobody was asked to reload, or told of a conflict."""
        assert not self.asked_to_reload, f"{self.name} was asked to reload: {self.closures}"
        assert not self.notices, f"{self.name} was told: {self.notices}"

    @property
    def notebook(self) -> YNotebook:
        assert isinstance(self.document, YNotebook)
        return self.document

    @property
    def path(self) -> str | None:
        """`state.path`, which names the tab."""
        return self.document.path

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells as they are, without upstream's removal of duplicates."""
        return [cell.to_py() for cell in self.notebook.ycells]

    @property
    def sources(self) -> list[str]:
        return [str(cell["source"]) for cell in self.notebook.ycells]

    @property
    def text(self) -> str:
        """A text file's content, or a notebook's sources joined by newlines."""
        if isinstance(self.document, YNotebook):
            return "\n".join(self.sources)
        return str(self.document.get())

    def content(self) -> dict[str, Any] | str:
        """What goes into the file. A notebook's cells are as they are, duplicates included."""
        if isinstance(self.document, YNotebook):
            return self.document.get(deduplicate=False)
        return str(self.document.get())

    @property
    def state_vector(self) -> bytes:
        return self.doc.get_state()

    def clocks(self) -> dict[int, int]:
        """The state vector, decoded: client id to clock."""
        decoder = Decoder(self.doc.get_state())
        return {
            decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())
        }

    def remote_users(self) -> list[str]:
        """The names of the others, sorted."""
        return sorted(
            state["user"]["name"]
            for client, state in self.awareness.states.items()
            if client != self.doc.client_id and state and state.get("user")
        )

    def remote_state(self, name: str) -> dict[str, Any] | None:
        """The awareness state of another user."""
        for client, state in self.awareness.states.items():
            user = (state or {}).get("user") or {}
            if client != self.doc.client_id and user.get("name") == name:
                return state
        return None

    def set_cursor(self, position: Any) -> None:
        self.awareness.set_local_state_field("cursors", [position])

    # --- what a user does

    def _text_of(self, cell: int) -> Text:
        if isinstance(self.document, YNotebook):
            source = self.document.ycells[cell]["source"]
            assert isinstance(source, Text)
            return source
        return self.doc.get("source", type=Text)

    def write(self, text: str, cell: int = 0) -> None:
        """Append to a cell (or to the text file) in one transaction."""
        target = self._text_of(cell)
        target += text

    async def type_text(self, text: str, cell: int = 0, hz: float = 10.0) -> None:
        """Append character by character, in time with the clock and not with the work."""
        start = time.monotonic()
        for number, character in enumerate(text):
            await asyncio.sleep(max(0.0, start + number / hz - time.monotonic()))
            self.write(character, cell)

    def insert_cell(
        self, source: str = "", index: int | None = None, cell_type: str = "code", **more: Any
    ) -> None:
        """Insert a cell, at the end by default."""
        value: dict[str, Any] = {"cell_type": cell_type, "source": source, "metadata": {}, **more}
        if cell_type == "code":
            value = {"execution_count": None, "outputs": [], **value}
        ycell = self.notebook.create_ycell(value)
        if index is None:
            self.notebook.ycells.append(ycell)
        else:
            self.notebook.ycells.insert(index, ycell)

    def delete_cell(self, index: int) -> None:
        del self.notebook.ycells[index]

    def move_cell(self, index: int, to: int) -> None:
        """Move as JupyterLab does: a deep copy at the new place, the old one deleted."""
        value = self.notebook.get_cell(index)
        with self.doc.transaction():
            del self.notebook.ycells[index]
            self.notebook.ycells.insert(to, self.notebook.create_ycell(value))

    def set_output(self, index: int, text: str, execution_count: int = 1) -> None:
        """Replace a code cell's outputs by one stream output, as a kernel's reply does."""
        cell = self.notebook.ycells[index]
        with self.doc.transaction():
            outputs = cell["outputs"]
            assert isinstance(outputs, Array)
            outputs.clear()
            outputs.append(Map({"output_type": "stream", "name": "stdout", "text": Text(text)}))
            cell["execution_count"] = float(execution_count)


def _step2(update: bytes) -> bytes:
    encoder = Encoder()
    encoder.write_var_uint(SYNC)
    encoder.write_var_uint(STEP2)
    encoder.write_var_uint(len(update))
    return encoder.to_bytes() + update


async def equal(clients: Sequence[RtcClient], timeout: float = 5.0) -> None:
    """Wait until all clients hold the same document and know the same clocks.

    Raises:
        AssertionError: showing what each holds.
    """

    def same() -> bool:
        first = clients[0]
        return all(
            other.content() == first.content() and other.clocks() == first.clocks()
            for other in clients[1:]
        )

    try:
        await until(same, timeout, what="equal documents")
    except AssertionError as error:
        views = "\n".join(f"{c.name}: {c.clocks()} {c.content()!r:.2000}" for c in clients)
        raise AssertionError(f"{error}\n{views}") from None
