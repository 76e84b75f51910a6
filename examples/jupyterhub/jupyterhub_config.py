"""A hub on one machine: three users with their own servers, two teams that edit together.

Alice and Bob are team1, Bob and Carol are team2. Each finds the folders of their teams in their
home; what is in there is live, and everything else is theirs alone.

Environment:
    TELEPORTAL_HUB_FOLDER: homes, shared folders and the hub's own files (default: ``./hub-data``).
    TELEPORTAL_HUB_PASSWORD: what everybody logs in with (default: random, printed at start).
    JUPYTER_TELEPORTAL_HUB_REDIS_URL: a Redis or Valkey of yours, with an account that may make
        accounts (default: a Valkey that the hub starts).
"""

import os
import secrets
import sys
from pathlib import Path

from jupyter_teleportal.jupyterhub import URL_VARIABLE, sharing, with_credentials

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import valkey_service  # noqa: E402

TEAMS = {"team1": ["alice", "bob"], "team2": ["bob", "carol"]}

c = get_config()  # noqa: F821 - JupyterHub provides it

folder = Path(os.environ.get("TELEPORTAL_HUB_FOLDER", "hub-data")).absolute()
homes = folder / "homes"
team_folders = folder / "teams"
for private in (folder, homes, team_folders, *(team_folders / team for team in TEAMS)):
    private.mkdir(mode=0o700, parents=True, exist_ok=True)

password = os.environ.get("TELEPORTAL_HUB_PASSWORD")
if not password:
    password = secrets.token_urlsafe(9)
    print(f"Log in as alice, bob or carol with the password {password}", flush=True)

c.JupyterHub.bind_url = "http://127.0.0.1:8000"
database = folder / "jupyterhub.sqlite"
c.JupyterHub.db_url = f"sqlite:///{database}"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = password
c.Authenticator.allowed_users = {user for users in TEAMS.values() for user in users}
# JupyterHub adds these users again at each start, also whom an administrator has taken out; so
# they are in the groups at the first start only. After that the hub's database says who is.
if not database.exists():
    c.JupyterHub.load_groups = {team: {"users": users} for team, users in TEAMS.items()}

# -- the part that matters ---------------------------------------------------------------------

c.JupyterHub.spawner_class = sharing("simple")
c.GroupSharing.groups = {team: team for team in TEAMS}


def prepare_home(spawner):
    """Make the user's home; the folders of the user's teams, and no others, are linked in it."""
    home = homes / spawner.user.name
    home.mkdir(mode=0o700, exist_ok=True)
    wanted = {home / path: team_folders / share for path, share in spawner.shares().items()}
    for entry in home.iterdir():
        if entry.is_symlink() and entry not in wanted and entry.readlink().parent == team_folders:
            entry.unlink()
    for link, target in wanted.items():
        if not link.is_symlink():
            link.symlink_to(target, target_is_directory=True)


c.Spawner.pre_spawn_hook = prepare_home

# Where a hub has a Redis already, this is a line in its environment.
if not os.environ.get(URL_VARIABLE):
    data = folder / "valkey"
    hub_password = secrets.token_urlsafe(32)
    c.GroupSharing.redis_url = with_credentials(valkey_service.address(data), "hub", hub_password)
    c.JupyterHub.services = [
        {
            "name": "valkey",
            "command": [sys.executable, str(HERE / "valkey_service.py"), str(data)],
            "environment": {valkey_service.PASSWORD_VARIABLE: hub_password},
        }
    ]

# -- how this example's servers are started ----------------------------------------------------

c.SimpleLocalProcessSpawner.home_dir_template = f"{homes}/{{username}}"
c.Spawner.notebook_dir = f"{homes}/{{username}}"
c.Spawner.default_url = "/lab"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]
