"""The events of all tasks in one stream."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_right
from functools import cache
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event
from pinnerfs.scenario.gallery import gallery, load
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation, schedule
from pinnerfs.workload.tasks import Stream, random_stream
from pinnerfs.workload.timeline import MOST_EVENTS
from tests.workload.stories import (
    BASE_PFN,
    FREE,
    GET,
    PIN,
    PLAIN_GET,
    PLAIN_PUT,
    PUT,
    UNPIN,
    Row,
    batches,
    events,
    story,
    task,
    timeline,
    times,
)

SECOND = 10**6
ONCE = 'repeat = 1, every = "8000h", hold = "5us"'


def short(found: list[Row]) -> list[tuple[int, str]]:
    """Return the times and the names of events."""
    return [(time, kind.name) for time, kind, *_ in found]


@pytest.mark.parametrize(
    ("keys", "pin", "release"),
    [
        ({}, GET, PUT),
        ({"foll": "FOLL_GET"}, GET, PUT),
        ({"foll": "FOLL_PIN"}, PIN, UNPIN),
        ({"foll": "FOLL_PIN", "release": "put_user_page"}, PIN, PUT),
        ({"release": "unpin_user_page"}, GET, UNPIN),
        ({"release": "put_page"}, GET, PLAIN_PUT),
        ({"release": "free"}, GET, FREE),
        ({"foll": "none"}, PLAIN_GET, PLAIN_PUT),
        ({"foll": "none", "release": "put_user_page"}, PLAIN_GET, PUT),
    ],
)
def test_a_hold_is_a_pin_and_a_release(keys: dict[str, object], pin: object, release: object) -> None:
    """`foll` decides the pin call, and also the release call unless the task names one."""
    found = events(timeline(story(task("a", ONCE, **keys))), SECOND)
    assert [(row[0], row[1]) for row in found] == [(0, pin), (5, release)]


def test_a_pin_that_is_never_released() -> None:
    """With `never` there are only pins, and no event is left after the last one."""
    line = timeline(story(task("a", 'for = "1s", every = "100ms"', release="never"), top='duration = "1s"'))
    assert {row[1] for row in events(line, 100 * SECOND)} == {GET}
    assert line.next_event() is None


def test_each_page_of_a_hold_has_events() -> None:
    """A hold pins its pages in order, and releases them in order."""
    found = events(timeline(story(task("a", ONCE, pages=3, order=2))), SECOND)
    pages = [row[2] for row in found]
    assert pages[:3] == pages[3:] == [pages[0], pages[0] + 4, pages[0] + 8]
    assert [(row[0], row[3]) for row in found] == [(0, 2)] * 3 + [(5, 2)] * 3


def test_ties_are_broken_by_the_order_in_the_file() -> None:
    """At equal times the order is by task in the file, then by instance, then as within the instance."""
    phase = 'repeat = 2, every = "5us", hold = "5us"'
    pause = 'for = "8000h"'
    found = events(timeline(story(task("z", phase, pause, instances=2), task("a", phase, pause, foll="FOLL_PIN"))), 10)
    kinds = [row[1] for row in found]
    assert [row[0] for row in found] == [0] * 3 + [5] * 6 + [10] * 3
    assert kinds == [GET, GET, PIN, PUT, GET, PUT, GET, UNPIN, PIN, PUT, PUT, UNPIN]
    pages = [row[2] for row in found]
    assert pages[3] == pages[0] and pages[5] == pages[1] and pages[7] == pages[2]


def test_a_hold_of_0() -> None:
    """A hold of 0 µs is pinned before it is released."""
    found = events(timeline(story(task("a", 'for = "1s", every = "1us", hold = "0us"'))), 50)
    assert [row[1] for row in found] == [GET, PUT] * 51
    assert [row[0] for row in found] == [moment for moment in range(51) for _ in range(2)]


def test_take_includes_the_last_moment() -> None:
    """take(until) returns the events at `until` but none 1 µs later."""
    line = timeline(story(task("a", 'for = "1s", every = "10us", hold = "3us"')))
    assert short(events(line, 10)) == [(0, "get_user_pages"), (3, "put_user_page"), (10, "get_user_pages")]
    assert line.next_event() == 13
    assert events(line, 12) == []


def test_take_is_bounded() -> None:
    """take() returns at most the given number of frames, or a single page."""
    line = timeline(story(task("a", ONCE, pages=4, order=5), task("b", ONCE, pages=4)))
    sizes = []
    for batch in batches(line, SECOND, 64):
        sizes.append([1 << int(order) for order in batch.page_by_page().order])
    assert all(sum(size) <= 64 for size in sizes) and sum(map(len, sizes)) == 16
    line = timeline(story(task("a", ONCE, pages=4, order=5)))
    assert [len(line.take(SECOND, 10)) for _ in range(9)] == [1] * 8 + [0]


MIXED = (
    task("grid", 'for = "7ms", every = "100us", hold = "350us"', 'for = "3ms"', pages=2, instances=3),
    task("poisson", 'for = "1s", rate = "5/ms", hold = { dist = "exponential", mean = "2ms" }', pick="scattered"),
    task(
        "huge",
        'repeat = 3, gap = "1ms", hold = "700us"',
        'repeat = 1, gap = "9ms", hold = "0us"',
        region="cma",
        order=4,
    ),
    task("other", 'for = "5ms", rate = "2/ms", hold = "1ms"', share="grid", instances=2, release="put_page"),
    task("early", 'for = "1s", every = "150us", hold = "1us"', share="late", foll="FOLL_PIN"),
    task("late", 'for = "1s", gap = "1us", hold = { dist = "uniform", min = "1us", max = "99us" }', region="cma"),
    task("leak", 'for = "1s", every = "1ms"', release="never", region="cma"),
    task("free", 'for = "1s", every = "1ms", hold = "1s"', release="free"),
    task("forgetful", 'for = "1s", rate = "2/ms", hold = "1ms"', release="{ put_user_page = 9, put_page = 1 }"),
    task("placed", 'for = "1s", every = "1ms", hold = "300us"', pages=4, instances=2, pfn=BASE_PFN),
)
SCENARIOS = {
    "mixed": story(*MIXED),
    "ending": story(*MIXED, top='duration = "40ms"'),
    "racing": story(*MIXED, top="race = 0.5"),
    "always racing": story(*MIXED, top="race = 1.0"),
    "storm": story(
        task("storm", 'for = "20ms"', 'for = "1ms", rate = "1/us", hold = "2us"', pages=3, instances=2),
        task("flurry", 'for = "21ms"', 'for = "500us", every = "1us", hold = "1us"', share="storm"),
        top="race = 0.3",
    ),
}


@cache
def at_once(name: str, until: int) -> list[Row]:
    """Return all events of one of the scenarios, taken at once."""
    return events(timeline(SCENARIOS[name]), until, most=1 << 40)


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=40, deadline=None)
@given(moments=st.lists(st.integers(0, 60_000), max_size=30), most=st.sampled_from([1, 7, 1000, 1 << 16]))
def test_steps_make_no_difference(name: str, moments: list[int], most: int) -> None:
    """Any steps and portions give the events of a single take(), each at its time."""
    line, found = timeline(SCENARIOS[name]), list[Row]()
    for moment in [*sorted(moments), 60_000]:
        step = events(line, moment, most=max(most, 50))
        assert not step or step[-1][0] <= moment
        due = line.next_event()
        assert due is None or due > moment
        found += step
    assert found == at_once(name, 60_000)


@pytest.mark.parametrize("name", SCENARIOS)
def test_times_never_fall(name: str) -> None:
    """Events come in the order of their times, across windows."""
    found = at_once(name, 3 * SECOND // 10)
    assert len(found) > 1_000
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(found))


@pytest.mark.parametrize("name", gallery())
def test_gallery_scenarios_in_steps(name: str) -> None:
    """Each scenario of the gallery has the same records in steps of 100 ms as in one advance."""
    one, other = Simulation(load(name)), Simulation(load(name))
    one.advance("20s")
    for _ in range(200):
        other.advance("100ms")
    assert one.cat() == other.cat()
    assert one.stats() == other.stats()


@pytest.mark.parametrize("most", [16, 17, 40])
def test_small_portions_leave_the_order_of_frees(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """munmap frees its pages in batches, the last one first, wherever a portion of events ends."""
    phase = 'for = "1s", every = "100ms", hold = "10ms"'
    scenario = story(task("t", phase, pages=16, pick="scattered", release="put_page", unmap="20ms"))
    whole, parts = Simulation(scenario, kernel="pixel-5.10"), Simulation(scenario, kernel="pixel-5.10")
    whole.advance("2s")
    monkeypatch.setattr(schedule, "STEP_FRAMES", most)
    parts.advance("2s")
    assert whole.stats()["marks_freed"] > 300
    assert parts.cat("alloc_contig_failed") == whole.cat("alloc_contig_failed")


def of_task(found: list[Row], low: int, high: int) -> list[Row]:
    """Return the events on a range of pages, counted from the first page."""
    return [row for row in found if low <= row[2] - BASE_PFN < high]


def test_adding_a_task_changes_no_other() -> None:
    """A task's events do not depend on the tasks before and after it."""
    watched = task(
        "watched",
        'for = "1s", rate = "1/ms", hold = { dist = "normal", mean = "5ms", sd = "1ms" }',
        pick="scattered",
        instances=2,
    )
    more = [
        task(name, 'for = "1s", rate = "5/ms", hold = { dist = "exponential", mean = "2ms" }', region="cma")
        for name in ("before", "behind")
    ]
    alone = events(timeline(story(watched)), SECOND)
    among = events(timeline(story(more[0], watched, more[1])), SECOND)
    assert len(among) > 5 * len(alone)
    # A task's handle follows from its place.
    assert [row[:4] for row in of_task(among, 0, 8192)] == [row[:4] for row in alone]


