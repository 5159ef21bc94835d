"""The pages that a `share` task finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.sharing import EmptyShares, OpenHolds, last_above

INSTANCES = 3
SHARERS = 5

# begin, end, pfn, instance
Hold = tuple[int, int, int, int]


def as_holds(rows: list[Hold]) -> Holds:
    """Return rows as Holds, sorted by instance."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    release = np.full(len(table), Event.put_page, dtype=np.uint8)
    return Holds(table[:, 0], table[:, 1], table[:, 2:3], table[:, 3], release, table[:, 1]).by_instance()


def current(owned: list[Hold], moment: int, instance: int, inclusive: bool) -> int | None:
    """Return the pages of an instance's latest hold in progress, by looking at all holds."""
    found = None
    for begin, end, pfn, owner in owned:
        begun = begin <= moment if inclusive else begin < moment
        over = end <= moment if inclusive else end < moment
        if owner == instance and begun and not over:
            found = pfn
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, INSTANCES - 1)), max_size=40),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, SHARERS - 1)), max_size=20),
    st.lists(st.integers(0, 150), max_size=4),
    st.booleans(),
)
def test_each_finds_the_latest_in_progress(
    steps: list[tuple[int, int, int]], asked: list[tuple[int, int]], ends: list[int], inclusive: bool
) -> None:
    """Window by window, each sharing hold finds the latest hold in progress, or is reported as empty."""
    begins = np.cumsum([step for step, _, _ in steps], dtype=np.int64).tolist()
    owned = [
        (begin, begin + length, 7 * number, instance)
        for number, (begin, (_, length, instance)) in enumerate(zip(begins, steps, strict=True))
    ]
    kept = OpenHolds(INSTANCES)
    window = 0
    for until in [*sorted(ends), 1000]:
        kept.add(as_holds([hold for hold in owned if window <= hold[0] < until]))
        sharing = sorted((moment, instance) for moment, instance in asked if window <= moment < until)
        found, empty = kept.share(as_holds([(at, at + 1, -1, instance) for at, instance in sharing]), inclusive)
        wanted = [(at, current(owned, at, instance % INSTANCES, inclusive), instance) for at, instance in sharing]
        assert sorted(
            zip(found.begin.tolist(), found.pfn[:, 0].tolist(), found.instance.tolist(), strict=True)
        ) == sorted(answer for answer in wanted if answer[1] is not None)
        assert sorted(empty.tolist()) == [moment for moment, pages, _ in wanted if pages is None]
        kept.forget(until)
        window = max(window, until)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=70), st.data())
def test_last_above(values: list[int], data: st.DataObject) -> None:
    """last_above() returns the last place up to each at which a value is above the bound, or -1."""
    asked = data.draw(st.lists(st.tuples(st.integers(-1, len(values) - 1), st.integers(-1, 9)), max_size=20))
    places, bounds = (np.array(some, dtype=np.int64) for some in (zip(*asked, strict=True) if asked else ([], [])))
    wanted = [max((at for at in range(place + 1) if values[at] > bound), default=-1) for place, bound in asked]
    assert last_above(np.array(values, dtype=np.int64), places, bounds).tolist() == wanted


@given(st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=9), st.lists(st.integers(0, 120), max_size=9))
def test_empty_shares_are_counted_by_time(windows: list[list[int]], moments: list[int]) -> None:
    """The count at a moment has the holds up to it, also after earlier ones were forgotten."""
    empty, added = EmptyShares(), list[int]()
    for number, window in enumerate(windows):
        times = [100 * number + time for time in window]
        empty.add(np.array(times, dtype=np.int64))
        added += times
        for moment in sorted(moments):
            empty.forget(100 * number + moment)
            assert empty.count(100 * number + moment) == sum(time <= 100 * number + moment for time in added)
