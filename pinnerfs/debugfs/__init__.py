"""The fake debugfs: a tree of files with modes and errnos, and the daemon that mounts it."""