def test_the_seed_decides() -> None:
    """The same seed gives the same events; another seed gives other events."""
    scenario = story(task("a", 'for = "1s", rate = "1/ms", hold = "1ms"'))
    one, again, other = (events(timeline(scenario, seed), SECOND) for seed in (1, 1, 2))
    assert one == again != other


def test_instances_differ() -> None:
    """Instances of a task draw independently."""
    found = events(timeline(story(task("a", 'for = "1s", rate = "1/s", hold = "1us"', instances=50))), 10 * SECOND)
    assert len(set(times(found, GET))) > 400


def test_duration() -> None:
    """At the scenario's end arrivals stop and holds in progress complete. Then no event is left."""
    scenario = story(
        task("a", 'for = "300ms", every = "10ms", hold = "400ms"', pages=2),
        task("b", 'for = "1s", every = "1ms", hold = "2s"', share="a"),
        top='duration = "1s"',
    )
    line = timeline(scenario)
    found = events(line, 10 * SECOND)
    assert max(times(found, GET)) == SECOND - 1_000
    assert max(times(found, PUT)) == 3 * SECOND - 1_000
    assert len(times(found, GET)) == len(times(found, PUT)) == 2 * 1_100
    assert line.next_event() is None
    assert events(line, 1 << 60) == []


