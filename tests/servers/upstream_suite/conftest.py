"""Upstream's own fixtures, with this extension enabled beside it."""

from __future__ import annotations

import os
import uuid

import pytest


@pytest.fixture
def jp_server_config(jp_server_config):
    extensions = jp_server_config["ServerApp"]["jpserver_extensions"]
    extensions["jupyter_teleportal"] = True
    if "JUPYTER_TELEPORTAL_REDIS_URL" in os.environ:
        # The servers come one after another and are no replicas of each other.
        jp_server_config["TeleportalExtension"] = {"shares": {"": uuid.uuid4().hex}}
    return jp_server_config


@pytest.fixture
def jp_serverapp(jp_serverapp, jp_asyncio_loop):
    # Upstream's fixture leaves out what a server does last when it starts.
    jp_asyncio_loop.run_until_complete(jp_serverapp.extension_manager.start_all_extensions())
    return jp_serverapp
