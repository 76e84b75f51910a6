"""The settings that the parts of the house need, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SettingsError
from .shares import Shares

DAY_S = 24 * 60 * 60


@dataclass(frozen=True)
class Timing:
    """How often, how long and how much; what each is for is in the extension's traits."""

    heartbeat_interval_s: float = 2.0
    dead_after_s: float = 6.0
    lease_ttl_s: float = 6.0
    lease_margin_s: float = 1.0
    save_ceiling_s: float = 10.0
    save_reply_timeout_s: float = 15.0
    join_timeout_s: float = 10.0
    stop_timeout_s: float = 5.0
    history_keep_s: float = 7 * DAY_S
    history_max_entries: int = 5000
    history_max_bytes: int = 32 * 1024 * 1024
    checkpoint_entries: int = 500
    checkpoint_bytes: int = 1024 * 1024
    client_queue_max_bytes: int = 64 * 1024 * 1024
    recheck_interval_s: float = 3.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not is_above_zero(value):
                raise SettingsError(
                    f"{name} is {value}, it has to be a number above 0, and not infinite"
                )
        if self.dead_after_s < 2 * self.heartbeat_interval_s:
            raise SettingsError(
                f"dead_after_s ({self.dead_after_s}) has to be at least twice "
                f"heartbeat_interval_s ({self.heartbeat_interval_s})"
            )
        if self.lease_ttl_s < 2 * self.heartbeat_interval_s + self.lease_margin_s:
            raise SettingsError(
                f"lease_ttl_s ({self.lease_ttl_s}) has to be at least twice heartbeat_interval_s "
                f"({self.heartbeat_interval_s}), which is how often it is renewed, plus "
                f"{self.lease_margin_s}"
            )


def is_above_zero(value: Any) -> bool:
    """Whether `value` is a number above 0 that can be reckoned with: neither NaN, which compares
    with nothing, nor infinite, which is no number of bytes or milliseconds."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def check_drain_s(value: float) -> float:
    """Return `value`.

    Raises:
        SettingsError: if nobody can wait for so many seconds.
    """
    if value != 0 and not is_above_zero(value):
        raise SettingsError(
            f"drain_s is {value}, it has to be a number of seconds, 0 to stop at once"
        )
    return value


def parse_shares(text: str) -> dict[str, str]:
    """Return the shares in the JSON object `text`.

    Raises:
        SettingsError: if it is no JSON object of strings.
    """
    try:
        shares = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"JUPYTER_TELEPORTAL_SHARES is not JSON: {error}") from error
    if not isinstance(shares, dict) or not all(isinstance(v, str) for v in shares.values()):
        raise SettingsError(
            'JUPYTER_TELEPORTAL_SHARES has to be a JSON object such as {"shared": "team1"}, '
            f"not {text}"
        )
    return shares


def check_key_prefix(prefix: str) -> str:
    """Return `prefix`.

    Raises:
        SettingsError: if it cannot begin a key's name.
    """
    if not prefix or any(sign in "{}*?[]\\" or sign.isspace() for sign in prefix):
        raise SettingsError(
            f"key_prefix is {prefix!r}; it must not be empty nor contain spaces, braces, "
            "brackets, backslashes, * or ?"
        )
    return prefix


def effective_shares(
    configured: Mapping[str, str] | None, environment: Mapping[str, str], *, shared: bool
) -> Shares:
    """Decide what is shared.

    Args:
        configured: the setting, None if it was not set.
        environment: the process's environment.
        shared: whether there is a transport to share through.

    Returns:
        What was configured, otherwise what ``JUPYTER_TELEPORTAL_SHARES`` says, otherwise the
        whole root as share ``default``; but nothing without a transport, and nothing that was
        not named under JupyterHub, where the root is somebody's home.
    """
    if not shared:
        return Shares({})
    if configured is not None:
        return Shares(configured)
    named = environment.get("JUPYTER_TELEPORTAL_SHARES")
    if named is not None:
        return Shares(parse_shares(named))
    if is_hub_server(environment):
        return Shares({})
    return Shares({"": "default"})


def is_hub_server(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment is a server that a JupyterHub has started."""
    return "JUPYTERHUB_SERVICE_PREFIX" in environment


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` as they may be logged: without secrets."""
    return {
        name: "***" if "password" in name or "credential" in name else value
        for name, value in options.items()
    }
