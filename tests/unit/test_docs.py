"""What the documents name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jupyter_teleportal import codec, errors
from jupyter_teleportal.cli import make_parser
from jupyter_teleportal.extension import TeleportalExtension
from jupyter_teleportal.transports import redis_scripts
from jupyter_teleportal.transports.redis_client import RedisOptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

INHERITED = set(TeleportalExtension.__mro__[1].class_traits(config=True))
TRAITS = set(TeleportalExtension.class_traits(config=True)) - INHERITED


def test_every_setting_is_in_the_readme_and_the_other_way_round() -> None:
    table = README.split("### Settings")[1].split("### From Python")[0]
    named = set(re.findall(r"^\| `(\w+)`", table, re.M))
    assert named == TRAITS


@pytest.mark.parametrize("name", sorted(TRAITS))
def test_every_setting_says_what_it_is(name: str) -> None:
    trait = TeleportalExtension.class_traits()[name]
    assert len(trait.help) > 20
    if trait.default_value and isinstance(trait.default_value, int | float):
        assert f"{trait.default_value:,.0f}" in README


def test_the_settings_that_the_guarantees_name_exist() -> None:
    known = TRAITS | set(RedisOptions.__dataclass_fields__) | {"redis_options"}
    named = set(re.findall(r"`(\w+_(?:s|bytes|entries|options))`", GUARANTEES))
    assert named
    assert named <= known


def test_every_connection_option_is_in_the_readme() -> None:
    for name in set(RedisOptions.__dataclass_fields__) - {"client"}:
        assert f"`{name}`" in README


def test_every_command_is_in_the_readme() -> None:
    (commands,) = (action for action in make_parser()._actions if action.choices)
    for command in commands.choices or ():
        assert f"jupyter teleportal {command}" in README


def test_every_envelope_is_in_the_architecture() -> None:
    table = ARCHITECTURE.split("### Envelopes")[1].split("## The protocol")[0]
    named = set(re.findall(r"^\| `(\w)` ", table, re.M))
    assert named == {kind.decode() for kind in codec._KINDS}


def test_every_key_is_in_the_architecture() -> None:
    table = ARCHITECTURE.split("## In Redis")[1].split("### Payloads")[0]
    source = (ROOT / "jupyter_teleportal/transports/redis.py").read_text()
    source += (ROOT / "jupyter_teleportal/transports/redis_client.py").read_text()
    for name in ("log", "checkpoint", "saved", "saver"):
        assert f'"{name}"' in source
        assert f"{{room}}:{name}`" in table
    used = set()
    for module in ("file_ids", "saving"):
        text = (ROOT / f"jupyter_teleportal/{module}.py").read_text()
        used |= set(re.findall(r'(?:read|write)_map\(\s*[\w.()]+, "(\w+)"', text))
    assert used == {"files", "paths", "about", "saved"}
    for name in used:
        assert f":{name}`" in table
    for field in ("log", "tail", "offset", "update", "base", "fence"):
        assert f"'{field}'" in "".join(
            script.source
            for script in vars(redis_scripts).values()
            if isinstance(script, redis_scripts.Script)
        )
        assert f"`{field}`" in table


def test_every_error_is_in_the_tree() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type):
            assert name in errors.__doc__
