"""Full collections that look at what is new, and yet find everything in the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from jupyter_teleportal.jupyter.collecting import ShortCollections


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collections() -> Iterator[ShortCollections]:
    collections = ShortCollections()
    collections.start()
    yield collections
    collections.stop()


def test_what_is_there_at_the_start_is_set_aside(collections: ShortCollections) -> None:
    assert gc.get_freeze_count() > 10_000


def test_survivors_are_set_aside(collections: ShortCollections) -> None:
    gc.collect()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects(generation=2)) < 1_000


def test_what_is_closed_is_found(collections: ShortCollections) -> None:
    ring = Ring()
    found = weakref.ref(ring)
    gc.collect()
    del ring
    gc.collect()
    assert found() is not None, "it was not set aside"
    collections.look_at_all()
    gc.collect()
    assert found() is None


def test_everything_is_looked_at_now_and_then() -> None:
    collections = ShortCollections(whole_every_s=0)
    collections.start()
    try:
        ring = Ring()
        found = weakref.ref(ring)
        gc.collect()
        del ring
        gc.collect()
        assert found() is None
    finally:
        collections.stop()


def test_it_leaves_the_collector_as_it_was() -> None:
    before = len(gc.callbacks)
    collections = ShortCollections()
    collections.start()
    gc.collect()
    collections.stop()
    assert len(gc.callbacks) == before
    assert gc.get_freeze_count() == 0
