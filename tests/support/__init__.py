"""Real processes and protocol-level clients for the acceptance tests.

Nothing here imports `jupyter_teleportal`: the harness sees the product from outside only.
"""
