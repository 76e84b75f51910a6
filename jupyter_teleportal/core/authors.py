"""Whose message is being handled: the client whose edit a change of a document is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycrdt import Channel

# Which client's message is being handled: a room's `serve` handles one client's in one task.
current_channel: ContextVar[Channel | None] = ContextVar("current_channel", default=None)


class _Nobody:
    """Entered for each update; a generator's context manager takes several times as long."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[Channel | None] = current_channel.set(None)

    def __exit__(self, *_: object) -> None:
        current_channel.reset(self._token)


def nobodys_message() -> AbstractContextManager[None]:
    """What happens in here is no client's doing, whosever message it was that led to it."""
    return _Nobody()
