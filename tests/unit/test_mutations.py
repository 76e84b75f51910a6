"""The mutations: each applies to the present code, and names tests that are there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from mutations.patches import PACKAGE, Mutation, Unfit, load, parse

ROOT = Path(__file__).parents[2]
MUTATIONS = load()

PATCH = """\
why: it adds instead of subtracting
test: unit/test_x.py::test_y
file: module.py
 def less(a, b):
-    return a - b
+    return a + b
"""


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_applies_and_its_tests_are_there(mutation: Mutation, tmp_path: Path) -> None:
    for block in mutation.blocks:
        copy = tmp_path / block.file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / PACKAGE / block.file).read_text(encoding="utf-8"), encoding="utf-8")
    mutation.apply(tmp_path)
    for block in mutation.blocks:
        ast.parse((tmp_path / block.file).read_text(encoding="utf-8"))
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), test
        assert not name or name.split("::")[0].split("[")[0] in names_in(path), test


def test_a_mutation_is_read_and_applied(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def less(a, b):\n    return a - b\n", encoding="utf-8")
    mutation = parse("less", PATCH)
    assert mutation.files == {
        f"{PACKAGE}/module.py",
        "tests/unit/test_x.py",
        "tests/mutations/patches/less.txt",
    }
    mutation.apply(tmp_path)
    assert module.read_text(encoding="utf-8") == "def less(a, b):\n    return a + b\n"
    with pytest.raises(Unfit, match="0 times"):
        mutation.apply(tmp_path)


def test_what_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    twice = "def less(a, b):\n    return a - b\n" * 2
    (tmp_path / "module.py").write_text(twice, encoding="utf-8")
    with pytest.raises(Unfit, match="2 times"):
        parse("less", PATCH).apply(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs"),
        (PATCH.replace("why: ", ""), "before any"),
        (PATCH.replace("test: unit/test_x.py::test_y\n", ""), "needs"),
        (PATCH.replace("a + b", "a - b"), "changes nothing"),
        (PATCH + "return\n", "begins with neither"),
    ],
)
def test_what_is_no_mutation_says_so(text: str, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        parse("x", text)
