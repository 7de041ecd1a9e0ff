"""The audit of a generator: its generations held against each other and against a finished run."""
