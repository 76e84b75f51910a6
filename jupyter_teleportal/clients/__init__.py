"""Browsers and other y-websocket clients: frames, limits, turns, updates to them, serving.

Knows nothing of Jupyter.
May import: core, transports, sync.
"""
