"""Running servers, and what they say of themselves: for the commands that ask them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from ..core.errors import TeleportalError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class StatusError(TeleportalError):
    """A server gave no status; the message says why."""


class Server(NamedTuple):
    """A running Jupyter server: base URL with a final slash, and token ("" for none)."""

    url: str
    token: str


def fetch_status(server: Server, timeout: float = 5.0) -> dict[str, Any]:
    """Return what ``GET /api/teleportal/status`` of ``server`` says.

    Raises:
        StatusError: no answer within ``timeout`` seconds, not allowed, or not our extension.
    """
    request = Request(server.url + "api/teleportal/status")
    if server.token:
        request.add_header("Authorization", f"token {server.token}")
    local = urlsplit(server.url).hostname in LOOPBACK
    opener = build_opener(ProxyHandler({})) if local else build_opener()
    try:
        with opener.open(request, timeout=timeout) as response:
            status = json.load(response)
    except HTTPError as error:
        error.close()
        raise StatusError(_explain(error.code)) from error
    except OSError as error:
        raise StatusError(f"no answer: {getattr(error, 'reason', error)}") from error
    except ValueError as error:
        raise StatusError(f"not a status: {error}") from error
    if not isinstance(status, dict):
        raise StatusError("not a status: no JSON object")
    return status


def _explain(code: int) -> str:
    if code in (401, 403):
        return f"not allowed (HTTP {code}); name the server's token with --token"
    if code == 404:
        return "no jupyter_teleportal there (HTTP 404)"
    return f"HTTP {code}"


def parse_url(url: str, token: str | None) -> Server:
    """Return the server behind an address as Jupyter prints it, ``/lab`` and ``?token=`` or not.

    Raises:
        StatusError: no http or https address.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StatusError(f"{url!r} is no http or https address")
    path = parts.path
    for page in ("/lab", "/tree", "/doc", "/api"):
        if path.endswith(page) or f"{page}/" in path:
            path = path[: path.rindex(page)]
    if token is None:
        token = parse_qs(parts.query).get("token", [""])[0]
    base = urlunsplit((parts.scheme, parts.netloc, path.rstrip("/") + "/", "", ""))
    return Server(base, token)


def running_servers() -> list[Server]:
    """Return the servers of this user that run on this machine, by their runtime files."""
    from jupyter_server.serverapp import list_running_servers

    return [Server(info["url"], info["token"]) for info in list_running_servers()]
