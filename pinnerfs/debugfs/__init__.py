"""The fake debugfs: a tree of files with the kernel's modes and errnos."""
