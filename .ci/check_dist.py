"""Check that wheels and source distributions hold what they have to, and nothing they must not."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "jupyter_teleportal/"
CONFIG = "jupyter_server_config.d/jupyter_teleportal.json"
WHEEL = {
    f"{PACKAGE}py.typed",
    f"{PACKAGE}tools/sample.ipynb",
    f"etc/jupyter/{CONFIG}",
    "licenses/LICENSE",
    "entry_points.txt",
}
NOT_IN_WHEEL = ("tests/", "binder/", "examples/", "docs/", "benchmarks/")
SDIST = {"PKG-INFO"}
NOT_IN_SDIST = (
    ".ci/",
    ".git/",
    ".github/",
    ".readthedocs.yaml",
    "docs/_build/",
    "artefacts/",
    "node_modules/",
)
NOWHERE = ("__pycache__/", ".pyc", ".ipynb_checkpoints/", ".env")


def names_in(path: Path) -> list[str]:
    """What is in a distribution; of an sdist without the folder that all of it is in."""
    if path.suffix == ".whl":
        return zipfile.ZipFile(path).namelist()
    with tarfile.open(path) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def tracked(*folders: str) -> set[str]:
    """The files that the repository holds."""
    listed = subprocess.run(
        ["git", "ls-files", *folders], capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.splitlines() if Path(name).exists()}


def problems(path: Path) -> list[str]:
    """What is wrong with the distribution at `path`."""
    names = names_in(path)
    if path.suffix == ".whl":
        required, forbidden = WHEEL | tracked(PACKAGE), NOT_IN_WHEEL
    else:
        forbidden = NOT_IN_SDIST
        required = SDIST | {name for name in tracked() if not name.startswith(forbidden)}
    missing = [name for name in required if not any(there.endswith(name) for there in names)]
    extra = [
        name
        for name in names
        if name.startswith(forbidden) or any(part in name for part in NOWHERE)
    ]
    print(f"{path.name}: {len(names)} files")
    return [f"{path.name} lacks {name}" for name in sorted(missing)] + [
        f"{path.name} must not hold {name}" for name in sorted(extra)
    ]


def main(paths: list[str]) -> int:
    found = [problem for path in paths for problem in problems(Path(path))]
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
