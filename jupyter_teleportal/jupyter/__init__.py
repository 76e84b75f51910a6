"""The seam with Jupyter: the extension, its endpoints, and what is taken over from upstream.

May import: core, transports, sync, files, clients.
"""
