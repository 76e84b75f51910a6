"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fixtures import (
    OUTCOMES,
    artefacts,
    confined_redis,
    make_server,
    redis_server,
    seed,
    servers,
    shared_folder,
    tls_redis,
)

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "artefacts",
    "confined_redis",
    "make_server",
    "redis_server",
    "seed",
    "servers",
    "shared_folder",
    "tls_redis",
]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the reports, so that a fixture can tell at its end whether the test has failed."""
    report = yield
    item.stash.setdefault(OUTCOMES, {})[report.when or ""] = report
    return report
