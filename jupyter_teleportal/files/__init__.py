"""A room with a file: what the file means, who writes it and when, and where it really is.

May import: core, transports, sync.
"""
