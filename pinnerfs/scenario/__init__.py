"""The scenario format: what a file may say, and the checks it must pass. Nothing here needs numpy."""
