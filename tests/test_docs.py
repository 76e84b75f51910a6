"""What the documentation names exists, and what exists is named in it.

Each check takes the pages and returns what is wrong with them, so that the last test can show that
it notices when something is missing, and when something is named that there is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import named_in_code as code
from support.missing import missing

from jupyter_teleportal.core import envelopes, errors
from jupyter_teleportal.jupyter.extension import TeleportalExtension
from jupyter_teleportal.transports.redis import scripts as redis_scripts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

Pages = dict[str, str]
"""Path in the repository -> text."""

PAGES: Pages = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/*.md", "examples/*/README.md")
    for path in sorted(ROOT.glob(pattern))
}


def compared(what: str, named: Iterable[str], there: Iterable[str]) -> list[str]:
    named, there = set(named), set(there)
    return [f"{what}: not in the docs: {name}" for name in sorted(there - named)] + [
        f"{what}: only in the docs: {name}" for name in sorted(named - there)
    ]


def unknown(what: str, named: Iterable[str], there: Iterable[str]) -> list[str]:
    return [f"{what}: only in the docs: {name}" for name in sorted(set(named) - set(there))]


def section(text: str, heading: str) -> str:
    """What stands under `heading`, up to the next one of its level or above."""
    level = heading.split(" ")[0]
    begun = text.split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{1,{len(level)}}} ", begun, flags=re.M)[0]


def first_column(table: str) -> set[str]:
    """What stands in code marks in the first column of a table."""
    rows = re.findall(r"^\| ([^|]+) \|", table, re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


# -- settings ------------------------------------------------------------------------------


def check_readmes_settings(pages: Pages) -> list[str]:
    table = section(pages["README.md"], "### Settings")
    found = compared("setting", re.findall(r"^\| `(\w+)`", table, re.M), code.traits())
    (row,) = re.findall(r"^\| `redis_options` .*", table, re.M)
    options = set(re.findall(r"`(\w+)`", row))
    return found + [
        f"option: not in the README: {name}" for name in code.connection_options() - options
    ]


def check_settings_that_are_named(pages: Pages) -> list[str]:
    ours = code.traits() | code.connection_options()
    others = set().union(*code.status_fields().values()) | {"age_s"} | code.hub_traits()
    text = "\n".join(pages.values())
    shaped = re.findall(r"`(\w+_(?:s|bytes|entries|options|url|prefix))`", text)
    return (
        unknown("setting", shaped, ours | others)
        + unknown("setting", re.findall(r"TeleportalExtension\.(\w+)", text), ours)
        + compared(
            "setting of hubs",
            re.findall(r"^\| `(\w+)` \|", pages["docs/jupyterhub.md"], re.MULTILINE),
            code.hub_traits(),
        )
    )


# -- commands, endpoints, environment ------------------------------------------------------

TOOLS = {
    "tests.chaos": "tests/chaos/__main__.py",
    "tests.fuzz": "tests/fuzz/__main__.py",
    "tests.fuzz.servers": "tests/fuzz/servers.py",
    "tests.mutations": "tests/mutations/__main__.py",
    "tests.simulation": "tests/simulation/__main__.py",
    "benchmarks": "benchmarks/__main__.py",
    "benchmarks.plot": "benchmarks/plot.py",
    "benchmarks.projection": "benchmarks/projection.py",
    "benchmarks.record": "benchmarks/record.py",
}


def check_commands(pages: Pages) -> list[str]:
    commands = code.commands()
    found: list[str] = []
    named: set[str] = set()
    for page, text in pages.items():
        for command, rest in re.findall(r"jupyter teleportal ([a-z]\w*)([^`\n]*)", text):
            named.add(command)
            options = re.findall(r"(?<![\w-])(--[a-z][\w-]*)", rest)
            there = commands.get(command, set(options))
            found += unknown(f"{page}: option of {command}", options, there)
        for tool, rest in re.findall(r"python -m ((?:tests|benchmarks)[.\w]*)([^`\n]*)", text):
            if tool not in TOOLS:
                found.append(f"{page}: there is no {tool}")
                continue
            there = code.tool_options(ROOT / TOOLS[tool])
            found += unknown(f"option of {tool}", re.findall(r"(--[a-z][\w-]*)", rest), there)
    missing = set(commands) - set(re.findall(r"jupyter teleportal (\w+)", pages["README.md"]))
    return (
        found
        + unknown("command", named, commands)
        + [f"command: not in the README: {name}" for name in missing]
    )


def check_endpoints(pages: Pages) -> list[str]:
    text = pages["docs/endpoints.md"]
    there = code.endpoints()
    paths = {name.split(" ")[1] for name in there}
    everywhere = re.findall(r"/api/teleportal/\w+", "\n".join(pages.values()))
    return compared("endpoint", re.findall(r"^## `(\w+ /api/\S+)`", text, re.M), there) + unknown(
        "endpoint", everywhere, paths
    )


def check_status(pages: Pages) -> list[str]:
    text = section(pages["docs/endpoints.md"], "## `GET /api/teleportal/status`")
    of_status, _, rest = text.partition("\nA room:\n")
    of_room, _, of_counters = rest.partition("\n### Counters\n")
    fields = code.status_fields()
    example = set(re.findall(r'"(\w+)": ', of_status.split("```")[1]))
    return (
        compared("field", first_column_names(of_status), fields[""])
        + compared("field of a room", first_column_names(of_room), fields["rooms"])
        + compared("counter", first_column_names(of_counters), code.counters())
        + [f"not in the example: {name}" for name in set().union(*fields.values()) - example]
    )


def first_column_names(table: str) -> set[str]:
    return {name for name in first_column(table) if name.isidentifier()}


def check_environment(pages: Pages) -> list[str]:
    there = code.environment_variables()
    elsewhere = "".join(
        path.read_text(errors="ignore")
        for folder in ("jupyter_teleportal", "examples", "binder", "tests/support")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md")
    )
    named = re.findall(r"\b(?:JUPYTER_)?TELEPORTAL_[A-Z_]*[A-Z]\b", "\n".join(pages.values()))
    return compared("variable", first_column(pages["docs/environment.md"]), there) + [
        f"variable: only in the docs: {name}" for name in set(named) if name not in elsewhere
    ]


# -- Redis ---------------------------------------------------------------------------------


def check_keys(pages: Pages) -> list[str]:
    table = section(pages["docs/protocol.md"], "## Keys and channels").split("\n### ")[0]
    found = compared(
        "key", {n for n in first_column(table) if n.startswith("<prefix>")}, code.redis_names()
    )
    scripts = "".join(
        script.source
        for script in vars(redis_scripts).values()
        if isinstance(script, redis_scripts.Script)
    )
    fields = set(re.findall(r"'(?:HSET|HGET|HINCRBY)', (?:KEYS\[\d\]|\w+), '(\w+)'", scripts))
    fields |= set(re.findall(r"'XADD'.*", scripts)[0].split("'")[5::2])
    assert {"log", "tail", "u", "p"} <= fields
    return found + [
        f"field: not in the docs: {name}" for name in fields if f"`{name}`" not in table
    ]


def check_envelopes(pages: Pages) -> list[str]:
    table = section(pages["docs/protocol.md"], "### Envelopes")
    named = re.findall(r"^\| `(\w)` ", table, re.M)
    return compared("envelope", named, {kind.decode() for kind in envelopes._KINDS})


# -- what the log says ---------------------------------------------------------------------

QUOTED = re.compile(r"^> (?:`(\w+)`: )?(.+)$", re.M)


def check_messages(pages: Pages) -> list[str]:
    quoted = QUOTED.findall(pages["docs/troubleshooting.md"])
    complaints = {f"{subject}: {message}" for subject, message in code.complaints()}
    named = {f"{subject}: {message}" for subject, message in quoted if subject}
    said = {message for subject, message in quoted if not subject}
    return (
        compared("complaint", named, complaints)
        + [f"warning: not in the docs: {message}" for message in sorted(code.warnings() - said)]
        + unknown("message", said, code.texts())
    )


# -- links, and the rest -------------------------------------------------------------------


def check_links(pages: Pages) -> list[str]:
    found: list[str] = []
    for page, text in pages.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            full = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not (ROOT / full).exists():
                found.append(f"{page}: there is no {target}")
            elif anchor and anchor not in anchors(pages[full]):
                found.append(f"{page}: {full} has no heading #{anchor}")
    return found


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_every_promise_names_its_test(pages: Pages) -> list[str]:
    """Each line of what is promised, and of what is not, names a test that is there."""
    page = pages["docs/guarantees.md"]
    promises = page[page.index("## Promised") : page.index("## How long an edit is at stake")]
    lines = [line for line in promises.splitlines() if re.match(r"(\d+\.|-) ", line)]
    found = []
    for line in lines:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line)
        if not named:
            found.append(f"no test: {line[:60]}")
        for path, test in named:
            text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
            if not re.search(rf"^(?:async )?def {test or 'test_'}", text, re.M):
                found.append(f"there is no {path}::{test}: {line[:60]}")
    return found if lines else ["there are no promises"]


def check_public_names(pages: Pages) -> list[str]:
    named = re.findall(
        r"^\.\. auto(?!module)\w+:: jupyter_teleportal\.(\w+)$", pages["docs/api.md"], re.M
    )
    return compared("public name", named, code.public_names())


def check_every_page_is_in_the_contents(pages: Pages) -> list[str]:
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", pages["docs/index.md"], re.M | re.S)
    listed = {line for tree in trees for line in tree.splitlines() if re.fullmatch(r"[\w-]+", line)}
    there = {Path(page).stem for page in pages if page.startswith("docs/")} - {"index"}
    return compared("page", listed, there)


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
def test_the_docs_are_true(check: Callable[[Pages], list[str]]) -> None:
    assert check(PAGES) == []


# -- a check that notices nothing would be no check ----------------------------------------

WRONG: list[tuple[str, str, str, str]] = [
    # the check, the page, what stands in it, and what stands there instead
    ("readmes_settings", "README.md", "| `lease_ttl_s` |", "| lease |"),
    ("readmes_settings", "README.md", "`ping_interval_s`", "the pings' interval"),
    ("readmes_settings", "README.md", "| `lease_ttl_s` |", "| `leese_ttl_s` |"),
    ("settings_that_are_named", "docs/guarantees.md", "`lease_ttl_s`", "`leese_ttl_s`"),
    ("settings_that_are_named", "docs/settings.md", ".redis_url", ".rediss_url"),
    ("settings_that_are_named", "docs/jupyterhub.md", "| `folder` |", "| a folder |"),
    ("commands", "README.md", "teleportal status", "teleportal state"),
    ("commands", "docs/tutorial.md", "teleportal demo FOLDER", "teleportal demo --folder"),
    ("commands", "docs/guarantees.md", "--minutes", "--hours"),
    ("endpoints", "docs/endpoints.md", "## `GET /api/teleportal/status`", "## Status"),
    ("endpoints", "README.md", "/api/teleportal/status", "/api/teleportal/state"),
    ("status", "docs/endpoints.md", "| `problem` |", "| a problem |"),
    ("status", "docs/endpoints.md", "| `lineage` |", "| `linage` |"),
    ("status", "docs/endpoints.md", "| `outages` |", "| outages |"),
    ("status", "docs/endpoints.md", '"last_save": null', '"saved": null'),
    ("environment", "docs/environment.md", "| `XDG_DATA_HOME` |", "| the data home |"),
    ("environment", "README.md", "JUPYTER_TELEPORTAL_SHARES", "JUPYTER_TELEPORTAL_SHARED"),
    ("keys", "docs/protocol.md", "| `<prefix>replicas` |", "| the replicas |"),
    ("keys", "docs/protocol.md", "{room}:log` |", "{room}:logs` |"),
    ("keys", "docs/protocol.md", "`tail`", "the tail"),
    ("envelopes", "docs/protocol.md", "| `Q` ", "| `q` "),
    ("messages", "docs/troubleshooting.md", "> `farewells`: The", "The"),
    ("messages", "docs/troubleshooting.md", "> `saves`: Room …:", "> `files`: Room …:"),
    ("messages", "docs/troubleshooting.md", "> Redis refuses the", "> Redis declines the"),
    ("messages", "docs/troubleshooting.md", "is not writable here", "cannot be written here"),
    ("links", "docs/index.md", "(balancer.md)", "(balance.md)"),
    ("links", "README.md", "(examples/asgi)", "(examples/wsgi)"),
    ("links", "docs/one-machine.md", "#what-redis-has", "#what-redis-had"),
    ("every_promise_names_its_test", "docs/guarantees.md", "(`tests/servers/test_leaving", "(`it"),
    ("every_promise_names_its_test", "docs/guarantees.md", "::test_nothing_is_lost", "::test_it"),
    ("public_names", "docs/api.md", "autoclass:: jupyter_teleportal.RedisYStore", "class:: it"),
    ("every_page_is_in_the_contents", "docs/index.md", "\nfaq\n", "\n"),
]


@pytest.mark.parametrize(("name", "page", "right", "wrong"), WRONG)
def test_a_check_notices(name: str, page: str, right: str, wrong: str) -> None:
    text = PAGES[page]
    assert right in text
    assert CHECKS[name]({**PAGES, page: text.replace(right, wrong)}) != []


def test_every_check_is_seen_to_notice() -> None:
    assert {name for name, *_ in WRONG} == set(CHECKS)


# -- the code's own texts ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(code.traits()))
def test_every_setting_says_what_it_is(name: str) -> None:
    trait = TeleportalExtension.class_traits()[name]
    assert len(trait.help) > 20
    if trait.default_value and isinstance(trait.default_value, int | float):
        assert f"{trait.default_value:,.0f}" in README


def test_every_error_is_in_the_tree() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type):
            assert name in errors.__doc__


# -- built ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as HTML."""
    if find_spec("sphinx") is None or find_spec("myst_parser") is None:
        missing("the documentation's tools are missing: pip install jupyter-teleportal[docs]")
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going"]
    command += ["-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return folder / "html"


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_every_setting_is_built_with_its_default(built: Path) -> None:
    text = text_of(built / "settings.html")
    for name in code.traits():
        default = TeleportalExtension.class_traits()[name].default_value_repr()
        described = text.split(f"TeleportalExtension.{name}#")
        assert len(described) == 2, name
        assert default.strip("'") in described[1][:200]
    for name in code.connection_options():
        assert f"\n{name}\n" in text


def test_every_command_is_built_with_its_options(built: Path) -> None:
    text = text_of(built / "commands.html")
    for command, options in code.commands().items():
        described = text.split(f"jupyter teleportal {command}#")[1]
        for option in options:
            assert option in described.split("jupyter teleportal ", 2)[1]


def test_links_into_the_repository_lead_to_its_home(built: Path) -> None:
    (home,) = re.findall(r'^Source = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    links = re.findall(
        r'href="(https://github\.com[^"]*/(?:blob|tree)/main/[^"#]*)',
        (built / "binder.html").read_text(),
    )
    assert f"{home}/tree/main/binder" in links
    assert all(link.startswith(home) for link in links)
