"""A hub on one machine whose users edit the notebooks of one folder together.

Everyone has a server and kernels of their own; only the folder ``shared`` in each home is live.

Environment:
    TELEPORTAL_HUB_FOLDER: homes, shared folder and the hub's own files (default: ``./hub-data``).
    TELEPORTAL_HUB_PASSWORD: what alice and bob log in with (default: random, printed at start).
    JUPYTER_TELEPORTAL_REDIS_URL: where the servers meet (default: an embedded Valkey).
"""

import json
import os
import secrets
import sys
from pathlib import Path

c = get_config()  # noqa: F821 - JupyterHub provides it

folder = Path(os.environ.get("TELEPORTAL_HUB_FOLDER", "hub-data")).absolute()
homes = folder / "homes"
shared = folder / "shared"
for private in (folder, homes, shared):
    private.mkdir(mode=0o700, parents=True, exist_ok=True)

password = os.environ.get("TELEPORTAL_HUB_PASSWORD")
if not password:
    password = secrets.token_urlsafe(9)
    print(f"Log in as alice or bob with the password {password}", flush=True)

c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.db_url = f"sqlite:///{folder}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = password
c.Authenticator.allowed_users = {"alice", "bob"}


def prepare_home(spawner):
    """Make the user's home, with the shared folder in it under the same name for everyone."""
    home = homes / spawner.user.name
    home.mkdir(mode=0o700, exist_ok=True)
    link = home / "shared"
    if not link.is_symlink():
        link.symlink_to(shared, target_is_directory=True)


c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = f"{homes}/{{username}}"
c.Spawner.pre_spawn_hook = prepare_home
c.Spawner.notebook_dir = f"{homes}/{{username}}"
c.Spawner.default_url = "/lab"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]

# The part that matters. Under a hub nothing is shared until it is named: this names one folder,
# as it is called in the file browser, and gives it a name of its own. Servers share what has the
# same name.
c.Spawner.environment = {
    "JUPYTER_TELEPORTAL_REDIS_URL": os.environ.get("JUPYTER_TELEPORTAL_REDIS_URL", "embedded"),
    "JUPYTER_TELEPORTAL_SHARES": json.dumps({"shared": "team1"}),
    # Homes differ, so where the embedded Valkey of all is has to be said.
    "JUPYTER_TELEPORTAL_EMBEDDED_DIR": str(folder / "valkey"),
}
