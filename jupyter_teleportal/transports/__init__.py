"""What carries updates between servers: the interface, and each mechanism behind it.

Whoever writes another transport needs `base`.
May import: core.
"""
