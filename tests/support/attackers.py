"""Hostile clients in a process of their own, so that what they do costs the test nothing.

`python -m support.attackers` does what the JSON in its first argument says, prints a line when all
are connected, and goes on until its standard input is closed; then it prints what has become of
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from support.hostile import Address, Hostile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.jupyter_process import JupyterProcess, Session


class Attack(NamedTuple):
    """How many connections, whether they read, and what each of them sends over and over again."""

    count: int
    reads: bool
    block: bytes


class Attackers:
    """What has become of an attack, once it is over.

    Attributes:
        sent: the bytes that were sent.
        closed_with: code and reason of each close frame of the server.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.closed_with: list[tuple[int, str]] = []


@contextlib.asynccontextmanager
async def attackers(
    server: JupyterProcess, session: Session, attack: Attack, folder: Path, seconds: float
) -> AsyncIterator[Attackers]:
    """The attack goes on inside, for `seconds` at most; what it sends is kept in `folder`."""
    block = folder / "attack.bin"
    await asyncio.to_thread(block.write_bytes, attack.block)
    orders = {
        "port": server.port,
        "token": server.token,
        "room": session.room_id,
        "session": session.session_id,
        "count": attack.count,
        "reads": attack.reads,
        "block": str(block),
        "seconds": seconds,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.attackers", json.dumps(orders)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    outcome = Attackers()
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"connected\n"
        yield outcome
    finally:
        said, _ = await process.communicate(b"")
    assert process.returncode == 0
    found = json.loads(said)
    outcome.sent = found["sent"]
    outcome.closed_with = [(code, reason) for code, reason in found["closed_with"]]


def main(orders: dict[str, Any]) -> None:
    block = Path(orders["block"]).read_bytes()
    address = Address(orders["port"], orders["token"])
    hostile = [
        Hostile(address, orders["room"], orders["session"], reads=orders["reads"])
        for _ in range(orders["count"])
    ]
    for one in hostile:
        one.connect()
    print("connected", flush=True)
    for one in hostile:
        one.flood(block, orders["seconds"])
    sys.stdin.read()
    for one in hostile:
        one.close()
    closed_with = [one.closed_with for one in hostile if one.closed_with]
    print(json.dumps({"sent": sum(one.sent for one in hostile), "closed_with": closed_with}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
