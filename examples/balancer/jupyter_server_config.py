"""What is the same on all servers behind the balancer; only the port is each one's own.

Environment:
    TELEPORTAL_BALANCER_FOLDER: what all servers see (default: ``./balancer-data``).
    JUPYTER_TELEPORTAL_REDIS_URL: where they meet (default: an embedded Valkey).
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821 - Jupyter provides it

folder = Path(os.environ.get("TELEPORTAL_BALANCER_FOLDER", "balancer-data")).absolute()

# Who has logged in at one server is logged in at all. The two files have to be there before the
# first start: each server that finds no cookie secret makes one of its own.
c.IdentityProvider.token = (folder / "token").read_text().strip()
c.ServerApp.cookie_secret_file = str(folder / "cookie_secret")
c.IdentityProvider.cookie_name = "teleportal_login"
# Cookies, the one against XSRF too, are for this path.
c.ServerApp.base_url = "/"

# The same documents. A share has the same API path everywhere.
c.ServerApp.root_dir = str(folder / "shared")
c.TeleportalExtension.shares = {"": "default"}
if "JUPYTER_TELEPORTAL_REDIS_URL" not in os.environ:
    # For servers on one machine; on several, a Redis that all of them reach.
    c.TeleportalExtension.redis_url = "embedded"

# A browser finds its settings and its open tabs whichever server it lands on.
c.LabApp.user_settings_dir = str(folder / "settings")
c.LabApp.workspaces_dir = str(folder / "workspaces")

# The balancer's address is not the server's, and whether it has TLS only its headers say. Nobody
# but the balancer may reach the servers' ports, for whoever does can send these headers too.
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False

# A WebSocket that nobody writes to stays open through the balancer, and one that leads nowhere
# is closed.
c.ServerApp.websocket_ping_interval = 30
