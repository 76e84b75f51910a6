"""What a target's Redis says of itself."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Any

import redis

OWN_NAME = "benchmark"
_MONITORED = re.compile(rb'^\+?[\d.]+ \[\d+ (lua|[^\]]+)\] "([^"]+)"')


class RedisView:
    """Questions to one Redis."""

    def __init__(self, port: int) -> None:
        self._client: Any = redis.Redis(port=port, client_name=OWN_NAME, socket_timeout=30)

    def close(self) -> None:
        self._client.close()

    def connections(self) -> int:
        """How many there are, without our own."""
        return sum(client["name"] != OWN_NAME for client in self._client.client_list())

    def memory(self) -> int:
        """Bytes that are in use."""
        return int(self._client.info("memory")["used_memory"])

    def memory_of_keys(self) -> int:
        """Bytes of all keys with their values."""
        return sum(
            self._client.memory_usage(key, samples=0) or 0
            for key in self._client.scan_iter(count=1000)
        )

    def commands(self) -> int:
        """Commands since the start, `total_commands_processed`.

        What a script calls counts as well: a script with an XADD and a PUBLISH counts three times.
        """
        return int(self._client.info("stats")["total_commands_processed"])

    def entries(self) -> int:
        """Entries ever added to a stream, over all streams."""
        added = 0
        for key in self._client.scan_iter(count=1000, _type="stream"):
            information = self._client.xinfo_stream(key)
            added += int(information["entries-added"])
        return added


class Monitor:
    """Counts the commands that clients send, by name, while it is entered.

    What a script calls does not count: MONITOR tells it apart. `counts` may be read after it.
    """

    def __init__(self, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._port = port

    def __enter__(self) -> Monitor:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.sendall(b"MONITOR\r\n")
        if self._socket.recv(5) != b"+OK\r\n":
            raise ConnectionError("Redis refuses MONITOR")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        # Redis may still be sending when the connection is shut.
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                found = _MONITORED.match(line)
                if found is not None and found[1] != b"lua":
                    self.counts[found[2].decode(errors="replace").upper()] += 1
