"""Which pages a sharing task finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.workload.holds import Holds
from pinnerfs.workload.sharing import OpenHolds, last_above

INSTANCES = 3
SHARERS = 5

# begin, end, pfn, instance
Hold = tuple[int, int, int, int]


def as_holds(rows: list[Hold]) -> Holds:
    """Rows as Holds, one instance's behind the other's."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Holds(table[:, 0], table[:, 1], table[:, 2:3], table[:, 3]).by_instance()


def current(owned: list[Hold], moment: int, instance: int, inclusive: bool) -> int | None:
    """The pages of the latest hold of an instance that is in progress, in plain words."""
    found = None
    for begin, end, pfn, whose in owned:
        begun = begin <= moment if inclusive else begin < moment
        over = end <= moment if inclusive else end < moment
        if whose == instance and begun and not over:
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
    """Window by window, whatever is forgotten at a window's end, the answers are those of looking at all holds."""
    begins = np.cumsum([step for step, _, _ in steps], dtype=np.int64).tolist()
    owned = [
        (begin, begin + length, 7 * number, whose)
        for number, (begin, (_, length, whose)) in enumerate(zip(begins, steps, strict=True))
    ]
    kept = OpenHolds(INSTANCES)
    window = 0
    for until in [*sorted(ends), 1000]:
        kept.add(as_holds([hold for hold in owned if window <= hold[0] < until]))
        asking = sorted((moment, whose) for moment, whose in asked if window <= moment < until)
        found = kept.shared(as_holds([(moment, moment + 1, -1, whose) for moment, whose in asking]), inclusive)
        wanted = [(moment, current(owned, moment, whose % INSTANCES, inclusive), whose) for moment, whose in asking]
        assert sorted(
            zip(found.begin.tolist(), found.pfn[:, 0].tolist(), found.instance.tolist(), strict=True)
        ) == sorted(answer for answer in wanted if answer[1] is not None)
        kept.forget(until)
        window = max(window, until)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=70), st.data())
def test_last_above(values: list[int], data: st.DataObject) -> None:
    """The last place up to each at which a value lies above the bound, or -1."""
    asked = data.draw(st.lists(st.tuples(st.integers(-1, len(values) - 1), st.integers(-1, 9)), max_size=20))
    places, bounds = (np.array(some, dtype=np.int64) for some in (zip(*asked, strict=True) if asked else ([], [])))
    wanted = [max((at for at in range(place + 1) if values[at] > bound), default=-1) for place, bound in asked]
    assert last_above(np.array(values, dtype=np.int64), places, bounds).tolist() == wanted
