"""The transports: the only modules that talk to anything outside the process."""
