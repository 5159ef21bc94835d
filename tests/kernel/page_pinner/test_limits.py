"""The accounting at the limits of the kernel's types: s64 for times, int for a page's count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FrameRange, MemoryMap
from tests.kernel.page_pinner.model import Model, Row

PIN, UNPIN, FREE = Event.pin_user_pages, Event.unpin_user_page, Event.free
LAST = (1 << 63) - 1
LARGEST, SMALLEST = (1 << 31) - 1, -(1 << 31)  # of an int
REGIONS = [FrameRange("all", 0, 1024, Migratetype.Movable, 0)]

# Neighbouring pages, pages far apart, and a compound page: segments differ for each.
SHAPES: dict[str, tuple[int, Sequence[int]]] = {
    "neighbours": (0, range(64)),
    "single pages": (0, range(0, 512, 64)),
    "a compound page": (6, (64,)),
}
shapes = pytest.mark.parametrize(("order", "heads"), SHAPES.values(), ids=SHAPES)


def new_pinner(threshold: int) -> Pinner:
    return Pinner(MemoryMap(0, 1024, 10, REGIONS), INTRODUCED, threshold)


def pins_of(pinner: Pinner) -> npt.NDArray[np.int32]:
    """Return the pin count of every frame."""
    assert pinner.state.pins is not None
    return pinner.state.pins


def rows(order: int, heads: Sequence[int], *calls: tuple[int, Event]) -> list[Row]:
    """Return these calls, given as (time, event), for all pages of a shape."""
    return [(time, event, head, order, 1) for time, event in calls for head in heads]


def recorded(pinner: Pinner, field: str) -> list[int]:
    """Return a field of all records, newest first."""
    found = []
    for position in range(pinner.rings["longterm_pinner"].filled):
        row = pinner.rings["longterm_pinner"].newest(position)
        assert row is not None
        found.append(int(row[field]))
    return found


@shapes
@pytest.mark.parametrize("at_once", [True, False])
def test_times_up_to_the_last(order: int, heads: Sequence[int], at_once: bool) -> None:
    """Elapsed times between 0 and 2**63 - 1 µs are exact."""
    for threshold in (-(1 << 63), -1, 0, 3, LAST - 1, LAST):
        pinner, model = new_pinner(threshold), Model(0, 1024, REGIONS, "introduced", threshold)
        calls = [(0, PIN), (LAST - 7, UNPIN), (LAST - 7, PIN), (LAST - 3, UNPIN), (LAST - 3, PIN), (LAST, UNPIN)]
        calls += [(LAST, PIN), (LAST, UNPIN)]
        batches = [calls] if at_once else [[call] for call in calls]
        for batch in batches:
            pinner.apply(EventBatch.of(rows(order, heads, *batch)))
            model.apply(rows(order, heads, *batch))
        assert recorded(pinner, "time") == [row[0] for row in reversed(model.longterm)]


@shapes
@pytest.mark.parametrize("at_once", [True, False])
def test_the_longest_pin(order: int, heads: Sequence[int], at_once: bool) -> None:
    """A pin of 2**63 - 1 µs is longer than every other threshold."""
    for threshold, count in ((LAST - 1, len(heads) << order), (LAST, 0)):
        pinner = new_pinner(threshold)
        for batch in [[(0, PIN), (LAST, UNPIN)]] if at_once else [[(0, PIN)], [(LAST, UNPIN)]]:
            pinner.apply(EventBatch.of(rows(order, heads, *batch)))
        assert recorded(pinner, "time") == [LAST] * count


@shapes
@pytest.mark.parametrize("at_once", [True, False])
def test_the_count_overflows_as_an_int_does(order: int, heads: Sequence[int], at_once: bool) -> None:
    """2147483647 is followed by -2147483648, as with atomic_inc. A free sets the count to 0."""
    pinner = new_pinner(-1)
    pins_of(pinner)[:] = LARGEST - 1
    calls = [(1, PIN), (2, PIN), (3, UNPIN)]
    for batch in [calls] if at_once else [[call] for call in calls]:
        pinner.apply(EventBatch.of(rows(order, heads, *batch)))
    assert recorded(pinner, "count") == [SMALLEST] * (len(heads) << order)
    pinner.apply(EventBatch.of(rows(order, heads, (4, FREE))))
    assert not pins_of(pinner)[[head + frame for head in heads for frame in range(1 << order)]].any()


def test_a_release_leaves_a_negative_count() -> None:
    """Only a positive count falls, as with atomic_dec_if_positive."""
    for order, heads in SHAPES.values():
        for start, first in ((LARGEST, SMALLEST), (SMALLEST, SMALLEST + 1), (-5, -4), (-1, 0)):
            for at_once in (True, False):
                pinner = new_pinner(-1)
                pins_of(pinner)[:] = start
                calls = [(1, PIN), (2, UNPIN), (3, PIN), (4, UNPIN)]
                for batch in [calls] if at_once else [[call] for call in calls]:
                    pinner.apply(EventBatch.of(rows(order, heads, *batch)))
                pages = len(heads) << order
                assert recorded(pinner, "count") == [first + 1] * pages + [first] * pages
