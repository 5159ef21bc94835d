"""What a Pixel counts of an area's allocations, in /sys/kernel/pixel_stat/mm/cma/NAME. Imitates Pixel's mm/cma.c."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["PixelStat"]

COUNTER = (1 << 64) - 1
MILLISECOND = 1000  # µs

_NUMBER = re.compile(rb"\+?[0-9]+\n?")


class PixelStat:
    """The counters of one area.

    low_bound, mid_bound: latencies in ms. A shorter call counts as low, or as mid, all others as high.
    counters: the value of each file but the bounds.
    """

    def __init__(self) -> None:
        self.bounds = {"low": 500, "mid": 1500}
        self.counters = dict.fromkeys(
            (
                "latency_low",
                "latency_mid",
                "latency_high",
                "alloc_pages_attempts",
                "alloc_pages_failfast_attempts",
                "fail_pages",
                "fail_failfast_pages",
            ),
            0,
        )

    def finish(self, pages: int, *, got: bool, noretry: bool, began: int, ended: int) -> None:
        """Count an allocation at its end; times in µs. Imitates `vh_cma_alloc_finish`.

        In spite of its name `alloc_pages_attempts` counts the pages that callers got.
        """
        latency = ended // MILLISECOND - began // MILLISECOND
        level = "low" if latency < self.bounds["low"] else "mid" if latency < self.bounds["mid"] else "high"
        if got:
            counter = "alloc_pages_failfast_attempts" if noretry else "alloc_pages_attempts"
        else:
            counter = "fail_failfast_pages" if noretry else "fail_pages"
        self.counters[f"latency_{level}"] += 1
        self.counters[counter] = self.counters[counter] + pages & COUNTER

    def set_bound(self, level: Literal["low", "mid"], data: bytes) -> None:
        """Set a bound from the text of a write. ValueError if it is no number, or if low would not be below mid.

        Imitates `latency_low_bound_store` and `latency_mid_bound_store`, which read the number with kstrtoul().
        """
        value = int(data) if _NUMBER.fullmatch(data) else -1
        low, mid = (value, self.bounds["mid"]) if level == "low" else (self.bounds["low"], value)
        if not 0 <= low < mid <= COUNTER:
            raise ValueError(f"latency_{level}_bound = {data!r}: wanted a number of ms, and low below mid")
        self.bounds[level] = value
