"""The process behind a mount."""
