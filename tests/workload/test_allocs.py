"""Allocations of a scenario and live ones: when they begin, how long they last, and how they are counted."""

from __future__ import annotations

import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.simulation import Simulation
from tests.workload.stories import alloc, source, task

MS, SECOND = 1000, 10**6
NEVER_COMES = task("quiet", 'repeat = 1, every = "8000h", hold = "1s"', region="cma", start="8000h", pages=4096)


def play(*tables: str, **options: object) -> Simulation:
    """Return the simulation of a scenario with an area of 4096 pages, at time 0."""
    scenario = pinnerfs.parse(source(NEVER_COMES, *tables), limits=pinnerfs.Limits(rate=1 << 40))
    return Simulation(scenario, **options)  # type: ignore[arg-type]


def counted(simulation: Simulation) -> dict[str, int]:
    """Return what the stats say about allocations."""
    stats = simulation.stats()
    return {name: stats[name] for name in ("allocs_ok", "allocs_failed", "cma_pages_now")}


def test_an_allocation_lasts_for_its_hold() -> None:
    """The pages are taken at the arrival, and given back after the hold."""
    simulation = play(alloc("a", 'for = "1h", every = "1s", hold = "300ms"', pages=1000))
    seen = []
    for moment in (0, 299_999, 300_000, 999_999, SECOND, 1_299_999, 1_300_000):
        simulation.advance_to(moment)
        seen.append(simulation.areas["area"].used)
    assert seen == [1000, 1000, 0, 0, 1000, 1000, 0]
    assert counted(simulation) == {"allocs_ok": 2, "allocs_failed": 0, "cma_pages_now": 0}
    assert simulation.explain_allocs() == {"a": {"allocs": 2, "got": 2, "failed": 0, "waiting": 0, "pages_now": 0}}


def test_pages_without_a_hold_are_kept() -> None:
    """Without `hold` the area fills, and then there is no room."""
    simulation = play(alloc("a", 'for = "1h", every = "1s"', pages=1000))
    simulation.advance("10s")
    assert counted(simulation) == {"allocs_ok": 4, "allocs_failed": 7, "cma_pages_now": 4000}
    assert simulation.explain_allocs()["a"] == {"allocs": 11, "got": 4, "failed": 7, "waiting": 0, "pages_now": 4000}


def test_a_release_makes_room_for_a_request_of_the_same_moment() -> None:
    """At one moment, releases come before requests, whatever the order of the tables."""
    simulation = play(
        alloc("b", 'for = "1h", every = "2s", hold = "1s"', pages=4096, start="1s"),
        alloc("a", 'for = "1h", every = "2s", hold = "1s"', pages=4096),
    )
    simulation.advance("10s")
    assert counted(simulation) == {"allocs_ok": 11, "allocs_failed": 0, "cma_pages_now": 4096}


def test_requests_of_one_moment_come_in_the_order_of_the_tables() -> None:
    """The first one gets the pages."""
    phase = 'for = "1h", every = "2s", hold = "1s"'
    simulation = play(alloc("b", phase, pages=4000), alloc("a", phase, pages=4000))
    simulation.advance("3s")
    assert {name: counters["got"] for name, counters in simulation.explain_allocs().items()} == {"b": 2, "a": 0}


def test_a_call_of_python_comes_after_all_that_is_due() -> None:
    """At time 0, and also at a moment of which only a part has happened."""
    phase = 'for = "1h", every = "1s"'
    simulation = play(alloc("a", phase, pages=1000), alloc("b", phase, pages=500))
    area = simulation.areas["area"]
    places = [simulation.start_alloc("area", 5).first_pfn]
    steps = simulation.steps_to(SECOND)
    while simulation.now < SECOND:
        next(steps)
    assert area.used == 1505 + 1000
    places.append(simulation.start_alloc("area", 5).first_pfn)
    assert places == [area.base_pfn + 1500, area.base_pfn + 3005]


