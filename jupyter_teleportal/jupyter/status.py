"""What the status endpoint says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..core.shares import Shares
from ..files.document_link import DocumentLink
from ..sync.cluster import Replica
from ..sync.room_link import RoomLink


def describe(
    replica: Replica | None,
    shares: Shares,
    *,
    clients: Callable[[str], int] = lambda room: 0,
    path: Callable[[str], str | None] = lambda room: None,
) -> dict[str, Any]:
    """Return the status of a replica as JSON-ready values; times are seconds since the epoch.

    Args:
        replica: None where nothing is shared.
        shares: what is shared.
        clients: how many clients a room has on this server.
        path: the API path of a room's document.
    """
    if replica is None:
        return {
            "replica": None,
            "transport": {"name": "noop", "state": "local"},
            "shares": {},
            "rooms": [],
            "replicas": [],
            "degraded": False,
            "reason": "",
            "counters": {},
            "complaints": [],
        }
    links = [link for link in replica.links.values() if isinstance(link, RoomLink)]
    return {
        "replica": replica.id,
        "transport": {"name": replica.transport.name, "state": replica.transport.state.value},
        "shares": shares.folders,
        "rooms": [_room(link, clients, path) for link in links],
        "replicas": [
            {"replica": name, "last_heartbeat": round(time.time() - age, 3), "age_s": round(age, 3)}
            for name, age in sorted(replica.membership.ages_s.items())
        ],
        "degraded": bool(reason(replica)),
        "reason": reason(replica),
        "counters": dict(replica.counters + replica.transport.counters),
        "complaints": [
            {
                "subject": subject,
                "message": complaint.message,
                "count": complaint.count,
                "last": round(complaint.last, 3),
            }
            for subject, complaint in replica.complaints.items()
        ],
    }


def reason(replica: Replica) -> str:
    """Why not everything is shared now; empty, if all is well."""
    if not replica.connected:
        return replica.transport.problem or "the transport cannot be reached"
    links = [link for link in replica.links.values() if isinstance(link, RoomLink)]
    troubles = [link.trouble for link in links if link.trouble]
    if troubles:
        return f"{len(troubles)} of {len(links)} open documents are not shared: {troubles[0]}"
    files = [subject for subject in replica.complaints if subject.startswith("files ")]
    for subject in ("heartbeat", *files):
        if subject in replica.complaints:
            return replica.complaints[subject].message
    return ""


def _room(
    link: RoomLink, clients: Callable[[str], int], path: Callable[[str], str | None]
) -> dict[str, Any]:
    room = link.scope.room or ""
    replicator = link.replicator
    return {
        "room": room,
        "share": link.scope.share,
        "path": path(room),
        "phase": replicator.phase.value,
        "degraded": bool(link.trouble),
        "reason": link.trouble,
        "offset": replicator.offset,
        "lineage": replicator.lineage,
        "saver": link.lease.holder,
        "writable": replicator.writable,
        "clients": clients(room),
        "replicas": sorted({link.replica.id, *link.peers.known}),
        "unacknowledged": replicator.unacknowledged,
        "quarantined": list(replicator.quarantined),
        "last_save": link.saver.last_save if isinstance(link, DocumentLink) else None,
    }
