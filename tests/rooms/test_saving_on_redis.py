"""Saving, where it takes a real Redis to go wrong."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pycrdt import Awareness
from support.waiting import until

from jupyter_teleportal import create_redis_sync_transport
from jupyter_teleportal.core.content import make_document
from jupyter_teleportal.core.values import Scope
from jupyter_teleportal.files.document_link import DocumentLink
from jupyter_teleportal.sync.cluster import Replica
from rooms.sites import TIMING, Disk, File

if TYPE_CHECKING:
    from jupyter_ydoc.ybasedoc import YBaseDoc
    from support.redis_server import RedisServer

ROOM = Scope("share", "text:file:one")


class Site:
    """One server with a document open."""

    def __init__(self, replica: Replica, document: YBaseDoc, link: DocumentLink) -> None:
        self.replica = replica
        self.document: Any = document
        self.link = link

    @classmethod
    async def open(cls, redis: RedisServer, disk: Disk, delay_s: float | None = 0.05) -> Site:
        transport = await create_redis_sync_transport(redis.url)
        replica = Replica(transport, timing=replace(TIMING, stop_timeout_s=3))
        document = make_document("file")
        link = DocumentLink(
            replica,
            ROOM,
            document,
            "file",
            File(disk, replica.id),
            awareness=Awareness(document.ydoc),
            broadcast=lambda message: None,
            writable=True,
            save_delay_s=delay_s,
            tell=lambda level, message: None,
        )
        await replica.start()
        await link.open()
        return cls(replica, document, link)

    async def close(self) -> None:
        await self.link.aclose()
        await self.replica.aclose()


async def test_looking_at_a_document_leaves_its_keys_with_an_expiry(
    redis_server: RedisServer,
) -> None:
    disk = Disk("text")
    site = await Site.open(redis_server, disk)
    site.document._ysource += " edited"
    await until(lambda: disk.content == "text edited", what="the save")
    await site.close()
    site = await Site.open(redis_server, disk)
    # As every browser does.
    site.document.ystate["document_id"] = "of a browser"
    await site.close()
    with redis_server.cli() as client:
        lives = {key: client.pttl(key) for key in client.scan_iter("*}:*")}
    assert lives
    assert all(life > 0 for life in lives.values()), lives


async def test_a_save_on_request_has_a_large_edit_in_it(redis_server: RedisServer) -> None:
    """The edit is only announced on the channel, and read after the request has come."""
    disk = Disk("text")
    a = await Site.open(redis_server, disk, delay_s=None)
    b = await Site.open(redis_server, disk, delay_s=None)
    assert a.link.saver.may_save
    source = random.Random(1)
    large = "".join(chr(source.randrange(0x4E00, 0x9FFF)) for _ in range(600_000))
    b.document._ysource += large
    await b.link.save_requests.save_now()
    assert disk.content == "text" + large
    await b.close()
    await a.close()


async def test_a_full_redis_does_not_keep_the_file_back(redis_server: RedisServer) -> None:
    disk = Disk("text")
    site = await Site.open(redis_server, disk)
    await until(lambda: site.link.replicator.settled, what="the log")
    with redis_server.cli() as client:
        client.config_set("maxmemory", 1)
        site.document._ysource += " unsaved"
        await until(lambda: disk.content == "text unsaved", what="the save")
        client.config_set("maxmemory", 0)
    await until(lambda: site.link.replicator.settled, what="the log again")
    await site.close()
