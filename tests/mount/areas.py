"""A scenario with CMA areas, of which one may have a pinned page."""

from __future__ import annotations

__all__ = ["AREA", "BASE", "PAGES", "areas"]

AREA, BASE, PAGES = "reserved", 61440, 1024


def areas(*more: str, hold: str = "8000h", start: str = "0s", order_per_bit: int = 0) -> str:
    """Return a scenario with the area `reserved` and one for each other name.

    A page of `reserved` is pinned once, from `start` on, for `hold`.
    """
    regions = "".join(
        f'[[memory.region]]\nname = "{name}"\nsize = "4MiB"\nmigratetype = "CMA"\ncma = "{name}"\n'
        f'order_per_bit = {order_per_bit}\nflags = ["uptodate", "lru", "swapbacked"]\n'
        for name in (AREA, *more)
    )
    return (
        'format = 1\nname = "areas"\ndescription = "for the tests"\n'
        f'[memory]\nsize = "{4 * (1 + len(more))}MiB"\nbase_pfn = {BASE}\n{regions}'
        '[stack.driver]\nframes = ["get_user_pages_fast+0x1/0x2", "drv_ioctl+0x100/0x200"]\n'
        f'[[task]]\nname = "driver"\nstack = "driver"\nregion = "{AREA}"\nstart = "{start}"\nrelease = "put_page"\n'
        f'[[task.phase]]\nrepeat = 1\nevery = "8000h"\nhold = "{hold}"\n'
    )
