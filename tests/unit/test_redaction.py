"""Passwords do not reach a log, however they are written."""

from __future__ import annotations

import io
import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config
from traitlets.config.loader import DeferredConfigString

from jupyter_teleportal.transports import redaction
from jupyter_teleportal.transports.redaction import (
    HIDDEN,
    Secrets,
    check_url,
    password_on_command_line,
    passwords_in_options,
    passwords_in_url,
)

PASSWORD = "s3c/r#e'täß\\"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://host:6379/0", set()),
        ("redis://user@host", set()),
        ("redis://user:pass@host:6379/0", {"pass"}),
        ("redis://:p%2Fs@host", {"p%2Fs", "p/s"}),
        ("redis://:p/s#w@rd@host", {"p/s#w@rd"}),
        ("unix:///run/redis.sock", set()),
        ("unix://user:pass@/run/redis.sock", {"pass"}),
        ("rediss://host/0?password=pass&db=1", {"pass"}),
        ("embedded", set()),
        ("", set()),
    ],
)
def test_passwords_in_urls(url: str, found: set[str]) -> None:
    assert passwords_in_url(url) == found


def test_passwords_in_options() -> None:
    options = {"password": "one", "ssl_password": "two", "password_file": "/run/x", "host": "h"}
    assert passwords_in_options(options) == {"one", "two"}
    assert passwords_in_options(str(options)) == {"one", "two"}
    assert passwords_in_options("{'password': no") == {"{'password': no"}
    assert passwords_in_options(None) == set()


@pytest.mark.parametrize(
    ("argument", "shows"),
    [
        ("--TeleportalExtension.redis_url=redis://:pass@host", True),
        ("--TeleportalExtension.redis_url=redis://host", False),
        ("--TeleportalExtension.redis_options={'password': 'one'}", True),
        ("--TeleportalExtension.redis_options={'password_file': '/run/x'}", False),
        ("--TeleportalExtension.redis_password_file=/run/x", False),
        ("--IdentityProvider.password=x", False),
    ],
)
def test_passwords_on_the_command_line(argument: str, shows: bool) -> None:
    assert password_on_command_line(["jupyter", "lab", argument]) == shows


@given(st.text(min_size=4).filter(str.isprintable), st.text())
def test_what_is_secret_is_hidden_in_all_its_forms(password: str, around: str) -> None:
    secrets = Secrets()
    secrets.add({password})
    for form in (password, repr(password)[1:-1], quote(password, safe="")):
        assert form not in secrets.hide(f"{around}{form}{around}") or form in HIDDEN * 2


@pytest.mark.parametrize(
    "url",
    ["redis://:p/s@host", "redis://u:p#s@host", "redis://u:p?s@host:1/0", "redis://:p[s@host"],
)
def test_an_unescaped_password_is_an_error_that_shows_nothing_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encode it") as raised:
        check_url(url)
    assert "p/s" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:1/0",
        "redis://u:p@h:1/0?client_name=a@b",
        "unix:///run/a@b.sock",
        "unix://u:p@/run/x",
        "rediss://[::1]:6379",
        "redis://:p%2F@[::1]:6379",
    ],
)
def test_a_right_url_is_right(url: str) -> None:
    check_url(url)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> tuple[logging.Logger, io.StringIO]:
    monkeypatch.setattr(redaction, "SECRETS", Secrets())
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    redaction.install("redis://:fromenviron@host")
    redaction.install("")
    out = io.StringIO()
    log = logging.getLogger("test_redaction")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = logging.StreamHandler(out)
    log.addHandler(handler)
    monkeypatch.setattr(log, "handlers", [handler])
    yield log, out
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("section", ["TeleportalExtension", "GroupSharing"])
def test_a_log_shows_none(logged: tuple[logging.Logger, io.StringIO], section: str) -> None:
    log, out = logged
    url = f"redis://user:{quote(PASSWORD, safe='')}@host"
    deferred = DeferredConfigString(str({"password": PASSWORD, "host": "h"}))
    config = Config({section: {"redis_url": url, "redis_options": deferred}})
    config[section].server_redis_url = "redis://:ofservers@host"
    config[section].key_prefix = "x"
    log.debug("Config changed: %r", config)
    log.debug("Config %s and %s", "this", config)
    log.warning("cannot log in with %s at %s", PASSWORD, url)
    log.warning("the URL is redis://:fromenviron@host")
    log.warning("a mapping %(a)s", {"a": PASSWORD})
    wrong = logging.getLogRecordFactory()("log", logging.INFO, "path", 1, "%d", ("number",), None)
    assert wrong.args == ("number",)  # whoever handles it complains
    try:
        raise ValueError(f"bad {PASSWORD!r}")
    except ValueError:
        log.exception("failed")
    text = out.getvalue()
    assert "key_prefix" in text
    assert "ValueError: bad" in text
    assert "host" in text
    for form in (
        PASSWORD,
        repr(PASSWORD)[1:-1],
        quote(PASSWORD, safe=""),
        "fromenviron",
        "ofservers",
    ):
        assert form not in text
