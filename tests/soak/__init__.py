"""Attacks on what the README promises: short ones in the test suite, the same for long with `make soak`."""
