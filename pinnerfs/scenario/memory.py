"""The `[memory]` table of a scenario file: a device's page frames, in regions."""

# Annotations are not postponed: msgspec would compile each one again in every process.

import re
from functools import cached_property
from typing import Literal

import msgspec

from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, PAGE_SIZE, Migratetype
from pinnerfs.scenario.messages import nearest, shown
from pinnerfs.scenario.quantities import parse_size
from pinnerfs.scenario.tables import Measure, Table, check_text
from pinnerfs.words import count_of

__all__ = ["Memory", "Region"]

MAX_MEMORY = 1 << 40  # more than any Android device; the accounting reserves address space in proportion
# An area's name is the name of a directory, and the kernel keeps 64 bytes of it, the last one a zero.
AREA_NAME = re.compile(r"[A-Za-z0-9_,@+-][A-Za-z0-9_.,@+-]{0,62}", re.ASCII)


class Region(Table, frozen=True, dict=True):
    """A run of page frames of one migratetype, `[[memory.region]]`."""

    name: str
    size: Measure
    migratetype: str = "Movable"
    flags: list[str] = msgspec.field(default_factory=list)
    zone: int = 0
    pages: Literal["anon", "file"] = "anon"
    cma: str | None = None
    order_per_bit: int = 0

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if self.migratetype not in Migratetype.__members__:
            known = Migratetype.__members__
            wanted = f"{', '.join(known)}{nearest(self.migratetype, known)}"
            raise ValueError(f"migratetype = {self.migratetype!r} must be one of {wanted}")
        for flag in self.flags:
            if flag not in PAGE_FLAG_BITS:
                wanted = f"{', '.join(PAGE_FLAG_BITS)}{nearest(flag, PAGE_FLAG_BITS)}"
                raise ValueError(f"flags has {flag!r}, which must be one of {wanted}")
        parse_size("size", self.size)
        if not 0 <= self.zone <= 3:
            raise ValueError(f"zone = {shown(self.zone)} must be from 0 to 3")
        self._check_area()

    def _check_area(self) -> None:
        """Check what cma_init_reserved_mem checks: an area has a whole number of bits."""
        if self.cma is None:
            if self.order_per_bit:
                raise ValueError(f"order_per_bit = {shown(self.order_per_bit)} goes with a CMA area: add `cma`")
            return
        if not AREA_NAME.fullmatch(self.cma):
            raise ValueError(
                f"cma = {self.cma!r} must be the name of a CMA area, with at most 63 letters, digits and any of _.,@+-"
            )
        if self.migratetype != Migratetype.CMA.name:
            raise ValueError(f"cma = {self.cma!r} goes with migratetype = 'CMA', and this is {self.migratetype!r}")
        if not 0 <= self.order_per_bit <= 18:
            raise ValueError(f"order_per_bit = {shown(self.order_per_bit)} must be from 0 to 18")
        if self.frames % (1 << self.order_per_bit):
            bit = f"one bit stands for {1 << self.order_per_bit} pages"
            raise ValueError(f"size = {self.size!r} must be a multiple of {4 << self.order_per_bit}KiB: {bit}")

    @cached_property
    def frames(self) -> int:
        """Return the number of page frames."""
        return parse_size("size", self.size) // PAGE_SIZE


class Memory(Table, frozen=True, dict=True):
    """The memory of a device, `[memory]`."""

    size: Measure
    region: list[Region]
    base_pfn: int = 0
    pageblock_order: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.pageblock_order <= 18:
            raise ValueError(f"pageblock_order = {shown(self.pageblock_order)} must be from 0 to 18")
        block = 1 << self.pageblock_order
        if self.base_pfn < 0 or self.base_pfn % block or self.base_pfn >= 1 << 40:
            raise ValueError(
                f"base_pfn = {shown(self.base_pfn)} must be a multiple of {block} (one pageblock), below {1 << 40}"
            )
        self.check_multiple(self.size)
        if self.frames * PAGE_SIZE > MAX_MEMORY:
            raise ValueError(f"size = {self.size!r} must be at most {MAX_MEMORY >> 40}TiB")
        total = sum(region.frames for region in self.region)
        if total > self.frames:
            raise ValueError(
                f"the regions have {count_of(total, 'frame')}, more than the {self.frames} of size = {self.size!r}"
            )

    def check_multiple(self, size: Measure) -> None:
        """Raise ValueError unless a size is a multiple of a pageblock."""
        length, block = parse_size("size", size), PAGE_SIZE << self.pageblock_order
        if not length or length % block:
            wanted = "must be" if length else "is 0: it must be"
            raise ValueError(f"size = {size!r} {wanted} a multiple of {block >> 10}KiB (one pageblock)")

    @cached_property
    def frames(self) -> int:
        """Return the number of page frames."""
        return parse_size("size", self.size) // PAGE_SIZE

    def first_frame(self, name: str) -> int:
        """Return the PFN at which a region begins: regions follow each other from `base_pfn` on."""
        pfn = self.base_pfn
        for region in self.region:
            if region.name == name:
                return pfn
            pfn += region.frames
        raise KeyError(name)
