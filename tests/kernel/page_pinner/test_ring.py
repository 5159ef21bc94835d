"""The ring of long-term records."""

from __future__ import annotations

import errno
from collections import deque

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.page_pinner.ring import RECORD, Ring


def records(first: int, count: int) -> npt.NDArray[np.void]:
    """Return records whose elapsed times count up from `first`."""
    rows = np.zeros(count, dtype=RECORD)
    rows["time"] = np.arange(first, first + count)
    return rows


def contents(ring: Ring) -> list[int]:
    """Return the elapsed times of the records, newest first, up to an empty slot."""
    found: list[int] = []
    while (row := ring.newest(len(found))) is not None:
        found.append(int(row["time"]))
    return found


def test_an_empty_ring() -> None:
    """Without records every position is an empty slot."""
    ring = Ring()
    assert [ring.newest(position) for position in (0, 1, RING_SIZE - 1, RING_SIZE, 1 << 40)] == [None] * 5


def test_newest_first() -> None:
    """Position 0 is the latest record."""
    ring = Ring()
    ring.append(records(0, 3))
    ring.append(records(3, 2))
    assert contents(ring) == [4, 3, 2, 1, 0]


def test_new_records_shift_the_rest() -> None:
    """A position always counts from the newest record."""
    ring = Ring()
    ring.append(records(0, 3))
    first = ring.newest(1)
    assert first is not None and first["time"] == 1
    ring.append(records(3, 1))
    again = ring.newest(2)
    assert again is not None and again["time"] == 1


def test_the_last_position() -> None:
    """A full ring ends after 4096 records."""
    ring = Ring()
    ring.append(records(0, RING_SIZE))
    assert ring.newest(RING_SIZE - 1) is not None
    assert ring.newest(RING_SIZE) is None
    assert ring.overwritten == 0


def test_more_records_at_once_than_slots() -> None:
    """Of 10000 records at once the newest 4096 stay, and 5904 count as overwritten."""
    ring = Ring()
    ring.append(records(0, 10_000))
    assert contents(ring) == list(range(9_999, 5_903, -1))
    assert (ring.overwritten, ring.filled) == (5_904, RING_SIZE)


def test_clearing() -> None:
    """A cleared ring is empty, and its records do not count as overwritten."""
    ring = Ring()
    ring.append(records(0, 4_000))
    ring.clear()
    assert (contents(ring), ring.filled) == ([], 0)
    ring.append(records(7, 200))
    assert contents(ring) == list(range(206, 6, -1))
    assert ring.overwritten == 0


def test_a_refused_size_changes_nothing() -> None:
    """The size and the records stay, if the new ring would be too large for the kernel."""
    ring = Ring()
    ring.append(records(0, 3))
    with pytest.raises(OSError, match="at most 2147483647 bytes") as caught:
        ring.resize(38_347_923)
    assert caught.value.errno == errno.ENOMEM
    assert (contents(ring), ring.size) == ([2, 1, 0], RING_SIZE)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.integers(0, 10) | st.integers(RING_SIZE - 3, RING_SIZE + 3) | st.integers(0, 9_000)))
def test_any_appends_and_clears(steps: list[int | None]) -> None:
    """Any appends and clears leave what a deque of 4096 holds."""
    ring, model, overwritten, next_one = Ring(), deque[int](maxlen=RING_SIZE), 0, 0
    for step in steps:
        if step is None:
            ring.clear()
            model.clear()
            continue
        ring.append(records(next_one, step))
        overwritten += max(0, len(model) + step - RING_SIZE)
        model.extend(range(next_one, next_one + step))
        next_one += step
        assert ring.filled == len(model)
    assert contents(ring) == list(reversed(model))
    assert ring.overwritten == overwritten
