"""page_pinner itself: which kernels had it, its accounting, its ring, and the text of its records."""
