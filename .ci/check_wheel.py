"""Check that a wheel holds what it has to, and nothing that it must not."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

REQUIRED = {
    "jupyter_teleportal/__init__.py",
    "jupyter_teleportal/extension.py",
    "jupyter_teleportal/py.typed",
    "jupyter_teleportal/sample.ipynb",
    "jupyter_teleportal/transports/redis.py",
    "etc/jupyter/jupyter_server_config.d/jupyter_teleportal.json",
    "licenses/LICENSE",
    "entry_points.txt",
}
FORBIDDEN = ("tests/", "binder/", "examples/", ".ci/", "__pycache__")


def main(path: str) -> int:
    names = zipfile.ZipFile(path).namelist()
    missing = [name for name in REQUIRED if not any(there.endswith(name) for there in names)]
    extra = [name for name in names if name.startswith(FORBIDDEN) or "__pycache__" in name]
    for name in missing:
        print(f"{path} lacks {name}")
    for name in extra:
        print(f"{path} must not hold {name}")
    package = [p for p in Path("jupyter_teleportal").rglob("*.py") if str(p) not in names]
    for name in package:
        print(f"{path} lacks {name}")
    print(f"{Path(path).name}: {len(names)} files")
    return 1 if missing or extra or package else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
