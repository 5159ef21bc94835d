"""page_pinner itself: the kernels that had it, its accounting, its ring, and its records as text."""
