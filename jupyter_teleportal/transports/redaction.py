"""Keeps Redis' passwords out of logs.

traitlets logs all of the configuration with ``--debug``, and errors quote what they could not read.
So each record that anything in the process logs is looked at when it is made.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote

HIDDEN = "***"
SHORTEST = 4
"""Of shorter passwords it cannot be told where they stand; their settings are hidden whole."""

SECTIONS = ("TeleportalExtension", "GroupSharing")
_URLS = ("redis_url", "server_redis_url")
_OPTIONS = "redis_options"


def passwords_in_url(url: str) -> set[str]:
    """Return what is secret in an address, as it stands there and as it is meant. It is found also
    in what is no valid address, such as one whose password is not percent-encoded."""
    rest = url.partition("://")[2]
    head, at, _ = rest.rpartition("@")
    found = {head.partition(":")[2]} if at else set()
    found |= set(parse_qs(rest.partition("?")[2]).get("password", ()))
    return {text for one in found for text in (one, unquote(one)) if text}


def passwords_in_options(options: Any) -> set[str]:
    """Return what is secret in `redis_options`, which may be text from the command line."""
    if isinstance(options, str):
        try:
            options = ast.literal_eval(options)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return {options}
    if not isinstance(options, Mapping):
        return set()
    return {
        value
        for name, value in options.items()
        if isinstance(value, str) and value and "password" in name and not name.endswith("_file")
    }


def password_on_command_line(arguments: Sequence[str]) -> bool:
    """Whether a process's arguments show Redis' password."""
    values = [one.partition("=")[2] for one in arguments if "redis_url" in one or _OPTIONS in one]
    return any(
        passwords_in_url(value) or "password" in value.replace("password_file", "")
        for value in values
    )


def check_url(url: str) -> None:
    """Make sure that a URL's name and password do not spill over into the rest of it.

    Raises:
        ValueError: saying what to do, and nothing of what stands in the URL.
    """
    rest = url.partition("://")[2]
    place, sign = rest, ""
    for end in "/?#":
        if end in place:
            place, sign = place.partition(end)[0], end
    if "@" in rest and "@" not in place and not rest.startswith("/"):
        raise ValueError(
            f"there is a {sign} in its name or password, where it ends the address; percent-encode "
            "it: / is %2F, ? is %3F, # is %23, @ is %40, : is %3A, % is %25"
        )
    if "[" in place.rpartition("@")[0] or "]" in place.rpartition("@")[0]:
        raise ValueError(
            "there is a bracket in its name or password; percent-encode it: [ is %5B, ] is %5D"
        )


class Secrets:
    """What must not be logged."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._longest_first: tuple[str, ...] = ()

    def add(self, passwords: set[str]) -> None:
        """Hide these from now on, in the ways in which Python, JSON and URLs write them."""
        new = {one for one in passwords if len(one) >= SHORTEST}
        if new <= self._texts:
            return
        for one in new:
            self._texts |= {one, repr(one)[1:-1], json.dumps(one)[1:-1], quote(one, safe="")}
        self._longest_first = tuple(sorted(self._texts, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """Return the text without them."""
        for secret in self._longest_first:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text

    def without(self, value: Any) -> Any:
        """Return a value that is to be logged without the settings that are secret; what they
        hold is hidden from now on."""
        if not isinstance(value, Mapping) or not any(name in value for name in SECTIONS):
            return value
        shown = dict(value)
        for name in SECTIONS:
            section = shown.get(name)
            if not isinstance(section, Mapping):
                continue
            self._learn(section)
            hidden = dict.fromkeys((*_URLS, _OPTIONS), HIDDEN)
            shown[name] = {key: hidden.get(key, one) for key, one in section.items()}
        return shown

    def _learn(self, section: Mapping[str, Any]) -> None:
        for name in _URLS:
            if isinstance(url := section.get(name), str):
                self.add(passwords_in_url(url))
        self.add(passwords_in_options(section.get(_OPTIONS)))


SECRETS = Secrets()
"""Those of this process."""


def install(url: str) -> None:
    """Hide passwords in whatever is logged from now on, the one in `url` among them. More than
    once is the same as once."""
    SECRETS.add(passwords_in_url(url))
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_passwords", False):
        return
    formatter = logging.Formatter()

    def make_hiding(
        name: str, level: int, path: str, line: int, msg: Any, args: Any, *rest: Any, **more: Any
    ) -> logging.LogRecord:
        arguments = tuple(map(SECRETS.without, args)) if isinstance(args, tuple) else args
        record = make(name, level, path, line, msg, arguments, *rest, **more)
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 (whoever handles the record says so)
            return record
        shown = SECRETS.hide(said)
        if shown != said:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = formatter.formatException(record.exc_info)
            if (hidden := SECRETS.hide(trace)) != trace:
                # What formatters take instead of making it themselves.
                record.exc_text, record.exc_info = hidden, None
        return record

    setattr(make_hiding, "hides_passwords", True)  # noqa: B010 (a function has no such attribute)
    logging.setLogRecordFactory(make_hiding)
