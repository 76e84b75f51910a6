"""``python -m benchmarks.load``: the load generator's process."""

from __future__ import annotations

from .process import main

main()
