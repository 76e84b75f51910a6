"""The workloads, by name."""

from __future__ import annotations

from .base import Figure, Workload
from .big import BIG_CLIENT, W5, W5P
from .commands import W7B, W7C
from .flood import W2, W2S
from .growth import W7H, W7S
from .join import W6
from .many import W4
from .startup import W8
from .typing import W1, W3

__all__ = ["HELPERS", "WORKLOADS", "Figure", "Workload"]

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (W1, W2, W2S, W3, W4, W5, W5P, W6, W7H, W7S, W7C, W7B, W8)
}
HELPERS: dict[str, Workload] = {BIG_CLIENT.name: BIG_CLIENT}
"""What workloads ask a second process to do."""
