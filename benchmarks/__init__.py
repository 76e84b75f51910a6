"""Benchmarks: what sharing costs, measured side by side with what else there is.

``python -m benchmarks --help`` says how to run them, ``docs/performance.md`` what came out.

=============== =================================================================================
folder, module  what
=============== =================================================================================
`targets`       what is measured: each starts its servers and says how a client gets into a room
`load`          the load generator: a process of its own that speaks y-websocket
`workloads`     what the load generator does with a target, and what it measures
`runner`        targets take turns; `results` keeps and `report` prints what came out
`plot`          plots of a file of results
`micro`         the pure core by itself, with pytest-benchmark
=============== =================================================================================
"""

from __future__ import annotations

import sys
from pathlib import Path

# Servers are started as the acceptance tests start them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