def test_a_long_pause_is_skipped() -> None:
    """Years without events cost no work."""
    line = timeline(story(task("a", 'repeat = 1, every = "1us", hold = "1us"', 'for = "8000h"')))
    year = 8000 * 3600 * SECOND + 1
    assert times(events(line, 20 * year), GET) == [year * number for number in range(20)] + [20 * year]


def test_next_event() -> None:
    """next_event() is the time of the first event, also before the first take(), and later of the next one."""
    line = timeline(story(task("a", ONCE, start="3h"), task("b", ONCE, start="2h")))
    assert line.next_event() == 7200 * SECOND
    assert times(events(line, 7200 * SECOND + 4), GET) == [7200 * SECOND]
    assert line.next_event() == 7200 * SECOND + 5


def pins_by(kind: object, found: list[Row]) -> list[tuple[int, int]]:
    """Return time and page of each event of a kind."""
    return [(row[0], row[2]) for row in found if row[1] == kind]


def test_sharing_pins_the_same_pages() -> None:
    """A `share` task pins the pages of the hold in progress, with their order."""
    owner = task("owner", 'for = "1s", every = "100us", hold = "90us"', pages=3, order=2)
    sharer = task("sharer", 'for = "1s", every = "130us", hold = "500us"', share="owner", foll="FOLL_PIN", start="20us")
    found = events(timeline(story(owner, sharer)), 10_000)
    assert {row[3] for row in found} == {2}
    owned = pins_by(GET, found)
    shared = pins_by(PIN, found)
    assert len(shared) > 100
    for time, page in shared:
        assert time % 100 < 90
        assert (time // 100 * 100, page) in owned


def test_sharing_takes_the_latest_hold() -> None:
    """If several holds are in progress, the latest one is shared."""
    owner = task("owner", 'repeat = 3, every = "10us", hold = "100us"', 'for = "1h"')
    sharer = task("sharer", ONCE, share="owner", foll="FOLL_PIN", start="25us")
    found = events(timeline(story(owner, sharer)), 50)
    assert pins_by(PIN, found)[0][1] == pins_by(GET, found)[2][1]


def test_sharing_an_earlier_hold_that_lasts() -> None:
    """If the latest hold has ended, an earlier one in progress is shared."""
    hold = '{ dist = "choice", values = ["%s"] }'
    owner = task(
        "owner",
        f'repeat = 1, every = "10us", hold = {hold % "100us"}',
        f'repeat = 1, every = "10us", hold = {hold % "5us"}',
        'for = "1h"',
    )
    sharer = task("sharer", 'repeat = 2, every = "30us", hold = "1us"', share="owner", foll="FOLL_PIN", start="12us")
    found = events(timeline(story(owner, sharer)), 60)
    long, brief = (page for _, page in pins_by(GET, found))
    assert pins_by(PIN, found) == [(12, brief), (42, long)]


def test_nothing_to_share() -> None:
    """A hold does not take place if the owner has no hold in progress."""
    owner = task("owner", 'repeat = 1, every = "1h", hold = "10us"', start="100us")
    sharer = task("sharer", 'for = "1s", every = "10us", hold = "1s"', share="owner", foll="FOLL_PIN")
    for tasks, first in (([owner, sharer], 100), ([sharer, owner], 110)):
        found = events(timeline(story(*tasks)), 1_000)
        assert [time for time, _ in pins_by(PIN, found)] == [first]


def test_sharing_at_the_same_moment() -> None:
    """At equal times the order of the tasks in the file decides whether the owner's event comes first."""
    owner = task("owner", 'repeat = 2, every = "10us", hold = "10us"', 'for = "1h"')
    sharer = task("sharer", 'repeat = 3, every = "10us", hold = "1us"', 'for = "1h"', share="owner", foll="FOLL_PIN")
    found = events(timeline(story(owner, sharer)), 100)
    first, second = (page for _, page in pins_by(GET, found))
    assert pins_by(PIN, found) == [(0, first), (10, second)]
    found = events(timeline(story(sharer, owner)), 100)
    assert pins_by(PIN, found) == [(10, first), (20, second)]


def test_instances_share_by_number() -> None:
    """Instance n shares with the owner's instance n modulo the owner's instances."""
    owner = task("owner", 'repeat = 1, every = "1h", hold = "1h"', instances=2)
    sharer = task("sharer", 'repeat = 1, every = "1h", hold = "1h"', share="owner", foll="FOLL_PIN", instances=5)
    found = events(timeline(story(owner, sharer)), 100)
    a, b = (page for _, page in pins_by(GET, found))
    assert [page for _, page in pins_by(PIN, found)] == [a, b, a, b, a]


def test_sharing_pages_that_are_never_released() -> None:
    """The latest hold of a task that never releases is shared at any later time."""
    owner = task("owner", 'repeat = 3, every = "10us"', 'for = "8000h"', release="never")
    sharer = task("sharer", ONCE, share="owner", foll="FOLL_PIN", start="100h")
    found = events(timeline(story(owner, sharer)), 101 * 3600 * SECOND)
    assert pins_by(PIN, found)[0][1] == pins_by(GET, found)[-1][1]


def peak(scenario: Scenario, until: int, step: int = 1 << 16) -> int:
    """Return the peak memory (bytes) of Python and numpy while the events are taken."""
    tracemalloc.start()
    try:
        line = timeline(scenario)
        for _ in batches(line, until, step):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("tasks", "until"),
    [
        (
            [
                task(
                    "a", 'for = "1h", rate = "10/s", hold = "1ms"', 'for = "1s", every = "10us", hold = "1ms"', pages=16
                )
            ],
            3601,
        ),
        (
            [
                task("own", 'for = "1h", every = "1ms"', release="never"),
                task("sharer", 'for = "1h", every = "1s", hold = "1us"', share="own"),
            ],
            1_000,
        ),
        (
            [
                task("own", 'for = "1h", every = "1s", hold = "1s"', pages=8192, pick="scattered"),
                task("sharer", 'for = "1h", every = "1ms", hold = "1us"', share="own"),
            ],
            1,
        ),
        ([task("a", 'for = "1h", every = "1s", hold = "1ms"', instances=4096)], 1),
        ([task("a", 'for = "1s", every = "10ms", hold = "1us"', pages=8192)], 1),
    ],
    ids=[
        "a storm after an hour of quiet",
        "sharing what is never released",
        "sharing scattered pages",
        "4096 instances",
        "many pages",
    ],
)
def test_memory_is_bounded(tasks: list[str], until: int) -> None:
    """An endless scenario keeps one window of events and one block of holds for each instance."""
    assert peak(story(*tasks), until * SECOND) < 64 << 20


