"""The hub's Valkey: lets in the hub, and whom the hub has given an account.

JupyterHub starts it as a managed service, restarts it and stops it. Call it with the folder for
the data, and with the password of the user ``hub`` in the environment.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from jupyter_teleportal.transports.embedded import (
    PR_SET_PDEATHSIG,
    SERVER_OPTIONS,
    find_server_binary,
    lock_file,
    make_private,
    socket_path_for,
    url_of,
)
from jupyter_teleportal.transports.redis import hash_password

PASSWORD_VARIABLE = "TELEPORTAL_HUB_VALKEY_PASSWORD"


def address(folder):
    """The URL of the Valkey whose data are in `folder`, without name and password."""
    return url_of(socket_path_for(folder))


def main():
    folder = Path(sys.argv[1]).absolute()
    make_private(folder)
    options = {
        **SERVER_OPTIONS,
        "--dir": str(folder),
        "--unixsocket": str(socket_path_for(folder)),
        "--logfile": str(folder / "server.log"),
    }
    lines = [f'{name.removeprefix("--")} "{value}"' for name, value in options.items()]
    # Nobody comes in with it, but Redis 7.0 reads the append-only file with its rights.
    lines.append("user default off ~* &* +@all")
    lines.append(f"user hub on #{hash_password(os.environ.pop(PASSWORD_VARIABLE))} ~* &* +@all")
    configuration = folder / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(lines) + "\n")
    # Never two on one folder: Valkey holds the lock as long as it lives, and ends with the hub,
    # however that ends.
    lock = lock_file(folder / "server.lock")
    if lock is None:
        sys.exit(f"Another Valkey still uses {folder}")
    os.set_inheritable(lock, True)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    binary = find_server_binary()
    os.execv(binary, [str(binary), str(configuration)])


if __name__ == "__main__":
    main()