def test_align() -> None:
    """The first PFN is a multiple of 2**align; the area begins at 12288."""
    simulation = play(alloc("a", 'repeat = 2, every = "1s"', pages=3, align=8))
    simulation.advance("1s")
    assert [word for word in simulation.areas["area"].words() if word] == [7, 7]


def test_duration_ends_requests_and_no_hold() -> None:
    """No allocation begins at the scenario's end or later, and those in progress are released normally."""
    text = source(alloc("a", 'for = "1h", every = "1s", hold = "90s"', pages=10), top='task = []\nduration = "3s"')
    simulation = Simulation(pinnerfs.parse(text))
    simulation.advance("60s")
    assert counted(simulation) == {"allocs_ok": 3, "allocs_failed": 0, "cma_pages_now": 30}
    simulation.advance("60s")
    assert simulation.stats()["cma_pages_now"] == 0 and simulation.next_event() is None


@pytest.mark.parametrize("step", [7, 1000])
def test_the_way_to_advance_changes_nothing(step: int) -> None:
    """Many small steps give what one large step gives."""
    tables = (
        alloc("a", 'for = "90us", gap = { dist = "exponential", mean = "30us" }, hold = "50us"', pages=3000),
        alloc("b", 'for = "1ms", rate = "20/ms", hold = { dist = "uniform", min = "0us", max = "90us" }', pages=900),
        task("a", 'for = "1ms", every = "10us", hold = "20us"', pages=3),
    )
    whole, parts = play(*tables), play(*tables)
    whole.advance("5ms")
    while parts.now < 5 * MS:
        parts.advance_to(min(5 * MS, parts.now + step))
    assert parts.explain_allocs() == whole.explain_allocs() and parts.stats() == whole.stats()
    assert parts.areas["area"].words() == whole.areas["area"].words()
    assert whole.stats()["allocs_ok"] and whole.stats()["allocs_failed"]


def test_allocs_do_not_change_the_events_of_tasks() -> None:
    """A scenario keeps its records if an alloc is added that uses another area's pages."""
    busy = task("a", 'for = "1s", rate = "100/s", hold = { dist = "uniform", min = "1ms", max = "1s" }', pages=3)
    plain, more = play(busy), play(busy, alloc("a", 'for = "1s", rate = "50/s", hold = "1ms"', pages=9))
    for simulation in (plain, more):
        simulation.advance("20s")
    assert plain.cat() == more.cat() != ""


def test_live_allocations() -> None:
    """An action allocates from an area, or as an alloc of the scenario; its hold ends by itself."""
    simulation = play(alloc("a", 'repeat = 1, every = "1s"', start="8000h", pages=64, align=8))
    simulation.do("alloc area=area pages=10 hold=1s\nalloc name=a hold=2s\nalloc name=a pages=100")
    assert simulation.stats()["cma_pages_now"] == 174
    assert simulation.explain_allocs()["a"] == {"allocs": 2, "got": 2, "failed": 0, "waiting": 0, "pages_now": 164}
    simulation.advance("1s")
    assert simulation.stats()["cma_pages_now"] == 164
    simulation.advance("1s")
    assert simulation.stats()["cma_pages_now"] == 100
    simulation.do("release name=a")
    assert counted(simulation) == {"allocs_ok": 3, "allocs_failed": 0, "cma_pages_now": 0}


def test_a_live_allocation_that_is_released_early_does_not_end_again() -> None:
    """The end of its hold finds nothing to release; the pages may be another's by then."""
    simulation = play()
    simulation.do("alloc area=area pages=4096 hold=1s")
    simulation.advance("500ms")
    simulation.do("release area=area\nalloc area=area pages=4096")
    simulation.advance("1s")
    assert counted(simulation) == {"allocs_ok": 2, "allocs_failed": 0, "cma_pages_now": 4096}


