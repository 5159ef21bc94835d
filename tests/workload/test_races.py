"""Attribution races: a release and a pin of one page swap places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.workload.races import race
from tests.workload.stories import FREE, GET, PIN, PLAIN_PUT, PUT, UNPIN, Row, rows


def raced(events: list[Row], chance: float = 1.0, seed: int = 0) -> list[Row]:
    return rows(race(EventBatch.of(events), chance, seed))


@pytest.mark.parametrize("release", [PUT, UNPIN, PLAIN_PUT, FREE])
@pytest.mark.parametrize("apart", [0, 1])
def test_a_release_and_a_pin(release: Event, apart: int) -> None:
    """A release and a pin of one page within 1 µs swap places; the times stay."""
    assert raced([(10, release, 7, 0, 1), (10 + apart, GET, 7, 0, 2)]) == [
        (10, GET, 7, 0, 2),
        (10 + apart, release, 7, 0, 1),
    ]


def test_a_pin_and_a_release() -> None:
    """A pin and a release after it race as well."""
    assert [row[1] for row in raced([(10, PIN, 7, 0, 1), (11, PUT, 7, 0, 0)])] == [PUT, PIN]


@pytest.mark.parametrize(
    "events",
    [
        [(10, PUT, 7, 0, 1), (12, GET, 7, 0, 2)],
        [(10, PUT, 7, 0, 1), (10, GET, 8, 0, 2)],
        [(10, PUT, 7, 0, 1), (10, GET, 7, 1, 2)],
        [(10, GET, 7, 0, 1), (10, PIN, 7, 0, 2)],
        [(10, PUT, 7, 0, 1), (10, UNPIN, 7, 0, 2)],
        [(10, PUT, 7, 0, 1)],
        [],
    ],
    ids=["2 µs apart", "two pages", "two orders", "two pins", "two releases", "alone", "nothing"],
)
def test_no_race(events: list[Row]) -> None:
    """Events that are further apart, on different pages or of the same kind do not race."""
    assert raced(events) == events


def test_others_in_between() -> None:
    """Events of other pages between the two stay in place."""
    events = [(10, PUT, 7, 0, 1), (10, GET, 8, 0, 3), (11, PUT, 9, 0, 4), (11, GET, 7, 0, 2)]
    assert raced(events) == [(10, GET, 7, 0, 2), (10, GET, 8, 0, 3), (11, PUT, 9, 0, 4), (11, PUT, 7, 0, 1)]


def test_an_event_races_once() -> None:
    """An event swaps at most once."""
    events = [(10, GET, 7, 0, 1), (10, PUT, 7, 0, 2), (10, GET, 7, 0, 3), (10, PUT, 7, 0, 4)]
    assert [row[4] for row in raced(events)] == [2, 1, 4, 3]


def test_off() -> None:
    """With a chance of 0 nothing swaps."""
    events: list[Row] = [(10, PUT, 7, 0, 1), (10, GET, 7, 0, 2)] * 100
    assert raced(events, 0.0) == events


def test_the_chance() -> None:
    """The share of swapped pairs is the chance, for any seed."""
    events = [row for at in range(20_000) for row in ((10 * at, PUT, at % 97, 0, 1), (10 * at, GET, at % 97, 0, 2))]
    for seed in (0, 1, (1 << 64) - 1):
        swapped = sum(row[4] == 2 for row in raced(events, 0.1, seed)[::2])
        assert swapped == pytest.approx(2_000, rel=0.1)


def test_the_seed_decides() -> None:
    """The same seed swaps the same pairs; another seed swaps other pairs."""
    events = [row for at in range(200) for row in ((10 * at, PUT, 7, 0, 1), (10 * at, GET, 7, 0, 2))]
    assert raced(events, 0.5, 1) == raced(events, 0.5, 1) != raced(events, 0.5, 2)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Event), st.integers(0, 3), st.integers(0, 1))),
    st.floats(0, 1),
)
def test_no_event_is_lost(steps: list[tuple[int, Event, int, int]], chance: float) -> None:
    """The times stay, and each event still happens within 1 µs of its own time."""
    moments = np.cumsum([step[0] for step in steps], dtype=np.int64).tolist()
    events = [
        (moment, kind, pfn, order, number)
        for number, (moment, (_, kind, pfn, order)) in enumerate(zip(moments, steps, strict=True))
    ]
    found = raced(events, chance)
    assert [row[0] for row in found] == moments
    assert sorted(row[4] for row in found) == list(range(len(events)))
    for moment, kind, pfn, order, number in found:
        assert (kind, pfn, order) == events[number][1:4]
        assert abs(moment - events[number][0]) <= 1
