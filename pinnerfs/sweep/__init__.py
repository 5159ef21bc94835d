"""Play a scenario at many points: seeds, thresholds, and values of its keys."""
