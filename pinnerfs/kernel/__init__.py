"""What the kernel keeps about pinned pages, and how it prints it: pure data in, pure data out."""