def test_memory_is_bounded_while_large_buffers_race() -> None:
    """With races a window is bounded by its pages, not by its rows."""
    buffers = task("a", 'for = "1h", every = "1ms", hold = "1ms"', pages=4096)
    assert peak(story(buffers, top="race = 1.0"), SECOND) < 64 << 20


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_races_are_off_unless_asked_for(chance: float) -> None:
    """Without `race` the release comes before the next pin of the page; with race = 1.0 all pairs swap."""
    phase = 'for = "1s", every = "10us", hold = "10us"'
    scenario = story(task("a", phase, region="cma", pages=4096), top=f"race = {chance}")
    line = timeline(scenario)
    found = events(line, 100)
    at_20 = [row[1] for row in found if row[0] == 20 and row[2] == BASE_PFN + 8192]
    assert at_20 == ([GET, PUT] if chance else [PUT, GET])


@pytest.mark.parametrize("moment", [50_000, *range(99_998, 100_003), 300_000])
@pytest.mark.parametrize("apart", [0, 1, 2])
def test_a_race_across_the_end_of_a_window(moment: int, apart: int) -> None:
    """A release and a pin within 1 µs race, also across the end of a window (the first one ends at 100 ms)."""
    whole: dict[str, object] = {"region": "cma", "pages": 4096}
    scenario = story(
        task("a", f'repeat = 1, every = "8000h", hold = "{moment}us"', **whole),
        task("b", ONCE, start=f"{moment + apart}us", **whole),
        top="race = 1.0",
    )
    found = [row[:2] for row in events(timeline(scenario), SECOND) if row[2] == BASE_PFN + 8192]
    assert found[1:3] == [(moment, GET if apart < 2 else PUT), (moment + apart, PUT if apart < 2 else GET)]


