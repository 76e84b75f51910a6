"""Two distributions of one version: what a hub needs is all that everybody gets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jupyter_teleportal

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = """
import json, sys
import jupyterhub.app
before = set(sys.modules)
import jupyter_teleportal.jupyterhub
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def project(folder: Path) -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


def test_a_hub_imports_nothing_but_what_everybody_gets() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], check=True, capture_output=True)
    foreign = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    allowed = names(project(ROOT)["dependencies"])
    assert allowed == {"anyio", "hiredis", "redis", "traitlets"}
    # What anyio and redis bring along themselves.
    assert foreign <= allowed | {
        "jupyter_teleportal",
        "jupyterhub",
        "sniffio",
        "idna",
        "packaging",
        "async_timeout",
    }


def test_all_extras_but_the_hubs_bring_along_what_servers_need() -> None:
    extras = project(ROOT)["optional-dependencies"]
    assert names(extras["hub"]) == {"jupyterhub"}
    assert "jupyterlab" in names(extras["server"])
    needing = {"jupyter-teleportal-core[server]", "jupyter-teleportal-core[docs,embedded,hub]"}
    needing.add("jupyter-teleportal-core[test]")
    for name in set(extras) - {"hub", "server"}:
        assert needing & set(extras[name]), name


def test_both_distributions_have_one_version() -> None:
    whole = project(ROOT / "packaging" / "jupyter-teleportal")
    assert whole["version"] == jupyter_teleportal.__version__
    wanted = f"=={jupyter_teleportal.__version__}"
    assert whole["dependencies"] == [f"jupyter-teleportal-core[server]{wanted}"]
    for extra, requirements in whole["optional-dependencies"].items():
        assert requirements == [f"jupyter-teleportal-core[{extra}]{wanted}"]
