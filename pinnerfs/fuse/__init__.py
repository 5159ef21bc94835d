"""The debugfs tree as a FUSE file system."""
