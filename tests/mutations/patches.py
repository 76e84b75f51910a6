"""What a mutation is: its file, and how it is applied.

A file in `patches` begins with lines of the form ``name: value``:

- ``why``: what it breaks,
- ``test``, once or several times: a test, or a file of tests, under `tests`; each has to fail,
- ``file``: a module under `jupyter_teleportal`, followed by a block of lines as in a unified diff:
  what begins with ``-`` is taken out, with ``+`` put in, with a space it stays. What is there
  before has to be in the module exactly once. More files, and more blocks of one, may follow.

There are no numbers of lines in it, so that other edits of the module leave it as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

PATCHES = Path(__file__).parent / "patches"
PACKAGE = "jupyter_teleportal"


class Unfit(Exception):
    """A mutation cannot be read, or cannot be applied to the present code."""


@dataclass
class Block:
    """One place of a module, before and after."""

    file: str
    before: str = ""
    after: str = ""

    def add(self, line: str) -> None:
        mark, rest = line[:1] or " ", line[1:] + "\n"
        if mark not in "-+ ":
            raise Unfit(f"{line!r} begins with neither -, + nor a space")
        self.before += rest if mark != "+" else ""
        self.after += rest if mark != "-" else ""


@dataclass
class Mutation:
    """A small wrong.

    Attributes:
        name: its file's name, without the ending.
        why: what it breaks.
        tests: the tests and files of tests that must fail, relative to the repository.
        blocks: what it changes.
    """

    name: str
    why: str = ""
    tests: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        """All files that it is about, relative to the repository."""
        own = f"tests/mutations/patches/{self.name}.txt"
        modules = {f"{PACKAGE}/{block.file}" for block in self.blocks}
        return {own, *modules, *(test.split("::")[0] for test in self.tests)}

    def apply(self, package: Path) -> None:
        """Change the package in the folder `package`.

        Raises:
            Unfit: if a block is not there exactly once.
        """
        for block in self.blocks:
            module = package / block.file
            if not module.is_file():
                raise Unfit(f"there is no {block.file}")
            text = module.read_text(encoding="utf-8")
            places = [
                found.start() for found in re.finditer(f"^{re.escape(block.before)}", text, re.M)
            ]
            if len(places) != 1:
                raise Unfit(f"its block is {len(places)} times in {block.file}, not once")
            end = places[0] + len(block.before)
            module.write_text(text[: places[0]] + block.after + text[end:], encoding="utf-8")


def parse(name: str, text: str) -> Mutation:
    """Read a mutation's file.

    Raises:
        Unfit: if it is none.
    """
    mutation = Mutation(name)
    for line in text.rstrip().split("\n"):
        key, colon, value = line.partition(": ")
        if colon and key in ("why", "test", "file"):
            if key == "why":
                mutation.why = value
            elif key == "test":
                mutation.tests.append(f"tests/{value}")
            else:
                mutation.blocks.append(Block(value))
        elif mutation.blocks:
            mutation.blocks[-1].add(line)
        elif line:
            raise Unfit(f"{line!r} comes before any `file:`")
    if not (mutation.why and mutation.tests and mutation.blocks):
        raise Unfit("it needs `why:`, `test:` and `file:`")
    for block in mutation.blocks:
        if block.before.isspace() or not block.before or block.before == block.after:
            raise Unfit(f"its block for {block.file} changes nothing")
    return mutation


def load() -> list[Mutation]:
    """All mutations, by name."""
    return [
        parse(path.stem, path.read_text(encoding="utf-8")) for path in sorted(PATCHES.glob("*.txt"))
    ]
