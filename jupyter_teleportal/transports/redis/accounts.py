"""What a server's account in Redis has to be allowed, as rules for ``ACL SETUSER``, and its name in
a URL. No I/O."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

COMMANDS = (
    # The connections.
    *("client|setname", "ping", "select"),
    # The scripts; what they call is checked as if the account called it.
    "evalsha",
    # Logs, checkpoints, maps, leases.
    *("del", "exists", "get", "hdel", "hget", "hgetall", "hincrby"),
    *("hlen", "hmget", "hset", "hsetnx"),
    *("persist", "pexpire", "pttl", "set", "unlink"),
    *("xadd", "xlen", "xrange", "xrevrange", "xtrim"),
    # What is large, in pieces.
    *("append", "getrange", "hstrlen"),
    # Heartbeats.
    *("time", "zadd", "zrange", "zrem", "zremrangebyscore"),
    # Channels.
    *("publish", "subscribe", "unsubscribe"),
)
"""Every command that the transport sends, and none besides: above all none that names keys,
channels or clients (``SCAN``, ``KEYS``, ``PUBSUB``, ``CLIENT LIST``, ``MONITOR``), for Redis does
not look at the account's patterns there."""

_EVERYTHING = ("allkeys", "allchannels", "allcommands", "nopass")

CLUSTER_KEYS = ("session", "replicas")
"""What all servers share; nothing of any share is in there."""


def hash_password(password: str) -> str:
    """Return the form in which Redis takes and lists a password."""
    return sha256(password.encode()).hexdigest()


def granted_key(key_prefix: str, account: str) -> str:
    """Return the key that says which shares an account reaches; only the account itself and
    whoever made it reach the key. No share's name begins with a colon."""
    return f"{key_prefix}:granted:{account}"


def format_granted(shares: Iterable[str]) -> str:
    """Return the value of that key."""
    return json.dumps(sorted(shares))


def parse_granted(value: bytes) -> frozenset[str] | None:
    """Return the shares that the value of that key names, None if it says nothing."""
    try:
        shares = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(shares, list) or not all(isinstance(share, str) for share in shares):
        return None
    return frozenset(shares)


def account_rules(
    key_prefix: str,
    shares: Iterable[str],
    password_hash: str,
    *,
    account: str = "",
    may_eval: bool = False,
) -> list[str]:
    """Return the rules of an account that reaches the `shares` and nothing else.

    They stand for the whole account, whatever it was before.

    Args:
        key_prefix: begins the name of every key and channel.
        shares: names of shares.
        password_hash: what `hash_password` made of the account's password.
        account: the account's name, if it may read what is granted to it.
        may_eval: whether it may run any script; otherwise somebody else has to load the scripts.
    """
    inside = [f"{_literal(key_prefix + share)}:*" for share in shares]
    common = [_literal(key_prefix + key) for key in CLUSTER_KEYS]
    if account:
        common.append(_literal(granted_key(key_prefix, account)))
    return [
        *("reset", "on", f"#{password_hash}"),
        *(f"~{pattern}" for pattern in (*inside, *common)),
        *(f"&{pattern}" for pattern in inside),
        "-@all",
        *(f"+{command}" for command in COMMANDS),
        *(["+eval"] if may_eval else []),
    ]


def has_rules(
    listed: Sequence[str],
    rules: Sequence[str],
    categories: Mapping[str, Collection[str]] | None = None,
) -> bool:
    """Return whether an account has these rights and no others.

    Args:
        listed: the words of the account's line in the answer to ``ACL LIST``.
        rules: what `account_rules` returns.
        categories: which commands are in those of `listed_categories`, as ``ACL CAT`` says. An
            account that is listed with others is taken for one with other rights.
    """
    rights = {word for word in listed if word[0] in "~%&#(" or word in _EVERYTHING}
    return (
        "on" in listed
        and rights == {rule for rule in rules if rule[0] in "~%&#"}
        and _commands(listed, categories or {}) == _commands(rules, {})
    )


def listed_categories(listed: Iterable[str]) -> set[str]:
    """Return the categories of commands that an account's line in the answer to ``ACL LIST``
    names: Redis 7.0 lists one that may most commands of a category as one that may all of them but
    the others."""
    named = {word[2:] for word in listed if word[:2] in ("+@", "-@")}
    return {name for name in named if name != "all" and name.isalnum()}


def _commands(words: Iterable[str], categories: Mapping[str, Collection[str]]) -> set[str] | None:
    """The commands that an account may run; None, if that cannot be told."""
    allowed: set[str] = set()
    for word in words:
        sign, name = word[0], word[1:].lower()
        if word == "-@all":
            allowed.clear()
        elif sign in "+-" and name.startswith("@"):
            if name[1:] not in categories:
                return None
            members = {member.lower() for member in categories[name[1:]]}
            allowed = allowed | members if sign == "+" else allowed - members
        elif sign == "+":
            allowed.add(name)
        elif sign == "-":
            allowed.discard(name)
    return allowed


def _literal(text: str) -> str:
    """`text` as a pattern that matches nothing else."""
    return "".join("\\" + sign if sign in "\\*?[]^" else sign for sign in text)


def with_credentials(url: str, username: str = "", password: str = "") -> str:
    """Return `url` with this name and password in place of its own; without a name, with none."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if username:
        host = f"{quote(username, safe='')}:{quote(password, safe='')}@{host}"
    # redis-py takes them from there too.
    kept = [pair for pair in parse_qsl(parts.query) if pair[0] not in ("username", "password")]
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{urlencode(kept)}" if kept else "")
