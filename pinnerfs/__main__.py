"""`python -m pinnerfs`."""

from pinnerfs.cli import main

main()
