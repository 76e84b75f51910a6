"""What a fact that the doctor has found means, and how to mend it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

REDIS_MIN = (6, 2)
"""``XTRIM MINID`` came with it."""
PUBSUB_MIN_BYTES = 1024 * 1024
"""Announcements carry payloads of up to 64 KiB; a few of them must have room."""
PUBSUB_DEFAULT_BYTES = 32 * 1024 * 1024
SLOW_MS = 20.0
CLOCKS_MAX_S = 2.0


class Result(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        result: how it is.
        found: what was found, or why it was not looked at; a sentence.
        mend: how to mend it; empty where nothing has to be.
    """

    name: str
    result: Result
    found: str
    mend: str = ""


def _sentence(text: str) -> str:
    return text.rstrip(".") + "."


def ok(name: str, found: str) -> Check:
    return Check(name, Result.OK, found)


def warning(name: str, found: str, mend: str) -> Check:
    return Check(name, Result.WARNING, found, mend)


def failure(name: str, found: str, mend: str) -> Check:
    return Check(name, Result.FAILURE, found, mend)


def skipped(name: str, why: str, mend: str = "") -> Check:
    return Check(name, Result.SKIPPED, why, mend)


# -- Redis -----------------------------------------------------------------------------------


def unreachable(address: str, reason: str) -> Check:
    """What it may be that keeps a server from Redis, by what Redis or the system said."""
    said = reason.lower().replace(address.rpartition(":")[0].lower(), "")
    if any(sign in said for sign in ("wrongpass", "invalid username", "noauth", "authentication")):
        mend = "set the user's name and password in redis_url or redis_options"
    elif any(sign in said for sign in ("ssl", "tls", "certificate", "wrong version")):
        mend = (
            "use rediss:// where Redis speaks TLS and redis:// where it does not, and name the "
            "authority with ssl_ca_certs in redis_options"
        )
    elif any(sign in said for sign in ("name or service", "nodename", "resolution")):
        mend = "mend the host's name in redis_url"
    elif "loading" in said:
        mend = "wait until Redis has read its data"
    elif "scripts are not loaded" in said:
        mend = (
            "see that the hub runs, with the same version of jupyter_teleportal, or let the "
            "account run scripts (+eval)"
        )
    elif any(sign in said for sign in ("lacks a right", "no permissions")):
        mend = "ACL SETUSER with the keys, channels and commands that docs/protocol.md names"
    elif "cluster" in said:
        mend = "name a Redis or Valkey that is no cluster in redis_url"
    elif "sentinel" in said:
        mend = "name the primary in redis_url, or a proxy that follows it, not a Sentinel"
    elif any(sign in said for sign in ("readonly", "masterdown")):
        mend = "name the primary in redis_url, not a replica"
    elif "misconf" in said:
        mend = "see in Redis' own log why it cannot write to its disk"
    elif "maxclients" in said:
        mend = "CONFIG SET maxclients to more than it has, and the same in redis.conf"
    else:
        mend = "see that Redis runs there, and that no firewall stands between"
    return failure("reachable", f"Redis at {address} cannot be used: {_sentence(reason)}", mend)


def transport_security(*, tls: bool, local: bool) -> Check:
    if tls:
        return ok("TLS", "The connection to Redis is encrypted.")
    if local:
        return ok("TLS", "Redis is on this machine, and not asked for encryption.")
    return warning(
        "TLS",
        "Documents go to Redis on another machine without encryption.",
        "give Redis a certificate and use rediss://, unless the network is trusted",
    )


