"""Packages of the npm registry, installed on demand and kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

_FILES = ("package.json", "package-lock.json")


async def install(source: Path, cache: Path, scripts: Iterable[str]) -> Path:
    """Install what a target's lock file names, unless that has been done.

    Args:
        source: the target's folder, with its package files.
        cache: where all targets' packages are kept.
        scripts: files of the target that run beside the packages.

    Returns:
        The folder with the packages and the scripts.

    Raises:
        AssertionError: with npm's output, if it fails or there is no npm.
    """
    lock = (source / "package-lock.json").read_bytes()
    folder = cache / f"{source.name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_FILES, *scripts):
        shutil.copyfile(source / name, folder / name)
    complete = folder / "complete"
    if complete.exists():
        return folder
    try:
        process = await asyncio.create_subprocess_exec(
            *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise AssertionError("npm is needed and is not on the PATH") from None
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise AssertionError(f"npm ci failed:\n{output.decode(errors='replace')[-4000:]}")
    complete.touch()
    return folder


def installed(folder: Path) -> dict[str, str]:
    """Versions of the packages that a target asks for itself."""
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    return {name: lock[f"node_modules/{name}"]["version"] for name in wanted}
