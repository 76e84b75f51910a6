"""The settings, checked."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from jupyter_teleportal.core.errors import SettingsError
from jupyter_teleportal.core.settings import (
    Timing,
    check_drain_s,
    describe_options,
    effective_shares,
    parse_shares,
)

HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/alice/"}
NAMED = {"JUPYTER_TELEPORTAL_SHARES": '{"shared": "team1"}'}


def test_the_default_timing_is_valid() -> None:
    timing = Timing()
    assert timing.dead_after_s >= 2 * timing.heartbeat_interval_s


@pytest.mark.parametrize("name", [field.name for field in fields(Timing)])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
def test_a_timing_that_is_no_number_above_zero_is_named(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is .* number above 0, and not infinite"):
        Timing(**{name: value})


@pytest.mark.parametrize("value", [-5, math.nan, math.inf, -math.inf])
def test_a_drain_that_nobody_can_wait_for_is_named(value: float) -> None:
    with pytest.raises(SettingsError, match=r"^drain_s is .* 0 to stop at once"):
        check_drain_s(value)


@pytest.mark.parametrize("value", [0, 0.5, 3600])
def test_a_drain_that_can_be_waited_for(value: float) -> None:
    assert check_drain_s(value) == value


def test_a_replica_is_not_dead_after_one_missed_heartbeat() -> None:
    with pytest.raises(SettingsError, match="dead_after_s"):
        Timing(heartbeat_interval_s=2, dead_after_s=3.9)
    Timing(heartbeat_interval_s=2, dead_after_s=4, lease_ttl_s=6)


def test_a_lease_outlives_one_missed_renewal() -> None:
    with pytest.raises(SettingsError, match="lease_ttl_s"):
        Timing(lease_ttl_s=4.9)
    Timing(lease_ttl_s=5)


def test_a_settings_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="history_keep_s"):
        Timing(history_keep_s=0)


def test_shares_are_parsed_from_json() -> None:
    assert parse_shares('{"": "default", "a/b": "x"}') == {"": "default", "a/b": "x"}
    assert parse_shares("{}") == {}


@pytest.mark.parametrize("text", ["", "shared", "[]", '"x"', "null", '{"a": 1}', '{"a": null}'])
def test_shares_that_are_no_object_of_strings_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="JUPYTER_TELEPORTAL_SHARES"):
        parse_shares(text)


def test_without_a_transport_nothing_is_shared() -> None:
    assert not effective_shares({"": "all"}, NAMED, shared=False)


def test_the_whole_root_is_shared_unless_told_otherwise() -> None:
    assert effective_shares(None, {}, shared=True).folders == {"": "default"}


def test_the_environment_names_shares_and_the_configuration_wins() -> None:
    assert effective_shares(None, NAMED, shared=True).folders == {"shared": "team1"}
    assert effective_shares({"a": "b"}, NAMED, shared=True).folders == {"a": "b"}
    assert not effective_shares({}, NAMED, shared=True)


def test_under_jupyterhub_nothing_is_shared_until_it_is_named() -> None:
    assert not effective_shares(None, HUB, shared=True)
    assert effective_shares(None, HUB | NAMED, shared=True).folders == {"shared": "team1"}
    assert effective_shares({"": "home"}, HUB, shared=True).folders == {"": "home"}


def test_secrets_are_not_logged() -> None:
    options = {
        "password": "hunter2",
        "ssl_password": "hunter3",
        "credential_provider": object(),
        "host": "redis.example",
        "db": 2,
    }
    described = describe_options(options)
    assert described["host"] == "redis.example"
    assert described["db"] == 2
    assert {described[name] for name in options if name not in ("host", "db")} == {"***"}
