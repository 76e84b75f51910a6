"""A document on several servers: carries out what core decides, for a room that needs no file.

One process among others, its rooms' links to the transport, history, checkpoints and cursors.
May import: core, transports.
"""
