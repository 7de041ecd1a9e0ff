"""Job 2: features to pairs and verdicts. One module a step, in the order in which they run (see `run`)."""