def test_an_action_frees_no_pages_of_the_scenario() -> None:
    """`release` is for live allocations: those of the scenario end in their own time."""
    simulation = play(alloc("a", 'for = "1h", every = "1h"', pages=64))
    simulation.advance("1s")
    with pytest.raises(PinnerfsError, match="line 1: no live allocation of name=a has pages: wanted an `alloc name=a`"):
        simulation.do("release name=a")
    with pytest.raises(PinnerfsError, match="line 1: no live allocation of area=area has pages"):
        simulation.do("release area=area")
    assert simulation.stats()["cma_pages_now"] == 64


def test_actions_of_a_text_come_in_their_order() -> None:
    """A line finds what the lines before it did."""
    simulation = play()
    simulation.do("alloc area=area pages=4096\nalloc area=area pages=1\nrelease area=area\nalloc area=area pages=4000")
    assert counted(simulation) == {"allocs_ok": 2, "allocs_failed": 1, "cma_pages_now": 4000}


def test_a_refused_text_allocates_nothing() -> None:
    """All actions of a text are done, or none."""
    simulation = play()
    with pytest.raises(PinnerfsError, match="line 2: no action 'x'"):
        simulation.do("alloc area=area pages=1\nx")
    assert counted(simulation) == {"allocs_ok": 0, "allocs_failed": 0, "cma_pages_now": 0}


def test_more_pages_than_the_area_has() -> None:
    """The kernel fails such a call at once, and counts it."""
    simulation = play()
    simulation.do("alloc area=area pages=4097\nalloc area=area pages=1073741824")
    assert counted(simulation) == {"allocs_ok": 0, "allocs_failed": 2, "cma_pages_now": 0}


def test_the_number_of_live_allocations_is_bounded() -> None:
    """With 4096 of them, an action asks for a release before the next."""
    simulation = play()
    simulation.do("alloc area=area pages=1\n" * 2000)
    with pytest.raises(PinnerfsError, match="4096 allocations are live already: wanted a `release` before"):
        simulation.do("alloc area=area pages=1\n" * 2097)
    simulation.do("alloc area=area pages=1\n" * 2096)
    simulation.do("release area=area")
    assert counted(simulation) == {"allocs_ok": 4096, "allocs_failed": 0, "cma_pages_now": 0}


def test_the_work_of_a_text_is_bounded() -> None:
    """A round on the area of 4096 pages is as much work as 7096 pins, and a text can have 16777216."""
    simulation = play()
    with pytest.raises(
        PinnerfsError, match="line 2365: 2365 allocations up to here take as much work as 16782040 pins"
    ):
        simulation.do("alloc area=area pages=4097\n" * 2365)
    assert simulation.stats()["allocs_failed"] == 0


# One page of the area is pinned from one second on, for this long.
def holder(hold: str) -> str:
    return task("gpu", f'repeat = 1, every = "8000h", hold = "{hold}"', region="cma", start="1s", release="put_page")


ONCE = 'repeat = 1, every = "8000h", hold = "1s"'


@pytest.mark.parametrize(
    ("hold", "retries", "ends"),
    [
        ("8h", 0, [("failed", SECOND)]),
        ("8h", 3, [("failed", SECOND + 3 * 104 * MS)]),
        ("150ms", 3, [("got", SECOND + 2 * 104 * MS)]),
        ("150ms", 1, [("failed", SECOND + 104 * MS)]),
        ("208ms", 2, [("got", SECOND + 2 * 104 * MS)]),
    ],
)
def test_a_pin_that_ends_between_two_rounds_blocks_nothing(
    hold: str, retries: int, ends: list[tuple[str, int]]
) -> None:
    """A release comes before a round of the same moment. The hold of the allocation begins with its success."""
    simulation = play(holder(hold), alloc("a", ONCE, pages=4096, start="1s", retries=retries))
    ((outcome, end),) = ends
    simulation.advance_to(end - 1)
    counters = simulation.explain_allocs()["a"]
    assert counters["waiting"] == (end > SECOND) and counters["got"] == counters["failed"] == 0
    simulation.advance_to(end)
    counters = simulation.explain_allocs()["a"]
    assert (counters[outcome], counters["waiting"]) == (1, 0)
    assert counters["pages_now"] == (4096 if outcome == "got" else 0)
    simulation.advance_to(end + SECOND - 1)
    assert simulation.explain_allocs()["a"]["pages_now"] == counters["pages_now"]
    simulation.advance_to(end + SECOND)
    assert simulation.explain_allocs()["a"]["pages_now"] == 0


