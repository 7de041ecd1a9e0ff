"""The three Beam jobs of `onceseen dedup`, and what drives them: state, lock, runner, checks, progress."""
