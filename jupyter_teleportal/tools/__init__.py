"""The commands of ``jupyter teleportal``: demo, doctor, status.

May import: core, transports, sync, files, clients, jupyter.
"""
