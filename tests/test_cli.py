"""The command line, without a Jupyter server: a small HTTP server answers in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from support.processes import free_port

from jupyter_teleportal.tools import cli
from jupyter_teleportal.tools.cli import main
from jupyter_teleportal.tools.status_client import Server, StatusError, fetch_status, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS: dict[str, Any] = {
    "replica": "replica-one",
    "transport": {"name": "redis", "state": "connected"},
    "shares": {"": "default"},
    "rooms": [
        {
            "room": "json:notebook:1234",
            "share": "default",
            "path": "work/plan.ipynb",
            "offset": "17-0",
            "lineage": "l",
            "saver": "replica-one",
            "clients": 2,
            "replicas": ["replica-one", "replica-two"],
            "unacknowledged": 0,
            "last_save": None,
        }
    ],
    "replicas": [
        {"replica": "replica-one", "last_heartbeat": 1.0},
        {"replica": "replica-two", "last_heartbeat": 2.0},
    ],
    "complaints": [
        {"subject": "heartbeat", "message": "The heartbeat failed", "count": 3, "last": 4.0}
    ],
}


class StandIn(BaseHTTPRequestHandler):
    """Gives `body` to who comes to the right place with the right token."""

    body: ClassVar[bytes] = json.dumps(STATUS).encode()

    def do_GET(self) -> None:
        code = 404
        if self.path == "/base/api/teleportal/status":
            code = 200 if self.headers.get("Authorization") == "token secret" else 403
        self.send_response(code)
        self.end_headers()
        self.wfile.write(self.body if code == 200 else b"{}")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    http = HTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield Server(f"http://127.0.0.1:{http.server_port}/base/", "secret")
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.mark.parametrize(
    ("address", "token", "expected"),
    [
        ("http://h:8888/lab?token=abc", None, ("http://h:8888/", "abc")),
        ("http://h:8888/lab/tree/a/b.ipynb?token=abc", "x", ("http://h:8888/", "x")),
        ("https://h/user/ann/lab/tree/x", None, ("https://h/user/ann/", "")),
        ("http://h/user/ann", "t", ("http://h/user/ann/", "t")),
        ("localhost:8888", None, ("http://localhost:8888/", "")),
    ],
)
def test_addresses_as_jupyter_prints_them(
    address: str, token: str | None, expected: tuple[str, str]
) -> None:
    assert parse_url(address, token) == expected


@pytest.mark.parametrize("address", ["ftp://h/", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(StatusError, match="no http or https address"):
        parse_url(address, None)


def test_status_as_a_table(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", f"{server.url}lab?token=secret"]) == 0
    text = capsys.readouterr().out
    assert "redis: connected" in text
    assert "/ is 'default'" in text
    assert "replica-one, replica-two" in text
    [row] = [line.split() for line in text.splitlines() if "plan.ipynb" in line]
    assert row == ["default:work/plan.ipynb", "2", "2", "this", "server", "0"]
    assert "wrong      The heartbeat failed (3 times)" in text


def test_status_as_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--url", server.url, "--token", "secret"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"url": server.url, "status": STATUS}]


def test_several_running_servers_of_which_one_answers(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Server(f"http://127.0.0.1:{free_port()}/", "")
    monkeypatch.setattr(cli, "running_servers", lambda: [silent, server])
    assert main(["status", "--json"]) == 0
    output = capsys.readouterr()
    first, second = json.loads(output.out)
    assert first["url"] == silent.url
    assert "no answer" in first["error"]
    assert "no answer" in output.err
    assert second["status"] == STATUS


def test_no_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    assert main(["status"]) == 1
    assert "--url" in capsys.readouterr().err


def test_running_servers_are_found_by_their_runtime_files(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    alive = {"pid": threading.get_native_id(), "url": server.url, "token": server.token}
    (tmp_path / "jpserver-1.json").write_text(json.dumps(alive))
    assert main(["status"]) == 0
    assert "replica-one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "token", "message"),
    [
        ("base/", "wrong", "not allowed (HTTP 403); name the server's token"),
        ("", "secret", "no jupyter_teleportal there (HTTP 404)"),
    ],
)
def test_refusals(
    server: Server, capsys: pytest.CaptureFixture[str], path: str, token: str, message: str
) -> None:
    url = server.url.replace("base/", path)
    assert main(["status", "--url", url, "--token", token]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_what_is_no_status(server: Server, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(StandIn, "body", body)
    with pytest.raises(StatusError, match="not a status"):
        fetch_status(server)


def test_a_proxy_is_not_asked_for_a_local_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch_status(server) == STATUS


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["demo", "--replicas", "0"], ["demo", "--port", "70000"]],
)
def test_wrong_arguments_end_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from jupyter_teleportal.tools.cli import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'redis', 'jupyter_server', 'jupyterlab', 'pycrdt'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for option in ("--version", "--help"):
        done = subprocess.run(
            [sys.executable, "-c", code, option],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_jupyter_finds_the_command() -> None:
    scripts = sysconfig.get_path("scripts")
    done = subprocess.run(
        [f"{scripts}/jupyter", "teleportal", "--version"],
        env={**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]])},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.strip() == cli._version()
