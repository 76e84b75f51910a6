"""The load generator: many clients of y-websocket in one process, with next to no work per edit.

It keeps no documents. Edits are single characters that one author appends to a text, so that the
author's clock counts them, and what arrives is told by that clock.
"""
