"""Mount points: the mount table, checks before a mount, mount namespaces, directories of temporary mounts."""
