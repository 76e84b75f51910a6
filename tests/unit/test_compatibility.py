"""What is relied on of other packages' insides is checked before anything is taken over."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from jupyter_server_ydoc.rooms import DocumentRoom

from jupyter_teleportal.core.errors import SeamError
from jupyter_teleportal.jupyter import compatibility
from jupyter_teleportal.jupyter.compatibility import RELIED_ON, SUPPORTED, check_installed


def test_what_is_installed_is_what_this_was_made_for() -> None:
    check_installed()


@pytest.mark.parametrize("package", SUPPORTED)
@pytest.mark.parametrize("version", ["0.1.0", "99.0.0", "99.0.0a1"])
def test_another_version_is_named(
    package: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == package else known(name)
    )
    with pytest.raises(SeamError, match=rf"{package} {version}"):
        check_installed()


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUPPORTED, "no-such-package", ((1,), (2,)))
    with pytest.raises(SeamError, match="no-such-package is not installed"):
        check_installed()


@pytest.mark.parametrize("place", RELIED_ON)
def test_what_is_missing_of_it_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELIED_ON, place, (*RELIED_ON[place], "_no_such_name"))
    with pytest.raises(SeamError, match=f"{place} has no _no_such_name"):
        check_installed()


@pytest.mark.parametrize("place", ["json:NoSuchClass", "no_such_module:Anything", "no_such_module"])
def test_a_place_that_is_missing_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELIED_ON, place, ("anything",))
    with pytest.raises(SeamError, match=f"{place} is not there"):
        check_installed()


def test_a_method_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(DocumentRoom, "_on_document_change")
    with pytest.raises(SeamError, match="_on_document_change"):
        check_installed()


def test_an_attribute_that_instances_are_not_given_any_more_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not hasattr(DocumentRoom, "_save_delay")
    monkeypatch.setattr(DocumentRoom, "__init__", lambda self: None)
    with pytest.raises(SeamError, match="_save_delay"):
        check_installed()


def test_without_redis_its_client_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUPPORTED, "redis", ((99,), (100,)))
    check_installed(redis=False)


def test_nothing_of_others_is_imported_before_it_is_looked_at() -> None:
    others = {place.partition(":")[0].partition(".")[0] for place in RELIED_ON}
    code = f"import sys, {compatibility.__name__}; print(*({others} & set(sys.modules)))"
    ran = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.split() == []
