"""The memory of a scenario, as the kernel's parts need it."""

from __future__ import annotations

from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, MemoryMap, file_mapping
from pinnerfs.scenario.memory import Memory

__all__ = ["cma_areas", "memory_map"]


def cma_areas(memory: Memory) -> list[Area]:
    """Return the CMA areas, in the order of the regions."""
    return [
        Area(region.cma, memory.first_frame(region.name), region.frames, region.order_per_bit)
        for region in memory.region
        if region.cma is not None
    ]


def memory_map(memory: Memory) -> MemoryMap:
    """Return the page frames and their regions."""
    regions, start = [], memory.base_pfn
    for region in memory.region:
        flags = page_flags(region.flags, region.zone)
        mapping = file_mapping(region.name) if region.pages == "file" else 0
        regions.append(FrameRange(region.name, start, region.frames, Migratetype[region.migratetype], flags, mapping))
        start += region.frames
    return MemoryMap(memory.base_pfn, memory.frames, memory.pageblock_order, regions)
