"""The whole replication logic under random schedules, in virtual time, with no I/O at all."""
