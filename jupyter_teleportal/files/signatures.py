"""Signatures of trusted notebooks, stored off the event loop."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from nbformat.sign import SignatureStore


class QueuedSignatures(SignatureStore):
    """A store of signatures that nobody waits for.

    Jupyter signs a notebook each time that it is saved, and its store waits for the disk, on the
    event loop. Here a thread stores them, with a connection to the database of its own; what it has
    not come to yet counts as stored.
    """

    def __init__(self, store: Any, make_store: Callable[[], Any], log: logging.Logger) -> None:
        """
        Args:
            store: the store in use so far, for questions.
            make_store: makes another one on the same database, for the thread.
            log: is told what cannot be stored.
        """
        self._store = store
        self._make_store = make_store
        self._log = log
        self._own: Any = None
        self._queued: Counter[tuple[str, str]] = Counter()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teleportal-signatures")

    def store_signature(self, digest: str, algorithm: str) -> None:
        key = digest, algorithm
        self._queued[key] += 1
        self._thread.submit(self._write, key).add_done_callback(self._written)

    def check_signature(self, digest: str, algorithm: str) -> bool:
        return self._queued[digest, algorithm] > 0 or bool(
            self._store.check_signature(digest, algorithm)
        )

    def remove_signature(self, digest: str, algorithm: str) -> None:
        # After what is queued, or it would be stored again.
        self._thread.submit(lambda: None).result()
        self._store.remove_signature(digest, algorithm)

    def close(self) -> None:
        """Store what is queued, and end the thread. The store for questions stays open."""
        self._thread.submit(self._close_own)
        self._thread.shutdown()

    def _write(self, key: tuple[str, str]) -> None:
        try:
            if self._own is None:
                self._own = self._make_store()
            self._own.store_signature(*key)
        except BaseException:
            self._close_own()  # the next one tries a new connection
            raise
        finally:
            self._queued[key] -= 1
            if not self._queued[key]:
                del self._queued[key]

    def _close_own(self) -> None:
        store, self._own = self._own, None
        if store is not None:
            store.close()

    def _written(self, writing: Future[Any]) -> None:
        if (error := writing.exception()) is not None:
            self._log.warning(
                "A notebook's signature could not be stored, so the notebook has to be trusted "
                "anew when it is opened again: %s",
                error,
            )
