"""Record a debugfs as a capture: one text that `report` reads and `mount` replays."""
