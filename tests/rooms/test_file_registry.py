"""File ids of several servers, kept in step."""

from __future__ import annotations

from dataclasses import dataclass, field

from support.waiting import until

from jupyter_teleportal.file_ids import FileRegistry
from jupyter_teleportal.model import Scope
from jupyter_teleportal.replica import Replica
from jupyter_teleportal.shares import SharedPath, Shares
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport


def at(path: str) -> SharedPath:
    return SharedPath("default", path)


@dataclass
class Site:
    transport: MemorySyncTransport
    ids: FileRegistry
    ended: list[str] = field(default_factory=list)


async def join(hub: MemoryHub) -> Site:
    transport = MemorySyncTransport(hub)
    site = Site(transport, FileRegistry(Replica(transport), Shares({"": "default"})))
    site.ids.on_deletion(site.ended.append)
    await transport.start()
    await site.ids.start()
    return site


async def test_a_folder_is_renamed_where_its_document_was_never_opened(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("folder/x"))
    await a.ids.register(at("folder/x"))
    b.ids.move(at("folder"), at("renamed"))
    await until(lambda: a.ids.api_path(file_id) == "renamed/x", what="the rename")
    await b.ids.flush()
    assert b.ids.index(at("renamed/x")) == file_id


async def test_a_folder_is_deleted_where_its_document_was_never_opened(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("folder/x"))
    await a.ids.register(at("folder/x"))
    b.ids.delete(at("folder"))
    await until(lambda: file_id in a.ended, what="the end")


async def test_ids_survive_an_emptied_transport(hub: MemoryHub) -> None:
    a = await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    a.transport.disconnect()
    hub.clear()
    a.transport.reconnect()
    await a.ids.flush()
    late = await join(hub)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "new"
    assert late.ids.index(at("new")) == file_id


async def test_a_deletion_during_an_absence_is_learned(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("doc"))
    await a.ids.register(at("doc"))
    b.ids.index(at("doc"))
    a.transport.disconnect()
    b.ids.delete(at("doc"))
    await b.ids.flush()
    again = b.ids.index(at("doc"))
    await b.ids.register(at("doc"))
    a.transport.reconnect()
    await a.ids.flush()
    assert again != file_id
    assert a.ended == [file_id]
    assert a.ids.api_path(file_id) is None


async def test_registering_does_not_undo_a_rename(hub: MemoryHub) -> None:
    a, b = await join(hub), await join(hub)
    file_id = a.ids.index(at("old"))
    await a.transport.unsubscribe(Scope("default"))
    b.ids.index(at("old"))
    b.ids.move(at("old"), at("new"))
    await b.ids.flush()
    await a.ids.register(at("old"))
    assert a.ids.api_path(file_id) == "new"
    late = await join(hub)
    await late.ids.resolve(file_id)
    assert late.ids.api_path(file_id) == "new"


async def test_ids_are_put_back_when_the_hub_forgets_them_without_a_disconnect(
    hub: MemoryHub,
) -> None:
    """As FLUSHALL does, and a server that starts after it comes first."""
    a = await join(hub)
    file_id = a.ids.index(at("old"))
    await a.ids.register(at("old"))
    a.ids.move(at("old"), at("new"))
    await a.ids.flush()
    hub.clear()
    b = await join(hub)
    assert b.ids.find(file_id) is None
    await a.ids.tick()
    await b.ids.resolve(file_id)
    assert b.ids.api_path(file_id) == "new"
    c = await join(hub)
    assert c.ids.index(at("new")) == file_id
