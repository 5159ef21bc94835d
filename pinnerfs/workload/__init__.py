"""What happens to the pages: scenarios, read from TOML and turned into events in time order."""
