"""Ann and Bob, each with a JupyterLab server and a browser of their own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.cluster import assert_no_out_of_band, wait_connected
from support.lab_page import LabPage, chromium
from support.named_identity import named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.fixtures import MakeServer
    from support.redis_server import RedisServer


@asynccontextmanager
async def two_pages(
    make_server: MakeServer, redis_server: RedisServer, path: str, artefacts: Path, **traits: Any
) -> AsyncIterator[tuple[LabPage, LabPage]]:
    """Ann and Bob with a notebook open; `traits` are those of `YDocExtension`."""
    a, b = [
        await make_server(
            start=False,
            redis_server=redis_server,
            lab=True,
            name=f"lab-{user}",
            config={**named(user), "YDocExtension": traits},
        )
        for user in ("ann", "bob")
    ]
    await asyncio.gather(a.launch(), b.launch())
    for server in (a, b):
        await server.wait_until_up()
    await wait_connected(a, b)
    async with chromium() as browser:
        ann, bob = await asyncio.gather(
            LabPage.open(browser, a, path, name="ann", artefacts=artefacts),
            LabPage.open(browser, b, path, name="bob", artefacts=artefacts),
        )
        try:
            yield ann, bob
        except BaseException:
            await asyncio.gather(ann.shoot("failed"), bob.shoot("failed"))
            print("\n".join(ann.console + bob.console))
            raise
    assert_no_out_of_band(a, b)
