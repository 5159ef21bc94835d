"""Temporary mounts: their directories, and cleaning up after processes that were killed."""