def test_races_across_the_ends_of_short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races do not depend on windows, not even on those of 1 µs that end because their generation is much work."""
    phase = 'for = "1h", rate = "3000/s", hold = "1us"'
    # The first task uses up the room of a window, so that the second one ends it after 1 µs.
    both = [task(name, phase, pfn=BASE_PFN, instances=8) for name in ("a", "b")]
    scenario = story(*both, top="race = 1.0")
    found = []
    for most in MOST_EVENTS, 100:
        monkeypatch.setattr("pinnerfs.workload.timeline.MOST_EVENTS", most)
        found.append(events(timeline(scenario), SECOND // 10))
    assert found[1] == found[0]


def test_empty_shares_are_counted() -> None:
    """Holds that find no pages are counted for their task, up to the given moment."""
    owner = task("owner", 'repeat = 1, every = "1h", hold = "25us"', start="100us")
    sharer = task("sharer", 'for = "1s", every = "10us", hold = "1us"', share="owner")
    late = task("late", 'repeat = 2, every = "10us", hold = "1us"', 'for = "1h"', share="owner", start="105us")
    line = timeline(story(owner, sharer, late))
    found: list[int] = []
    for moment in (0, 99, 100, 119, 130, 10_000, 10_009):
        events(line, moment)
        found.append(line.shares_empty(moment)["sharer"])
    # It finds the pages at 100, 110 and 120 us.
    assert found == [1, 10, 10, 10, 11, 998, 998]
    assert line.shares_empty(10_009)["late"] == 0
    assert "owner" not in line.shares_empty(10_009)


WEIGHTED = "{ put_user_page = 2, put_page = 1, free = 1 }"


def without_release(found: list[Row]) -> list[tuple[int, bool, int, int, int]]:
    """Return the rows with the kind of a release left out."""
    return [(time, kind in (GET, PIN, PLAIN_GET), *rest) for time, kind, *rest in found]  # type: ignore[misc]


def test_weights_change_no_other_draw() -> None:
    """Weights change neither the task's times and pages nor those of a task that shares its pages."""
    keys: dict[str, object] = {"pages": 3, "pick": "scattered", "instances": 2}
    phase = 'for = "1s", rate = "1/ms", hold = { dist = "exponential", mean = "2ms" }'
    guest = task("guest", 'for = "1s", rate = "1/ms", hold = "1ms"', share="a", foll="FOLL_PIN")
    single = events(timeline(story(task("a", phase, **keys), guest)), SECOND)
    weighted = events(timeline(story(task("a", phase, release=WEIGHTED, **keys), guest)), SECOND)
    assert without_release(weighted) == without_release(single)
    assert pins_by(UNPIN, weighted) == pins_by(UNPIN, single)
    kinds = [row[1] for row in weighted]
    assert min(kinds.count(PUT), kinds.count(PLAIN_PUT), kinds.count(FREE)) > 1000


