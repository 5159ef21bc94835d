"""Areas: the bitmap, the list of kept allocations, and the log."""

from __future__ import annotations

import numpy as np
import pytest

from pinnerfs.kernel.cma.areas import Area, Kept
from pinnerfs.kernel.cma.log import KernelLog, RateLimit
from pinnerfs.kernel.cma.mm import MMS


def got(area: Area, pages: int) -> int:
    """Give out the first place for so many pages, and keep them."""
    first = area.first_place(pages, 0)
    assert first is not None
    area.set(first, pages)
    area.keep(first, pages)
    return first


def test_first_fit_reuses_holes() -> None:
    """The search begins at the first page each time."""
    area = Area("a", 61440, 64)
    assert [got(area, pages) for pages in (10, 20, 5)] == [0, 10, 30]
    area.clear(10, 20)
    assert [got(area, pages) for pages in (21, 8)] == [35, 10]
    assert area.used == 10 + 8 + 5 + 21
    assert area.maxchunk == 12


def test_a_place_is_aligned_by_its_pfn() -> None:
    """An area need not begin at an aligned PFN."""
    area = Area("a", 1000, 64)
    bits, complete = area.places(4, 4, 2)
    assert (bits.tolist(), complete) == ([8, 24], False)


@pytest.mark.parametrize("order_per_bit", [0, 2])
def test_the_first_place_is_the_first_of_all(order_per_bit: int) -> None:
    """Both searches find the same place, or none, in areas that are more and more given out."""
    rng = np.random.default_rng(5)
    area = Area("a", 1000, 1024, order_per_bit)
    found = []
    for _ in range(300):
        pages, align = int(rng.integers(1, 80)), int(rng.integers(0, 7))
        first = area.first_place(pages, align)
        assert [first] == (area.places(pages, align, 1)[0].tolist() or [None])
        found.append(first)
        if first is not None:
            area.set(first, pages)
        if area.used > 900:
            area.clear(int(rng.integers(0, 200)), int(rng.integers(1, 200)))
    assert found.count(None) > 20 and len(set(found)) > 20


def test_free_takes_the_newest_allocation_first() -> None:
    """Of a larger allocation the first pages are freed, and the rest stays on top."""
    area = Area("a", 0, 64)
    for pages in (8, 16):
        got(area, pages)
    assert area.give_back(20) == [Kept(8, 16), Kept(0, 4)]
    assert area.allocations == [Kept(4, 4)]
    assert area.words() == [0b11110000, 0]
    assert area.give_back(-1) == [Kept(4, 4)]
    assert area.give_back(5) == []


def test_a_bit_for_several_pages_is_freed_as_a_whole() -> None:
    """With an order per bit, less than an allocation frees nothing."""
    area = Area("a", 0, 64, order_per_bit=2)
    got(area, 5)
    assert (area.used, area.maxchunk) == (8, 56)
    assert area.give_back(4) == []
    assert area.give_back(5) == [Kept(0, 5)]
    assert area.used == 0


def test_the_names_of_directories() -> None:
    """5.10 and 5.15 cut the name to 15 characters."""
    assert MMS["android14-6.1"].directory("faceauth_tpu_pool") == "faceauth_tpu_pool"
    assert MMS["android12-5.10"].directory("faceauth_tpu_pool") == "cma-faceauth_tp"


@pytest.mark.parametrize("pause", [5_000_000, 5_000_001])
def test_the_rate_limit_tells_what_it_suppressed(pause: int) -> None:
    """Ten lines are printed in five seconds. The first one after that tells of the others."""
    log = KernelLog()
    limit = RateLimit(log, "cma_alloc")
    assert [limit.allows(7) for _ in range(30)] == [True] * 10 + [False] * 20
    later = limit.allows(7 + pause)
    assert later == (pause > 5_000_000)
    assert log.text() == ("[    5.000008] cma_alloc: 20 callbacks suppressed\n" if later else "")