def test_a_driver_that_tries_again_after_each_failure() -> None:
    """`gap` counts from the end of the last round: with two retries of 104 ms a driver fails every 1.208 s."""
    simulation = play(
        holder("10s"), alloc("a", 'for = "1h", gap = "1s", hold = "1h"', pages=4096, start="1s", retries=2)
    )
    simulation.advance("8s")
    assert simulation.explain_allocs()["a"] == {"allocs": 6, "got": 0, "failed": 6, "waiting": 0, "pages_now": 0}
    simulation.advance("52s")
    assert simulation.explain_allocs()["a"] == {"allocs": 10, "got": 1, "failed": 9, "waiting": 0, "pages_now": 4096}


def test_the_default_of_retries() -> None:
    """An alloc without `retries` takes those of the simulation, and a live allocation does so, too."""
    tables = holder("8h"), alloc("a", ONCE, pages=4096, start="1s"), alloc("b", ONCE, pages=4096, start="1s", retries=1)
    simulation = play(*tables, cma_retries=2)
    simulation.advance("1s")
    simulation.do("alloc area=area pages=4096\nalloc name=b")
    simulation.advance("104ms")
    assert (simulation.explain_allocs()["b"]["failed"], simulation.stats()["allocs_failed"]) == (2, 2)
    simulation.advance("104ms")
    assert simulation.stats()["allocs_failed"] == 4


def test_a_waiting_allocation_cannot_be_released() -> None:
    """Its caller is in cma_alloc and has no pages yet."""
    simulation = play(holder("8h"))
    simulation.advance("1s")
    simulation.do("alloc area=area pages=4096")
    with pytest.raises(PinnerfsError, match="no live allocation of area=area has pages"):
        simulation.do("release area=area")


def test_pins_and_allocations_of_one_text() -> None:
    """An allocation finds what the lines before it pinned, and not what those after it pin."""
    simulation = play(cma_retries=0)
    simulation.do("pin task=quiet pages=1\nalloc area=area pages=4096\nfree task=quiet\nalloc area=area pages=4096")
    assert counted(simulation) == {"allocs_ok": 1, "allocs_failed": 1, "cma_pages_now": 4096}
    simulation.do("release area=area\nalloc area=area pages=4096\npin task=quiet pages=1")
    assert counted(simulation) == {"allocs_ok": 2, "allocs_failed": 1, "cma_pages_now": 4096}


def test_the_stack_of_an_alloc_is_in_its_records() -> None:
    """The frames of the scenario stand outside of cma_alloc; those of a live allocation of an area are debugfs'."""
    simulation = play(holder("8h"), alloc("a", ONCE, pages=4096, start="1s", retries=0), kernel="android14-6.1")
    simulation.advance("1s")
    assert [record.kind for record in simulation.records()] == ["DETECT"]
    (record,) = simulation.records()
    assert [frame.partition("+")[0] for frame in record.stack] == [
        "test_pages_isolated",
        "alloc_contig_range",
        "__cma_alloc",
        "who",
    ]
    simulation.do("alloc area=area pages=4096")
    assert any("cma_alloc_write+" in frame for frame in next(simulation.records()).stack)