def test_all_pages_of_a_hold_are_released_by_one_call() -> None:
    """The call is drawn for a hold, not for a page."""
    phase = 'for = "1s", every = "10us", hold = "5us"'
    found = events(timeline(story(task("a", phase, pages=4, pick="scattered", release=WEIGHTED))), 10_000)
    released = [row for row in found if row[0] % 10 == 5]
    by_hold = [{row[1] for row in released[at : at + 4]} for at in range(0, len(released), 4)]
    assert len(by_hold) == 1000
    assert {len(calls) for calls in by_hold} == {1} and len(set(map(frozenset, by_hold))) == 3


def test_a_forgotten_unpin_leaves_its_mark() -> None:
    """A hold released by put_page leaves its mark, and the next put_user_page of the page makes a record."""
    owner = 'for = "10h", every = "1s", hold = "1ms"'
    scenario = story(
        task("driver", owner, pfn=BASE_PFN, release="{ put_user_page = 9, put_page = 1 }"),
        # A plain reference that is dropped by put_user_page: it ends the mark that the driver left.
        task(
            "other",
            'for = "10h", every = "1s", hold = "1us"',
            pfn=BASE_PFN,
            foll="none",
            release="put_user_page",
            start="500ms",
        ),
    )
    simulation = Simulation(scenario)
    simulation.advance("1000s")
    (elapsed,) = {record.ts for record in simulation.records()}
    assert elapsed == 500_001
    assert 70 <= simulation.stats()["longterm_records"] <= 130


@settings(max_examples=60, deadline=None)
@given(
    weights=st.dictionaries(
        st.sampled_from(["put_user_page", "unpin_user_page", "put_page", "free"]), st.integers(1, 9), min_size=1
    ),
    every=st.integers(3, 2000),
    hold=st.integers(0, 5000),
    pages=st.integers(1, 3),
    instances=st.integers(1, 3),
    pfn=st.none() | st.integers(BASE_PFN, BASE_PFN + 100),
    window=st.sampled_from([1, 77, 3000, 100_000]),
    block=st.sampled_from([1, 2, 50, 8192]),
    moments=st.lists(st.integers(0, 6_000), max_size=4),
)
def test_releases_against_a_sequential_model(
    weights: dict[str, int],
    every: int,
    hold: int,
    pages: int,
    instances: int,
    pfn: int | None,
    window: int,
    block: int,
    moments: list[int],
) -> None:
    """Windows and blocks of any size: hold n of an instance is released by the n-th call of its stream."""
    table = ", ".join(f"{call} = {weight}" for call, weight in weights.items())
    keys = {} if pfn is None else {"pfn": pfn}
    phase = f'for = "8000h", every = "{every}us", hold = "{hold}us"'
    one = task("a", phase, pages=pages, instances=instances, release=f"{{ {table} }}", **keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnerfs.workload.timeline.FIRST_WINDOW", window)
        patch.setattr("pinnerfs.workload.timeline.LARGEST_WINDOW", 8 * window)
        patch.setattr("pinnerfs.workload.arrivals.FIRST_BLOCK", block)
        patch.setattr("pinnerfs.workload.arrivals.BLOCK_ROWS", block)
        found = events(timeline(story(one), seed=3), *sorted(moments), 6_000)
    calls = sorted(Event[call] for call in weights)
    bounds = [sum(weights[call.name] for call in calls[: number + 1]) for number in range(len(calls))]
    first = int.from_bytes(sha256(b"a").digest()[:8]) % (8192 // pages)
    wanted: list[tuple[int, int, int, int, Event, list[int]]] = []
    for instance in range(instances):
        rng = random_stream(3, "a", instance, Stream.releases)
        for number in range(6_000 // every + 1):
            run = (first + instance + number * instances) % (8192 // pages)
            start = BASE_PFN + run * pages if pfn is None else pfn + instance * pages
            held = list(range(start, start + pages))
            call = calls[0] if len(calls) == 1 else calls[bisect_right(bounds, rng.integers(0, bounds[-1]))]
            wanted.append((number * every, instance, number, 0, GET, held))
            wanted.append((number * every + hold, instance, number, 1, call, held))
    wanted.sort(key=lambda one: one[:4])
    assert [row[:3] for row in found] == [
        (time, kind, page) for time, _, _, _, kind, held in wanted if time <= 6_000 for page in held
    ]
