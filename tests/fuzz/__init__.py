"""Fuzzing of whatever reads foreign bytes, each run in a process of its own: that the interpreter
crashes, or never comes back, are two of the outcomes."""
