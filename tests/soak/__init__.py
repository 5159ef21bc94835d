"""Attacks on what the pages promise: short ones in the test suite, long ones with `make soak`."""
