"""The model that says what many servers would take."""

from __future__ import annotations

import pytest

from benchmarks.projection import Costs, Load, project

COSTS = Costs(
    redis_append=1e-5,
    redis_lease=1e-6,
    redis_heartbeat=1e-3,
    edit=1e-3,
    idle_document=1e-4,
    document_bytes=1e5,
    redis_document_bytes=1e4,
)


def test_what_follows_from_the_costs():
    load = Load(
        servers=10,
        documents=1000,
        servers_each=2,
        edited_share=0.5,
        edits_per_s=4,
        heartbeat_s=2,
    )
    found = project(COSTS, load)
    assert found["appends a second"] == 2000
    assert found["leases asked for a second"] == 1000
    assert found["Redis: all, cores"] == pytest.approx(0.02 + 0.001 + 0.005)
    assert found["Redis: memory, GB"] == pytest.approx(0.01)
    assert found["a server: documents"] == 200
    assert found["a server: idle, cores"] == pytest.approx(0.02)
    assert found["a server: edits, cores"] == pytest.approx(0.4)
    assert found["a server: memory of documents, MB"] == pytest.approx(20)
