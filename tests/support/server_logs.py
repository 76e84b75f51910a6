"""What the log of a server says has gone wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seen without this extension too: a socket that closes while it is written to, SIGTERM.
UPSTREAM_NOISE = ("Failed to write message", "received signal")
# Upstream's formatter: a letter for the level, then the time.
_RECORD = re.compile(r"^(?=\[[A-Z] )", re.MULTILINE)


def errors_in(log: str, allowed: Sequence[str] = ()) -> list[str]:
    """The records of level error and above, and those that hold a traceback.

    Args:
        log: what a server has written.
        allowed: a record with one of these texts is left out, as are those of `UPSTREAM_NOISE`.

    Returns:
        Each as its first line and, after a traceback, the last, which names the exception.
    """
    errors = []
    for record in _RECORD.split(log):
        traced = "\nTraceback (" in f"\n{record}"
        wrong = traced or record.startswith(("[E ", "[C "))
        if wrong and not any(text in record for text in (*UPSTREAM_NOISE, *allowed)):
            lines = record.strip().splitlines()
            errors.append("\n".join(dict.fromkeys([lines[0], lines[-1]])))
    return errors
