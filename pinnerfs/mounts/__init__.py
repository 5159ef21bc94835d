"""Mount points: the kernel's mount table, checks before a mount, and mount namespaces."""
