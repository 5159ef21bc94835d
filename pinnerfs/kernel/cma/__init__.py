"""CMA: areas, the allocations from them, and what a pinned page does to those."""
