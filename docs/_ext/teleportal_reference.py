"""Directives that write the reference from the code, so that nothing is kept twice.

``teleportal-settings``
    every trait of the extension: name, type, default, help
``teleportal-redis-options``
    the keys of `redis_options` that are not redis-py's
``teleportal-commands``
    every command of ``jupyter teleportal``: usage, what it does, options

Each of them is a function that returns Markdown; the directive only has it parsed.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from jupyter_teleportal.jupyter.extension import TeleportalExtension
from jupyter_teleportal.tools.cli import make_parser
from jupyter_teleportal.transports.redis.options import RedisOptions


def own_traits() -> dict[str, Any]:
    """The extension's settings, in the order of the code; without what every Jupyter extension
    has."""
    own = TeleportalExtension.class_own_traits(config=True)
    return {name: own[name] for name in vars(TeleportalExtension) if name in own}


def settings() -> str:
    """Return every setting as Markdown."""
    return "\n\n".join(
        f"```{{confval}} TeleportalExtension.{name}\n"
        f":type: {type(trait).__name__}\n"
        f":default: `{trait.default_value_repr()}`\n\n"
        f"{plain(trait.help)}\n```"
        for name, trait in own_traits().items()
    )


def redis_options() -> str:
    """Return the options of the connection as a Markdown table."""
    lines = ["| option | default | |", "|---|---|---|"]
    for name, what in option_texts().items():
        default = getattr(RedisOptions, name)
        lines.append(f"| `{name}` | {default:g} | {plain(what)} |")
    return "\n".join(lines)


def option_texts() -> dict[str, str]:
    """What the docstring of `RedisOptions` says of each option that is ours."""
    _, _, attributes = inspect.cleandoc(RedisOptions.__doc__ or "").partition("Attributes:")
    found: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(text.split())
    return {name: found[name] for name in RedisOptions.__dataclass_fields__ if name != "client"}


def commands() -> str:
    """Return every command as Markdown."""
    return "\n\n".join(
        "\n\n".join(_command(name, parser)) for name, parser in subcommands(make_parser())
    )


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands of `parser` by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## `jupyter teleportal {name}`"
    if parser.description:
        yield plain(parser.description)
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield f"```text\n{usage}\n```"
    rows = [
        f"| {_invocation(action)} | {plain(action.help or '')} | {_default(action)} |"
        for action in parser._actions
        if action.help != argparse.SUPPRESS
    ]
    yield "\n".join(["| option | | default |", "|---|---|---|", *rows])


def _invocation(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _default(action: argparse.Action) -> str:
    if action.nargs == 0 or action.default in (None, argparse.SUPPRESS):
        return ""
    return f"`{action.default}`"


def plain(text: str) -> str:
    """Return `text` on one line, with nothing in it that Markdown would take for a sign."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _directive(write: Callable[[], str]) -> type[SphinxDirective]:
    class FromCode(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_dependency(inspect.getfile(TeleportalExtension))
            return self.parse_text_to_nodes(write(), allow_section_headings=True)

    return FromCode


def setup(app: Any) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("teleportal-settings", _directive(settings))
    app.add_directive("teleportal-redis-options", _directive(redis_options))
    app.add_directive("teleportal-commands", _directive(commands))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
