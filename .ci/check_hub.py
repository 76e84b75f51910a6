"""Check that a hub starts in an environment of its own, with the lines that the docs say."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
from jupyter_teleportal.jupyterhub import sharing

c.JupyterHub.spawner_class = sharing("localprocess")
c.GroupSharing.groups = {"team1": "team1", "team2": "team2"}
c.JupyterHub.authenticator_class = "dummy"
"""
SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(python: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "jupyterhub_config.py").write_text(CONFIG)
        log = Path(folder) / "log"
        ports = [
            f"--JupyterHub.bind_url=http://127.0.0.1:{free_port()}",
            f"--JupyterHub.hub_port={free_port()}",
            f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}",
        ]
        command = [python, "-I", "-m", "jupyterhub", *ports]
        with log.open("wb") as stream:
            hub = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream)
        try:
            deadline = time.monotonic() + SECONDS
            while "JupyterHub is now running" not in (said := log.read_text()):
                if hub.poll() is not None or time.monotonic() > deadline:
                    print(said)
                    return 1
                time.sleep(0.2)
        finally:
            hub.terminate()
            hub.wait(30)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
