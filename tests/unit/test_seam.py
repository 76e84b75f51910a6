"""What the seam relies on is checked before it takes anything over."""

from __future__ import annotations

import importlib.metadata

import pytest

from jupyter_teleportal.core.errors import SeamError
from jupyter_teleportal.jupyter import rooms


def test_what_is_installed_is_what_the_seam_was_made_for() -> None:
    rooms.check_upstream()


@pytest.mark.parametrize("package", rooms.SUPPORTED)
def test_another_version_of_upstream_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.metadata.version
    for version in ("0.1.0", "99.0.0"):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, version=version: version if name == package else known(name),
        )
        with pytest.raises(SeamError, match=rf"{package} {version}"):
            rooms.check_upstream()


def test_what_upstream_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rooms.DocumentRoom, "_save_to_disc")
    with pytest.raises(SeamError, match="_save_to_disc"):
        rooms.check_upstream()
