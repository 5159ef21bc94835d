"""The fake debugfs: a tree of files with the kernel's modes and errnos."""

__all__ = ["CONTROL_DIRECTORY"]

CONTROL_DIRECTORY = ".pinnerfs"  # of the control files, in the root of a mount