REFUSED = {
    "alloc area=area": "alloc has no pages: wanted pages=..., such as pages=64",
    "alloc area=area pages=0": "pages = '0' must be a number from 1 to 1073741824",
    "alloc area=are pages=1": "area = 'are' must be one of 'area'; did you mean 'area'?",
    "alloc name=b": "name = 'b' must be one of 'a'",
    "alloc area=area name=a": "alloc has area=... and name=...: wanted area=..., one of 'area'; or name=..., one of "
    "'a'",
    "alloc pages=1": "alloc has no area: wanted area=..., one of 'area'; or name=..., one of 'a'",
    "alloc area=area pages=1 hold=1": "hold = '1' must be a number and a unit (us, ms, s, min, h), such as '300ms'",
    "release area=area pages=1": "release of an allocation has pages=...: cma_release gives back all of its pages",
    "release name=a by=put_page": "release of an allocation has by=...: cma_release gives back all of its pages",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text: str) -> None:
    """A wrong action is refused in one line that says what was wanted."""
    simulation = play(alloc("a", 'repeat = 1, every = "1s"', start="8000h"))
    with pytest.raises(PinnerfsError) as refused:
        simulation.do(text)
    assert str(refused.value) == f"line 1: {REFUSED[text]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pages": "1"}, "pages = '1': wanted a whole number from -2147483648 to 2147483647"),
        ({"pages": True}, "pages = True: wanted a whole number from -2147483648 to 2147483647"),
        ({"pages": 1.5}, "pages = 1.5: wanted a whole number from -2147483648 to 2147483647"),
        ({"align": -1}, "align = -1: wanted a whole number from 0 to 18"),
        ({"align": 19}, "align = 19: wanted a whole number from 0 to 18"),
        ({"retries": -1}, "retries = -1: wanted a whole number from 0 to 1000"),
        ({"retries": 1001}, "retries = 1001: wanted a whole number from 0 to 1000"),
        ({"area": "are"}, "no CMA area 'are': the scenario has area"),
    ],
)
def test_wrong_arguments_of_an_allocation(arguments: dict[str, object], message: str) -> None:
    """They are refused in words, and nothing is counted."""
    simulation = play()
    with pytest.raises(PinnerfsError) as refused:
        simulation.start_alloc(**{"area": "area", "pages": 1} | arguments)  # type: ignore[arg-type]
    assert str(refused.value) == message
    assert counted(simulation) == {"allocs_ok": 0, "allocs_failed": 0, "cma_pages_now": 0}


def test_a_wrong_number_of_pages_to_free() -> None:
    """It is refused in words."""
    with pytest.raises(PinnerfsError, match=r"^pages = '1': wanted a whole number from "):
        play().free_kept("area", "1")  # type: ignore[arg-type]


def test_pages_are_released_once() -> None:
    """A second release is refused, as it would take the pages from their next owner."""
    simulation = play()
    one = simulation.start_alloc("area", 1000)
    simulation.release_alloc(one)
    other = simulation.start_alloc("area", 1000)
    assert (one.first_pfn, one.state, other.state) == (other.first_pfn, "released", "got")
    with pytest.raises(PinnerfsError, match="an allocation that is released: wanted one that is got"):
        simulation.release_alloc(one)
    assert simulation.areas["area"].used == 1000


def test_allocations_without_pages_are_not_released() -> None:
    """An allocation that failed or waits has no pages, and those of debugfs belong to its list."""
    simulation = play(holder("1s"), cma_retries=5)
    kept, failed = simulation.start_alloc("area", 10, kept=True), simulation.start_alloc("area", 5000)
    simulation.advance("1500ms")
    waiting = simulation.start_alloc("area", 4086)
    for allocation, state in ((kept, "kept for cma/NAME/free"), (failed, "failed"), (waiting, "waiting")):
        with pytest.raises(PinnerfsError, match=f"an allocation that is {state}: wanted one that is got"):
            simulation.release_alloc(allocation)
    simulation.advance("2s")
    assert counted(simulation) == {"allocs_ok": 2, "allocs_failed": 1, "cma_pages_now": 4096}
