"""Three JupyterLab servers behind nginx, HAProxy or both, on one machine.

    python run.py [nginx] [haproxy] [--folder FOLDER] [--port PORT]

Each balancer serves two ports: without affinity, and with it. SIGHUP restarts the servers one after
the other; Ctrl-C stops everything.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
BALANCERS = ("nginx", "haproxy")
START_SECONDS = 90.0
STOP_SECONDS = 15.0  # above the servers' drain_s and stop_timeout_s
# A balancer sends nobody to a server that was away until it has seen that it is back: HAProxy's
# check comes every second, and nginx counts a second from the failure.
NOTICED_SECONDS = 2.0

# nginx's main part, for which a machine has its own; as root it would give up its rights to files.
NGINX = """\
daemon off;
${user}
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""


class Failed(Exception):
    """It cannot go on; the message says why."""


class Process:
    """A child with a log of its own, in a process group of its own: Ctrl-C is for us alone."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.command, self._folder, self.env = command, folder, env
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `Failed` if it has ended by itself."""
        if self._popen is not None and self._popen.poll() is not None:
            said = self.log.read_text(errors="replace")[-3000:]
            raise Failed(f"{self.name} has ended with status {self._popen.returncode}:\n{said}")

    def ask_to_stop(self) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.terminate()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for all of its group if that is not enough."""
        if self._popen is None:
            return
        self.ask_to_stop()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        self._popen = None


class Server(Process):
    """One JupyterLab."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]) -> None:
        own = folder / "servers" / name
        for part in ("data", "runtime"):
            (own / part).mkdir(parents=True, exist_ok=True)
        self.address = f"{HOST}:{free_port()}"
        command = [sys.executable, "-m", "jupyterlab", f"--port={self.address.split(':')[1]}"]
        command += [f"--config={HERE / 'jupyter_server_config.py'}", f"--ServerApp.ip={HOST}"]
        # Upstream keeps these two in the folder that it serves, which all servers share.
        command += [f"--SQLiteYStore.db_path={own / 'ystore.db'}"]
        command += [f"--YDocExtension.session_store_path={own / 'sessions.json'}"]
        if os.geteuid() == 0:
            command.append("--allow-root")
        env = {
            **env,
            "JUPYTER_DATA_DIR": str(own / "data"),
            "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        }
        super().__init__(name, command, own, env)

    def health(self) -> str:
        """What the health endpoint says, "" if nothing answers."""
        url = f"http://{self.address}/api/teleportal/health"
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                return str(json.load(reply)["status"])
        except urllib.error.HTTPError as error:
            return str(json.load(error).get("status", "")) if error.code == 503 else f"{error}"
        except OSError:
            return ""

    def wait_until_ok(self) -> None:
        """Wait until it shares. `degraded` serves, but is no time to take the next one away: what
        only one server has would be at stake."""
        deadline = time.monotonic() + START_SECONDS
        while (health := self.health()) != "ok":
            self.check()
            if health == "failed" or time.monotonic() > deadline:
                raise Failed(f"server {self.name} is {health or 'silent'}; see {self.log}")
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def make_folder(folder: Path) -> None:
    """What all servers share; secrets are made once, before a server could make its own."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part in ("shared", "settings", "workspaces"):
        (folder / part).mkdir(exist_ok=True)
    for name in ("token", "cookie_secret"):
        if not (folder / name).exists():
            with os.fdopen(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32))


def nginx(folder: Path, addresses: dict[str, str]) -> Process:
    own = folder / "nginx"
    own.mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    main = string.Template(NGINX).substitute(user=user)
    (own / "nginx.conf").write_text(main)
    # nginx has variables of its own, which stay.
    site = string.Template((HERE / "nginx.conf").read_text()).safe_substitute(addresses)
    (own / "site.conf").write_text(site)
    command = ["nginx", "-e", "stderr", "-p", str(own), "-c", "nginx.conf"]
    return Process("nginx", command, own, dict(os.environ))


def haproxy(folder: Path, addresses: dict[str, str]) -> Process:
    own = folder / "haproxy"
    own.mkdir(exist_ok=True)
    command = ["haproxy", "-db", "-f", str(HERE / "haproxy.cfg")]
    return Process("haproxy", command, own, {**os.environ, **addresses})


def restart_all(servers: list[Server]) -> None:
    """A rolling restart: the next one goes only when the one before serves again."""
    for server in servers:
        say(f"  {server.name}  stops")
        server.stop()
        server.start()
        server.wait_until_ok()
        time.sleep(NOTICED_SECONDS)
        say(f"  {server.name}  is back")
    say("All servers were restarted.")


def say(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "balancers",
        nargs="*",
        metavar="balancer",
        help="nginx, haproxy or both (default: those that are installed)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("balancer-data"), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="the first of the balancers' ports (%(default)s)"
    )
    given = parser.parse_args()
    if unknown := set(given.balancers) - set(BALANCERS):
        parser.error(f"{', '.join(sorted(unknown))}: there are nginx and haproxy")
    # Where distributions put them, which is not on everybody's PATH.
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    given.balancers = given.balancers or [name for name in BALANCERS if shutil.which(name)]
    if missing := [name for name in given.balancers or BALANCERS if not shutil.which(name)]:
        parser.error(f"{', '.join(missing)} not found; on Debian: apt install nginx-light haproxy")
    return given


def run(given: argparse.Namespace, wanted: list[int], stack: ExitStack) -> None:
    folder = given.folder.absolute()
    make_folder(folder)
    env = {
        **os.environ,
        "TELEPORTAL_BALANCER_FOLDER": str(folder),
        "JUPYTER_TELEPORTAL_EMBEDDED_DIR": str(folder / "valkey"),
    }
    servers = [Server(name, folder, env) for name in "abc"]
    addresses = {f"SERVER_{server.name.upper()}": server.address for server in servers}
    doors: dict[str, str] = {}
    for number, name in enumerate(given.balancers):
        first = given.port + 2 * number
        addresses[name.upper()] = doors[f"{name}, without affinity"] = f"{HOST}:{first}"
        addresses[f"{name.upper()}_AFFINITY"] = doors[f"{name}, with affinity"] = (
            f"{HOST}:{first + 1}"
        )
    make = {"nginx": nginx, "haproxy": haproxy}
    balancers = [make[name](folder, addresses) for name in given.balancers]

    say("Starting three JupyterLab servers …")
    stack.callback(lambda: [server.stop() for server in servers])
    stack.callback(lambda: [server.ask_to_stop() for server in servers])
    for server in servers:
        server.start()
    for server in servers:
        server.wait_until_ok()
        say(f"  {server.name}  http://{server.address}")
    for balancer in balancers:
        stack.callback(balancer.stop)
        balancer.start()
    token = (folder / "token").read_text().strip()
    say("\nOpen one of these in two browsers:\n")
    for what, address in doors.items():
        say(f"  {what:25} http://{address}/lab?token={token}")
    say(f"\nkill -HUP {os.getpid()} restarts the servers one after the other; Ctrl-C stops all.")
    while True:
        for process in (*servers, *balancers):
            process.check()
        if signal.SIGHUP in wanted:
            wanted.clear()
            restart_all(servers)
        time.sleep(0.2)


def main() -> int:
    given = arguments()
    wanted: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: wanted.append(number))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            run(given, wanted, stack)
    except Failed as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
