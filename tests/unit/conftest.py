"""Hypothesis: random everywhere, also where the environment says CI, and never late."""

from hypothesis import settings

settings.register_profile("teleportal", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("teleportal")