def version(info: Mapping[str, str]) -> Check:
    text = info.get("redis_version", "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    if numbers < REDIS_MIN:
        return failure(
            "version", f"It is {name}.", f"upgrade it to {'.'.join(map(str, REDIS_MIN))} or later"
        )
    return ok("version", f"It is {name}.")


def role(info: Mapping[str, str]) -> Check:
    if info.get("role") in ("slave", "replica"):
        return failure(
            "role",
            "This Redis is a replica of another one, and takes no writes.",
            f"connect to the primary ({info.get('master_host')}:{info.get('master_port')})",
        )
    return ok("role", "It takes writes.")


def persistence(info: Mapping[str, str]) -> Check:
    if info.get("aof_enabled") == "1":
        return ok("persistence", "It keeps an append-only file.")
    return failure(
        "persistence",
        "It keeps no append-only file: what is not saved yet is lost if Redis and the servers "
        "that have it open die together.",
        "CONFIG SET appendonly yes, and appendonly yes in redis.conf",
    )


def eviction(info: Mapping[str, str]) -> Check:
    policy, limit = info.get("maxmemory_policy", ""), int(info.get("maxmemory", "0"))
    if policy == "noeviction":
        return ok("eviction", "It never drops a key to make room.")
    mend = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if limit:
        return failure(
            "eviction", f"At {limit:,} bytes it drops documents ({policy}) to make room.", mend
        )
    return warning(
        "eviction", f"Its policy is {policy}; once maxmemory is set, it drops documents.", mend
    )


def pubsub_buffer(limits: str) -> Check:
    """
    Args:
        limits: the value of Redis' option ``client-output-buffer-limit``.
    """
    words = limits.split()
    if "pubsub" not in words:
        return skipped("pub/sub buffer", "Redis does not say what its limit is.")
    hard = int(words[words.index("pubsub") + 1])
    found = f"A subscriber may have {hard:,} bytes waiting." if hard else "It has no limit."
    mend = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60', and in redis.conf"
    if 0 < hard < PUBSUB_MIN_BYTES:
        return failure("pub/sub buffer", f"{found} Busy servers are cut off again and again.", mend)
    if 0 < hard < PUBSUB_DEFAULT_BYTES:
        return warning("pub/sub buffer", f"{found} That is less than the default.", mend)
    return ok("pub/sub buffer", found)


def latency(milliseconds: Sequence[float]) -> Check:
    """
    Args:
        milliseconds: of some PINGs.
    """
    middle = sorted(milliseconds)[len(milliseconds) // 2]
    found = f"A PING takes {middle:.1f} ms, {max(milliseconds):.1f} at most."
    if middle > SLOW_MS:
        return warning(
            "latency",
            found + " Every keystroke takes that long to the other servers.",
            "move Redis nearer to the servers",
        )
    return ok("latency", found)


def clocks(ahead_s: float) -> Check:
    """
    Args:
        ahead_s: by how much this machine's clock is ahead of Redis'.
    """
    found = f"This machine's clock and Redis' are {abs(ahead_s):.1f} s apart."
    if abs(ahead_s) > CLOCKS_MAX_S:
        return warning(
            "clocks",
            found + " Times in the history are wrong by that; leases do not depend on it.",
            "synchronize both clocks (NTP)",
        )
    return ok("clocks", found)


def refused(name: str, reason: str) -> Check:
    """Redis does not let this account look; that is no fault."""
    return skipped(
        name,
        f"This account may not look: {_sentence(reason)}",
        "to have it checked, run the doctor with an administrator's redis_url",
    )


def rights(share: str, problems: Mapping[str, str]) -> Check:
    """
    Args:
        share: a share, or what else the rights are for.
        problems: what was tried and did not work -> what Redis said.
    """
    name = f"rights: {share}"
    if not problems:
        return ok(name, "The account may do all that is needed.")
    told = "; ".join(f"{what}: {reason}" for what, reason in problems.items())
    return failure(
        name,
        f"The account may not do what is needed: {_sentence(told)}",
        "ACL SETUSER with the keys, channels and commands that docs/protocol.md names",
    )


# -- shares ----------------------------------------------------------------------------------


def folder(share: str, path: str, *, exists: bool, readable: bool, writable: bool) -> Check:
    name = f"folder: {share}"
    if not exists:
        return failure(
            name,
            f"There is no folder {path}.",
            "make or mount it, or mend its path in the setting `shares`",
        )
    if not readable:
        return failure(name, f"{path} cannot be read.", "give this server's user the right to")
    if not writable:
        return warning(
            name,
            f"{path} cannot be written: this server follows its documents, and what is typed here "
            "goes nowhere.",
            "give this server's user the right to write it, unless that is meant",
        )
    return ok(name, f"{path} can be read and written.")


def api_path(share: str, here: str, there: str | None) -> Check:
    """
    Args:
        here: API path of the share's folder on this server.
        there: the same on the servers that have shared it before, None if none has.
    """
    name = f"API path: {share}"
    if there is None:
        return ok(name, "No server has shared it yet.")
    if here != there:
        return failure(
            name,
            f"It is {here!r} here and {there!r} on the other servers.",
            "give it one path in the setting `shares` of all servers (to start over, delete the "
            "key `about` of the share)",
        )
    return ok(name, f"It is {here!r} on all servers.")


def map_too_large(share: str, reason: str) -> Check:
    return warning(
        f"same folder: {share}",
        f"It cannot be looked at: {_sentence(reason)}",
        "delete the share's keys `paths`, `files` and `about`, if somebody has filled them",
    )


def same_folder(share: str, known: int, here: int) -> Check:
    """
    Args:
        known: how many documents of the share other servers have opened, at most some.
        here: how many of these are in the folder.
    """
    name = f"same folder: {share}"
    if not known:
        return skipped(name, "No document of it has been opened yet.")
    if not here:
        return failure(
            name,
            f"None of the {known} documents that were opened in it is here: it is another folder.",
            "mount the same folder on all servers",
        )
    return ok(name, f"{here} of {known} documents that were opened in it are here.")


# -- Jupyter ---------------------------------------------------------------------------------


def websocket(url: str, status: int | None, error: str) -> Check:
    """
    Args:
        url: the server's address.
        status: the HTTP status instead of an upgraded connection; None if there was none.
        error: what went wrong; empty if nothing did.
    """
    name = "WebSockets"
    if not error:
        return ok(name, f"A WebSocket through {url} is answered.")
    mends = {
        400: "let the proxy pass on the headers Upgrade and Connection, with HTTP/1.1",
        401: "name the server's token with --token",
        403: "let the proxy pass on the header Host as it is, or set ServerApp.allow_origin",
        404: "see that the proxy passes the whole path on, and that this is the server's base URL",
        426: "let the proxy pass on the headers Upgrade and Connection, with HTTP/1.1",
    }
    mend = "let the proxy pass WebSockets on at once, and without a buffer"
    if status is not None:
        mend = mends.get(status, mend)
    return failure(name, f"A WebSocket through {url} does not work: {_sentence(error)}", mend)
