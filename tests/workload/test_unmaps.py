"""munmap of a task's pages: when it happens, and that it changes no other draw."""

from __future__ import annotations

import pytest

from pinnerfs import PinnerfsError, Simulation, parse
from pinnerfs.kernel.events import Event
from tests.workload.stories import GET, PUT, events, source, story, task, timeline, times

UNMAP = Event.unmap
HOLDS = 'repeat = 3, every = "1s", hold = "400ms"'
PAUSE = 'for = "1h"'


@pytest.mark.parametrize(
    ("unmap", "moments"),
    [
        ("never", []),
        ("100ms", [100_000, 1_100_000, 2_100_000]),
        ("2s", [2_000_000, 3_000_000, 4_000_000]),
        ("with-release", [400_000, 1_400_000, 2_400_000]),
    ],
)
def test_when_pages_are_unmapped(unmap: str, moments: list[int]) -> None:
    """Pages are unmapped a time after the pin, before or after its release, or with it."""
    found = events(timeline(story(task("user", HOLDS, PAUSE, unmap=unmap, pages=2))), 10_000_000)
    assert times(found, UNMAP) == [moment for moment in moments for _ in range(2)]
    pinned = [pfn for _, kind, pfn, *_ in found if kind == GET]
    assert [pfn for _, kind, pfn, *_ in found if kind == UNMAP] == (pinned if moments else [])


def test_the_release_comes_first() -> None:
    """At one moment, a page is released and then unmapped."""
    found = events(timeline(story(task("user", HOLDS, PAUSE, unmap="with-release"))), 10_000_000)
    assert [kind for _, kind, *_ in found] == [GET, PUT, UNMAP] * 3


def test_unmapping_changes_no_other_draw() -> None:
    """With random times of munmap, pins, pages and releases are as without."""
    wild = 'repeat = 200, rate = "100/s", hold = { dist = "exponential", mean = "20ms" }'
    plain = events(timeline(story(task("user", wild, pick="scattered"))), 10_000_000)
    drawn = '{ dist = "uniform", min = "1ms", max = "50ms" }'
    found = events(timeline(story(task("user", wild, pick="scattered", unmap=drawn))), 10_000_000)
    assert [row for row in found if row[1] != UNMAP] == plain
    assert len(set(times(found, UNMAP))) > 100
    parts = events(timeline(story(task("user", wild, pick="scattered", unmap=drawn))), *range(0, 10_000_000, 77_777))
    assert parts == found[: len(parts)]


def test_a_task_that_never_releases_can_unmap() -> None:
    """Pages that are pinned for ever can be unmapped."""
    found = events(
        timeline(story(task("user", 'repeat = 1, every = "1s"', PAUSE, release="never", unmap="5ms"))), 10_000_000
    )
    assert [(time, kind) for time, kind, *_ in found] == [(0, GET), (5_000, UNMAP)]


def live(*keys: str, **task_keys: object) -> list[str]:
    """Return the flags, count and mapcount of the records that live actions leave on android12-5.10."""
    text = source(task("user", 'repeat = 1, every = "1h", hold = "1h"', start="8000h", **task_keys))
    simulation = Simulation(parse(text), kernel="android12-5.10", threshold=-1)
    for key in keys:
        simulation.do(key)
        simulation.advance("1ms")
    return [f"count {record.count} mapcount {record.mapcount}" for record in simulation.records()]


def test_live_unmap() -> None:
    """A live unmap takes the mapping away, and the pages stay pinned."""
    assert live("pin task=user pages=2", "unmap task=user pages=1", "release task=user") == [
        "count 2 mapcount 1",
        "count 1 mapcount 0",
    ]


def test_live_unmaps_one_after_the_other() -> None:
    """Each live unmap takes the next pages, also after a release, and more than are mapped is refused."""
    assert live("pin task=user pages=3", *["unmap task=user pages=1"] * 2, "release task=user") == [
        "count 2 mapcount 1",
        "count 1 mapcount 0",
        "count 1 mapcount 0",
    ]
    released = ("pin task=user pages=2", "pin task=user", "unmap task=user pages=1", "release task=user pages=1")
    assert live(*released, "unmap task=user", "release task=user") == ["count 1 mapcount 0"] * 3
    with pytest.raises(
        PinnerfsError, match="line 1: pages pinned live for task 'user' and not unmapped: 1; wanted at least 2"
    ):
        live("pin task=user pages=2", "unmap task=user pages=1", "unmap task=user pages=2")
    with pytest.raises(
        PinnerfsError, match="line 1: pages pinned live for task 'user' and not unmapped: 0; wanted at least 1"
    ):
        live("pin task=user", "unmap task=user", "unmap task=user")


def test_live_pins_of_a_task_that_unmaps() -> None:
    """Live pins are unmapped as the task's own are."""
    assert live("pin task=user", "release task=user", unmap="500us") == ["count 1 mapcount 0"]
    twice = ("pin task=user", "release task=user", "pin task=user", "release task=user")
    assert live(*twice, unmap="with-release") == ["count 2 mapcount 1"] * 2
