"""The mount table, mounting and unmounting, mount namespaces, directories of temporary mounts."""
