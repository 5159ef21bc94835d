"""What the pytest plugin is made of: mounts for tests, records read back from their text, and what is swept up."""
