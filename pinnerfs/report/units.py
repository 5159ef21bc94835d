"""Numbers as a report prints them."""

from __future__ import annotations

__all__ = ["duration", "memory", "page_seconds", "percent"]

_SECOND = 10**6


def duration(us: int | None) -> str:
    """Return a time in µs with three significant digits and its unit: "303 ms"; "-" for None."""
    if us is None:
        return "-"
    if us < 1000:
        return f"{us} us"
    if us < 999_500:
        value, unit = us / 1000, "ms"
    else:
        value, unit = us / _SECOND, "s"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def page_seconds(page_us: int) -> str:
    """Return pages times µs in page seconds, with one decimal."""
    return f"{page_us / _SECOND:.1f}"


def percent(part: int | None, whole: int) -> str:
    """Return a part in percent of the whole; "unknown" for None."""
    if part is None:
        return "unknown"
    return f"{100 * part / whole:.0f}%" if whole else "-"


def memory(pages: int, page_size: int = 4096) -> str:
    """Return the size of pages: "4 MiB"."""
    size = pages * page_size
    for unit in ("GiB", "MiB"):
        step = 1 << {"GiB": 30, "MiB": 20}[unit]
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size // 1024} KiB"
