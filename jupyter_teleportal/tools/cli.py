"""The command ``jupyter teleportal``: ``demo``, ``status`` and ``doctor``.

Exit status: 0 on success, 1 on failure (standard error says why), 2 on wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import TeleportalError
from .status_client import Server, StatusError, fetch_status, parse_url, running_servers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _room_row(room: dict[str, Any], replica: object) -> tuple[object, ...]:
    saver = "this server" if room.get("saver") == replica else room.get("saver") or "-"
    return (
        f"{room.get('share')}:{room.get('path')}",
        room.get("clients", "-"),
        _size(room.get("replicas")),
        saver,
        room.get("unacknowledged", "-"),
    )


def _size(value: object) -> object:
    return len(value) if isinstance(value, (list, dict)) else value


def format_status(server: Server, status: dict[str, Any]) -> str:
    """Return ``status`` as text for people, several lines."""
    transport = status.get("transport") or {}
    replica = status.get("replica")
    shares = status.get("shares") or {}
    lines = [
        f"{server.url}",
        f"  replica    {replica}",
        f"  transport  {transport.get('name')}: {transport.get('state')}",
        "  shares     " + (", ".join(f"/{p} is {n!r}" for p, n in shares.items()) or "none"),
    ]
    others = [entry.get("replica") for entry in status.get("replicas") or []]
    lines.append("  replicas   " + (", ".join(map(str, others)) or "none known"))
    if status.get("problem"):
        lines.append(f"  problem    {status['problem']}")
    if status.get("reason"):
        lines.append(f"  degraded   {status['reason']}")
    lines += [
        f"  wrong      {complaint.get('message')} ({complaint.get('count')} times)"
        for complaint in status.get("complaints") or []
    ]
    rooms = status.get("rooms") or []
    if rooms:
        heads = ("ROOM", "CLIENTS", "REPLICAS", "SAVER", "UNACKNOWLEDGED")
        lines += ["", _table(heads, (_room_row(room, replica) for room in rooms))]
    else:
        lines.append("  rooms      none open")
    return "\n".join(lines)


def _status(options: argparse.Namespace) -> int:
    servers = [parse_url(options.url, options.token)] if options.url else running_servers()
    if not servers:
        _complain("No Jupyter server of this user runs on this machine; name one with --url.")
        return 1
    report: list[dict[str, Any]] = []
    for server in servers:
        if options.token is not None:
            server = server._replace(token=options.token)
        try:
            status = fetch_status(server, options.timeout)
        except StatusError as error:
            report.append({"url": server.url, "error": str(error)})
            _complain(f"{server.url}: {error}")
            continue
        report.append({"url": server.url, "status": status})
        if not options.json:
            print(format_status(server, status))
    if options.json:
        print(json.dumps(report, indent=2))
    return 0 if any("status" in entry for entry in report) else 1


def _demo(options: argparse.Namespace) -> int:
    from .demo import Demo

    return Demo(
        folder=options.folder,
        replicas=options.replicas,
        port=options.port,
        open_browser=not options.no_browser,
    ).run()


def _doctor(options: argparse.Namespace) -> int:
    import asyncio

    from . import doctor
    from .diagnosis import Result

    checks = asyncio.run(
        doctor.examine(
            options.arguments, url=options.url, token=options.token, timeout_s=options.timeout
        )
    )
    print(json.dumps(doctor.as_json(checks), indent=2) if options.json else doctor.tell(checks))
    return int(any(check.result is Result.FAILURE for check in checks))


def _version() -> str:
    import jupyter_teleportal

    return jupyter_teleportal.__version__


def _complain(message: str) -> None:
    print(message, file=sys.stderr)


def _number(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low}..{high}")
        return int(text)

    parse.__name__ = "number"  # argparse names it in "invalid number value"
    return parse


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; each command's function is its ``run``."""
    parser = argparse.ArgumentParser(
        prog="jupyter teleportal", description="Several Jupyter servers, one live notebook."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="start JupyterLab servers that share a folder, and look",
        description="Start an embedded Valkey and JupyterLab servers that share one folder, until "
        "Ctrl-C. Nothing else needs to be installed or running.",
    )
    demo.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="default: a new one with a sample"
    )
    demo.add_argument(
        "--replicas", type=_number(1, 26), default=2, metavar="N", help="servers (default: 2)"
    )
    demo.add_argument(
        "--port", type=_number(1, 65535), metavar="P", help="ports P, P+1, … (default: free ones)"
    )
    demo.add_argument("--no-browser", action="store_true", help="only print the addresses")
    demo.set_defaults(run=_demo)

    status = commands.add_parser(
        "status",
        help="what running servers share",
        description="Show the replicas, shares and rooms of the Jupyter servers of this user on "
        "this machine, or of the one at --url. The exit status is 1 if none answers.",
    )
    status.add_argument("--url", help="a server's address, as Jupyter prints it")
    status.add_argument("--token", help="its token, unless the address holds it")
    status.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    status.add_argument(
        "--json", action="store_true", help='a list of {"url": …, "status": … or "error": …}'
    )
    status.set_defaults(run=_status)

    doctor = commands.add_parser(
        "doctor",
        help="look for what goes wrong in practice",
        description="Look at Redis, the shares and the installed packages with the configuration "
        "that a server would have, and say how to mend what is wrong. Nothing is started and "
        "nothing changed. The exit status is 1 if anything has failed.",
    )
    doctor.add_argument(
        "--url", help="a running server's address, as browsers use it, to try a WebSocket through"
    )
    doctor.add_argument("--token", help="its token, unless the address holds it")
    doctor.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    doctor.add_argument("--json", action="store_true", help="a list of {name, result, found, mend}")
    doctor.add_argument(
        "arguments",
        nargs="*",
        metavar="ARGUMENT",
        help="after --: what the server gets on its command line",
    )
    doctor.set_defaults(run=_doctor)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's) and return its exit status."""
    options = make_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except TeleportalError as error:
        _complain(f"jupyter teleportal: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
