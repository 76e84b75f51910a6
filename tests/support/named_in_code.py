"""What the documentation has to name, read from the code itself."""

from __future__ import annotations

import argparse
import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupyter_teleportal
from jupyter_teleportal.jupyter import status
from jupyter_teleportal.jupyter.extension import TeleportalExtension
from jupyter_teleportal.jupyterhub import GroupSharing
from jupyter_teleportal.tools.cli import make_parser
from jupyter_teleportal.transports.redis.options import RedisOptions

PACKAGE = Path(jupyter_teleportal.__file__).parent
GAP = "…"
"""What stands in a message for what changes."""


@dataclass(frozen=True)
class Source:
    path: Path
    tree: ast.Module

    def __str__(self) -> str:
        return str(self.path.relative_to(PACKAGE.parent))


SOURCES = [Source(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


def _constants(source: Source) -> dict[str, object]:
    return {
        target.id: node.value.value
        for node in source.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


CONSTANTS = {source.path: _constants(source) for source in SOURCES}


def _constant(node: ast.expr, source: Source) -> str:
    """The string that a literal stands for, or the name of a constant of this module or another."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    name = ast.unparse(node)
    for constants in (CONSTANTS[source.path], *CONSTANTS.values()):
        if name in constants:
            return str(constants[name])
    raise AssertionError(f"{source}:{node.lineno}: what is {name}?")


# -- settings, commands, endpoints ---------------------------------------------------------


def traits() -> set[str]:
    return set(TeleportalExtension.class_own_traits(config=True))


def hub_traits() -> set[str]:
    return set(GroupSharing.class_own_traits(config=True))


def connection_options() -> set[str]:
    return set(RedisOptions.__dataclass_fields__) - {"client"}


def commands() -> dict[str, set[str]]:
    """Each command of `jupyter teleportal`, with its options."""
    (subcommands,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in subcommands.choices.items()
    }


def endpoints() -> set[str]:
    """Method and path of each endpoint."""
    app = TeleportalExtension()
    app.initialize_handlers()
    return {
        f"{verb.upper()} {pattern}"
        for pattern, handler, *_ in app.handlers
        for verb in ("get", "post", "put", "patch", "delete")
        if any(verb in vars(cls) for cls in handler.__mro__ if _is_ours(cls))
    }


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("jupyter_teleportal.")


def status_fields() -> dict[str, set[str]]:
    """The fields of the status (``""``), and of each room in it (``rooms``)."""
    tree = ast.parse(Path(status.__file__).read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, AnyFunction)}
    return {
        "": set(status.describe(None, status.Shares({}))) | {"problem"},
        "rooms": {
            key.value
            for node in ast.walk(functions["_room"])
            if isinstance(node, ast.Dict)
            for key in node.keys
            if isinstance(key, ast.Constant)
        },
    }


# -- environment ---------------------------------------------------------------------------


@cache
def environment_variables() -> set[str]:
    """The variables that the package reads: `environ.get(…)`, `environ[…]`, `… in environ`."""
    found: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(source.tree):
            match node:
                case ast.Call(func=ast.Attribute(value=where, attr="get"), args=[name, *_]):
                    pass
                case ast.Call(func=ast.Attribute(value=where, attr="getenv"), args=[name, *_]):
                    where = ast.Name("environ")
                case ast.Subscript(value=where, slice=name, ctx=ast.Load()):
                    pass
                case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[where]):
                    pass
                case _:
                    continue
            if re.search(r"\benviron(ment)?$", ast.unparse(where)):
                found.add(_constant(name, source))
    return found


# -- what is in Redis ----------------------------------------------------------------------


@cache
def redis_names() -> set[str]:
    """The patterns of all keys and channels, as `docs/protocol.md` writes them."""
    names = {"<prefix><share>:{room}"}
    for source in SOURCES:
        in_transport = source.path.parent.name == "redis"
        for node in ast.walk(source.tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="_key"), args=[scope, name]) if in_transport:
                    of_room = "" if ast.unparse(scope) == "Scope(share)" else "{room}:"
                    names |= {
                        f"<prefix><share>:{of_room}{one}" for one in _keys(node, name, source)
                    }
                case ast.Call(
                    func=ast.Attribute(attr="read_map" | "write_map"),
                    args=[scope, name, *_],
                ) if ast.unparse(name) != "name":  # a transport hands that on
                    of_room = "" if _is_share(scope, source) else "{room}:"
                    names.add(f"<prefix><share>:{of_room}{_constant(name, source)}")
                case ast.JoinedStr(
                    values=[ast.FormattedValue(value=prefix), ast.Constant(value=name)]
                ) if in_transport and ast.unparse(prefix) == "self.prefix":
                    names.add(f"<prefix>{name}")
                case ast.FunctionDef(name="granted_key"):
                    [key] = [part for part in ast.walk(node) if isinstance(part, ast.JoinedStr)]
                    named = ast.unparse(key)[2:-1].replace("key_prefix", "prefix")
                    names.add(named.replace("{", "<").replace("}", ">"))
                case ast.FunctionDef(name="staging_key"):
                    names.add("<prefix><share>:{room}:…:bulk:<random>")
                case ast.FunctionDef(name="channel"):
                    names |= {
                        f"<prefix><share>:{part.value}"
                        for part in ast.walk(node)
                        if isinstance(part, ast.Constant) and part.value == "all"
                    }
                case _:
                    pass
    return names


def _is_share(scope: ast.expr, source: Source) -> bool:
    """Whether it is the scope of a share, `Scope(share)`, and not of a room."""
    if isinstance(scope, ast.Name):
        made = (
            node.value
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == scope.id
        )
        scope = next(made, scope)
    return (
        isinstance(scope, ast.Call) and ast.unparse(scope.func) == "Scope" and len(scope.args) == 1
    )


def _keys(call: ast.Call, name: ast.expr, source: Source) -> set[str]:
    """The names that the last argument of `_key` takes."""
    if isinstance(name, ast.Constant):
        return {name.value}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ListComp) and call in ast.walk(node.elt):
            return {one.value for one in node.generators[0].iter.elts}  # type: ignore[attr-defined]
        handed_on = isinstance(node, AnyFunction) and node.name in ("read_map", "write_map")
        if handed_on and call in ast.walk(node):
            return set()  # whoever calls these names the key
    raise AssertionError(f"{source}:{call.lineno}: which key is this?")


# -- messages ------------------------------------------------------------------------------


class Texts:
    """What strings a function can make: its literals, with a gap for all that changes."""

    def __init__(self, function: ast.AST) -> None:
        self._assigned: dict[str, list[ast.expr]] = {}
        self._added: dict[str, list[ast.expr]] = {}
        self._looked_up: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._assigned.setdefault(target.id, []).append(node.value)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self._added.setdefault(node.target.id, []).append(node.value)

    def of(self, node: ast.expr) -> set[str]:
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.JoinedStr(values=parts):
                return _joined(self.of(part) for part in parts)
            case ast.FormattedValue(value=value):
                return self.of(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined([self.of(left), self.of(right)])
            case ast.Name(id=name) if name in self._assigned and name not in self._looked_up:
                return self._of_variable(name)
            case _:
                return {GAP}

    def _of_variable(self, name: str) -> set[str]:
        self._looked_up.add(name)  # it may be made of what it was before
        texts = {text for value in self._assigned[name] for text in self.of(value)}
        if all(map(_speaks, texts)):
            for added in self._added.get(name, ()):
                texts |= _joined([texts, self.of(added)])
        else:
            texts = {GAP}
        self._looked_up.discard(name)
        return texts

    def of_log(self, call: ast.Call) -> set[str]:
        """What a call of a logger says."""
        values = [self.of(argument) for argument in call.args[1:]]
        found: set[str] = set()
        for text in self.of(call.args[0]):
            parts = re.split(r"%(?:\.\d+)?[sdrfg]", text)
            places = values if len(values) == len(parts) - 1 else [{GAP}] * (len(parts) - 1)
            pieces: list[set[str]] = [{parts[0]}]
            for value, part in zip(places, parts[1:], strict=True):
                pieces += [value, {part}]
            found |= _joined(pieces)
        return found


def _joined(parts: Iterable[set[str]]) -> set[str]:
    return {re.sub(f"{GAP}+", GAP, "".join(choice)) for choice in itertools.product(*parts)}


def _speaks(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]{2}", text))


def _functions(source: Source) -> Iterator[tuple[AnyFunction, Texts]]:
    for node in ast.walk(source.tree):
        if isinstance(node, AnyFunction):
            yield node, Texts(node)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (found for found in ast.walk(node) if isinstance(found, ast.Call))


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _texts_given_to(name: str) -> set[str]:
    """What is said in the first argument of each call of `name`."""
    return {
        text
        for source in SOURCES
        for function, texts in _functions(source)
        for call in _calls(function)
        if _called(call) == name and call.args
        for text in texts.of(call.args[0])
    }


@cache
def complaints() -> set[tuple[str, str]]:
    """What can stand in `complaints`: first word of the subject, and message."""
    found: set[tuple[str, str]] = set()
    for source in SOURCES:
        for function, texts in _functions(source):
            caught = {
                handler.name
                for handler in ast.walk(function)
                if isinstance(handler, ast.ExceptHandler)
            }
            if function.name == "complain":
                continue  # hands on what others say
            for call in _calls(function):
                if _called(call) == "partial" and ast.unparse(call.args[0]).endswith(".complain"):
                    (owner,) = (
                        keyword.arg
                        for keyword in ast.walk(function)
                        if isinstance(keyword, ast.keyword) and keyword.value is call
                    )
                    subjects, messages = texts.of(call.args[1]), _texts_given_to(f"_{owner}")
                elif _called(call) != "complain" or not isinstance(call.func, ast.Attribute):
                    continue
                elif len(call.args) > 1:
                    subjects, messages = texts.of(call.args[0]), texts.of(call.args[1])
                    if messages == {f"Room {GAP}: {GAP}"}:
                        given_to = "fault" if function.name == "fault" else "Quarantined"
                        messages = {f"Room {GAP}: {text}" for text in _texts_given_to(given_to)}
                elif isinstance(call.args[0], ast.Name) and call.args[0].id in caught:
                    continue  # a callback that is given the error
                else:
                    said = texts.of(call.args[0])
                    if said == {GAP}:
                        said = _texts_given_to("Problem")
                    subjects, messages = {"rooms"}, {f"Room {GAP}: {text}" for text in said}
                where = f"{source}:{call.lineno}"
                assert all(map(_speaks, subjects | messages)), f"{where}: what does it say?"
                found |= {(s.split(" ")[0], m) for s in subjects for m in messages}
    return found


def counters() -> set[str]:
    """The names of all counters."""
    literal = {
        node.slice.value
        for source in SOURCES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value).endswith("counters")
        and isinstance(node.slice, ast.Constant)
    }
    return literal | {subject for subject, _ in complaints()}


@cache
def warnings() -> set[str]:
    """What the log can say as a warning or an error, besides complaints."""
    return {
        text
        for source in SOURCES
        for function, texts in _functions(source)
        for call in _calls(function)
        if _called(call) in ("warning", "error", "exception", "critical")
        and re.search(r"\blog$", ast.unparse(getattr(call.func, "value", call.func)))
        for text in texts.of_log(call)
        if _speaks(text)
    }


@cache
def texts() -> set[str]:
    """Every text in the code: what is logged at any level, raised, told or sent."""
    found: set[str] = set()
    for source in SOURCES:
        for function, made in _functions(source):
            for node in ast.walk(function):
                if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                    found |= made.of(node)
                elif isinstance(node, ast.Call) and node.args:
                    found |= made.of_log(node)
    return found | {message for _, message in complaints()}


# -- options of the tools beside the package -----------------------------------------------


def tool_options(module: Path) -> set[str]:
    """The options that a script's parser takes."""
    return {
        argument.value
        for call in _calls(ast.parse(module.read_text()))
        if _called(call) == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("--")
    }


def public_names() -> set[str]:
    return set(jupyter_teleportal.__all__)
