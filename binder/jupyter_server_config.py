"""The first server of a Binder session: it starts the second one and leads to it."""

import os

c = get_config()  # noqa: F821 - Jupyter provides it

if "TELEPORTAL_BINDER" in os.environ:  # set by `start`
    token = os.environ["TELEPORTAL_SECOND_TOKEN"]
    page = "doc/workspaces/second/tree/together/welcome.ipynb"
    c.ServerProxy.servers = {
        "second": {
            "command": [
                os.path.join(os.environ["TELEPORTAL_BINDER"], "second-server"),
                "{port}",
                "{base_url}second/",
            ],
            "absolute_url": True,  # it knows its whole base URL
            "timeout": 60,
            "new_browser_tab": False,  # a frame in JupyterLab
            "launcher_entry": {
                "title": "Second server",
                "path_info": f"second/{page}?token={token}",
            },
        }
    }
    # `/lab` shows both, see side_by_side.
    c.ServerApp.default_url = c.JupyterNotebookApp.default_url = "/lab"
