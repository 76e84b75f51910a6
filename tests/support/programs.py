"""Finding programs: those of the running Python's environment first, then those on the PATH."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from support.missing import missing

PATH = os.pathsep.join(
    [
        sysconfig.get_path("scripts"),
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
    ]
)
"""Where to look, also for what a test starts: an environment need not be activated."""


def require_binary(*names: str, path: str = PATH) -> str:
    """The path of the first of these programs that is installed.

    Without one the test is skipped, but fails where the environment says CI.
    """
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found is None:
        missing(f"needs one of these programs on the PATH: {', '.join(names)}")
    return found
