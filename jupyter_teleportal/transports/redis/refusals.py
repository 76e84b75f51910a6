"""What Redis' errors mean: whether this Redis serves nobody, why, and how to mend it. No I/O."""

from __future__ import annotations

import re

_CLUSTER = (
    "it is a node of a Redis Cluster, which documents cannot be shared through: name a Redis that "
    "is no cluster in redis_url"
)
_MEANINGS = {
    "READONLY": (
        "it is a replica and takes no writes: name the master in redis_url; after a failover "
        "this is tried again by itself"
    ),
    "MISCONF": (
        "it cannot write its data to its own disk, and takes no writes until it can: its log says "
        "what is wrong"
    ),
    "LOADING": "it is still loading its data, and answers when it is done",
    "MASTERDOWN": "it is a replica without its master: name the master in redis_url",
    "NOREPLICAS": (
        "it takes no writes, since fewer replicas are connected than its min-replicas-to-write"
    ),
    "BUSY": "a script of somebody's does not end: SCRIPT KILL ends it",
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "TRYAGAIN": _CLUSTER,
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "NOAUTH": "it wants a name and a password: put them into redis_url or redis_options",
    "WRONGPASS": (
        "it knows no account with this name and password, or the account is switched off: mend "
        "redis_url or redis_options"
    ),
    "ERR max number of clients": "it takes no more connections: raise its maxclients",
}
# Before version 7, the error of a command within a script stands inside of another one.
_SERVES_NOBODY = re.compile(rf"(?:^|: -)({'|'.join(_MEANINGS)})\b")

SCRIPTS_MISSING = (
    "scripts are not loaded, and this account may not load them: the hub that makes the accounts "
    "loads them when it has the same version of jupyter_teleportal; otherwise give the account "
    "the right +eval. This is tried again by itself"
)
SENTINEL = (
    "it is a Sentinel, which keeps no data: name the address of the master in redis_url, or of a "
    "proxy that follows it"
)
CLUSTER = _CLUSTER


def serves_nobody(error: str) -> str | None:
    """Return why no document can be shared through the Redis that answers with `error`, and how
    to mend that; None if the error is about one command or key only."""
    match = _SERVES_NOBODY.search(error)
    return f"{_MEANINGS[match[1]]} ({error})" if match else None


def lacks_right(error: str) -> bool:
    """Whether the account may not do what it was to do."""
    return error.startswith("NOPERM") or "The user executing the script can't" in error


def useless(error: str) -> str:
    """Return what it means that something which every document needs was answered with `error`."""
    if lacks_right(error):
        return (
            f"the account lacks a right that every document needs ({error}): give it the rights "
            "that docs/protocol.md names"
        )
    return serves_nobody(error) or f"it does not do what every document needs ({error})"
