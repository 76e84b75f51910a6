"""Real servers, a real Redis, tabs that type, and faults drawn from a seed.

``python -m tests.chaos --seed 1 --minutes 2``; see ``--help`` and ``docs/guarantees.md``.
"""
