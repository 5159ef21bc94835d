"""The `[memory]` of a scenario file: a device's page frames, in regions."""

from __future__ import annotations

import msgspec

from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, PAGE_SIZE, Migratetype
from pinnerfs.scenario.quantities import parse_size
from pinnerfs.scenario.tables import Table, Time, in_words, no_twins

__all__ = ["Memory", "Region"]

MAX_MEMORY = 1 << 40  # beyond any Android device; the books' address space grows with it


class Region(Table, frozen=True):
    name: str
    size: Time
    migratetype: str = "Movable"
    flags: list[str] = msgspec.field(default_factory=list)
    zone: int = 0

    def __post_init__(self) -> None:
        in_words("name", self.name)
        if self.migratetype not in Migratetype.__members__:
            wanted = ", ".join(Migratetype.__members__)
            raise ValueError(f"migratetype = {self.migratetype!r} must be one of {wanted}")
        for flag in self.flags:
            if flag not in PAGE_FLAG_BITS:
                raise ValueError(f"flags has {flag!r}, which must be one of {', '.join(PAGE_FLAG_BITS)}")
        if not 0 <= self.zone <= 3:
            raise ValueError(f"zone = {self.zone} must lie from 0 to 3")

    @property
    def frames(self) -> int:
        return parse_size("size", self.size) // PAGE_SIZE


class Memory(Table, frozen=True):
    size: Time
    region: list[Region]
    base_pfn: int = 0
    pageblock_order: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.pageblock_order <= 18:
            raise ValueError(f"pageblock_order = {self.pageblock_order} must lie from 0 to 18")
        block = 1 << self.pageblock_order
        if self.base_pfn < 0 or self.base_pfn % block or self.base_pfn >= 1 << 40:
            raise ValueError(f"base_pfn = {self.base_pfn} must be a multiple of {block}, the frames of a pageblock")
        for what, size in [
            ("size", self.size),
            *((f"size of region {r.name!r}", r.size) for r in self.region),
        ]:
            length = parse_size(what, size)
            if not length or length % (block * PAGE_SIZE):
                raise ValueError(f"{what} = {size!r} must be a multiple of a pageblock, {block * PAGE_SIZE >> 10}KiB")
        no_twins("region", [region.name for region in self.region])
        if self.frames * PAGE_SIZE > MAX_MEMORY:
            raise ValueError(f"size = {self.size!r} must be at most {MAX_MEMORY >> 40}TiB")
        total = sum(region.frames for region in self.region)
        if total > self.frames:
            raise ValueError(f"the regions hold {total} frames, more than the {self.frames} of size = {self.size!r}")

    @property
    def frames(self) -> int:
        return parse_size("size", self.size) // PAGE_SIZE

    def first_frame(self, name: str) -> int:
        """Return the PFN at which a region begins: regions follow each other from `base_pfn` on."""
        pfn = self.base_pfn
        for region in self.region:
            if region.name == name:
                return pfn
            pfn += region.frames
        raise KeyError(name)
