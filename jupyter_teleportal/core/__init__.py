"""Decisions and words: values, formats, and state machines that say what has to be done.

Pure: no clock, no await, no I/O, so that tests play thousands of cases in seconds.
May import: nothing of ours.
"""
