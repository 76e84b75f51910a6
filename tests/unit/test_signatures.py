"""Signatures that a thread stores: none is lost, and nobody waits."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from nbformat.sign import SQLiteSignatureStore

from jupyter_teleportal.files.signatures import QueuedSignatures

LOG = logging.getLogger("test")


class Held(SQLiteSignatureStore):
    """A store that waits until it may."""

    may = threading.Event()

    def store_signature(self, digest: Any, algorithm: Any) -> None:
        assert self.may.wait(10)
        if digest == "broken":
            raise OSError("no space")
        super().store_signature(digest, algorithm)


@pytest.fixture
def queued(tmp_path: Path) -> QueuedSignatures:
    database = str(tmp_path / "signatures.db")
    Held.may.clear()
    return QueuedSignatures(SQLiteSignatureStore(database), lambda: Held(database), LOG)


def stored(tmp_path: Path, digest: str) -> bool:
    store = SQLiteSignatureStore(str(tmp_path / "signatures.db"))
    try:
        return bool(store.check_signature(digest, "sha256"))
    finally:
        store.close()


def test_what_is_queued_counts_and_is_stored(queued: QueuedSignatures, tmp_path: Path) -> None:
    queued.store_signature("one", "sha256")
    assert not stored(tmp_path, "one")
    assert queued.check_signature("one", "sha256")
    assert not queued.check_signature("two", "sha256")
    Held.may.set()
    queued.close()
    assert stored(tmp_path, "one")


def test_what_was_removed_is_not_stored_after_that(
    queued: QueuedSignatures, tmp_path: Path
) -> None:
    queued.store_signature("one", "sha256")
    Held.may.set()
    queued.remove_signature("one", "sha256")
    assert not queued.check_signature("one", "sha256")
    queued.close()
    assert not stored(tmp_path, "one")


def test_a_failure_is_told_and_hurts_no_other(
    queued: QueuedSignatures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Held.may.set()
    for digest in ("broken", "one"):
        queued.store_signature(digest, "sha256")
    queued.close()
    assert stored(tmp_path, "one")
    assert "could not be stored" in caplog.text
    assert "no space" in caplog.text
