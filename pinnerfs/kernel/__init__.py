"""What a kernel keeps about pinned pages, and how it prints that. Pure: no clock, file or mount."""
